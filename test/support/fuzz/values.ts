/** Values by the schemas of the OpenAPI document: what they allow, what they nearly allow, and what is just odd. */
import fc from 'fast-check'
import type { JsonSchema } from '../../../src/http/json-schema.ts'
import type { OpenApiDocument } from '../../../src/http/openapi.ts'
import { PUBLIC_JWKS } from './clients.ts'

/** Stands for something that an answer has told of: the n-th of its kind. */
export type Pick = { $pick: Kind; n: number }
export type Kind = 'org' | 'cli' | 'key' | 'dlg' | 'tok' | 'evt' | 'kid' | 'cursor' | 'jwt'

/** What is a picked id, a made-up one, or another kind's. */
export const picked = (kind: Kind): fc.Arbitrary<Pick> => fc.nat(10_000).map((n) => ({ $pick: kind, n }))
const BASE32 = '0123456789abcdefghjkmnpqrstvwxyz'
const madeUpId = (prefix: string) =>
  fc
    .string({ unit: fc.constantFrom(...BASE32), minLength: 25, maxLength: 25 })
    .map((rest) => `${prefix}_0${rest}`)

const BUSINESS = ['transactions:read', 'person:write', 'accounts:read']
const MANAGEMENT = ['signet:keys:read', 'signet:clients:read', 'signet:usage:read']
const scopes = fc.oneof(
  { weight: 8, arbitrary: fc.subarray(BUSINESS, { minLength: 1 }) },
  { weight: 2, arbitrary: fc.subarray(MANAGEMENT, { minLength: 1 }) },
  { weight: 1, arbitrary: fc.subarray([...BUSINESS, ...MANAGEMENT]) },
)

/** What members with these names are good for; else their schema decides alone. */
const NAMED: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  scopes,
  allowed_cidrs: fc.oneof(
    { weight: 6, arbitrary: fc.constant(['127.0.0.0/8', '::1/128']) },
    { weight: 2, arbitrary: fc.subarray(['0.0.0.0/0', '::/0', '10.0.0.0/8', '192.0.2.1/32']) },
    { weight: 1, arbitrary: fc.subarray(['127.0.0.1', '10.0.0.1/8', 'fe80::1%eth0/64']) },
  ),
  allowed_origins: fc.subarray([
    'https://app.example.com',
    'https://other.example.com',
    'http://localhost:3000',
  ]),
  audience: fc.constantFrom('https://api.example.com', 'https://other.example.com'),
  kid: picked('kid'),
  keys: fc.subarray(PUBLIC_JWKS, { minLength: 1, maxLength: 3 }),
  cursor: picked('cursor'),
}

export const ODD_TEXT = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.constantFrom(
    '',
    ' ',
    '\u0000',
    'a\u0000b',
    '\ud800',
    '\u202e',
    '💥'.repeat(40),
    'x'.repeat(300),
    "' or 1=1--",
    '%00',
    '../..',
    '__proto__',
  ),
)
export const ODD_VALUE: fc.Arbitrary<unknown> = fc.oneof(
  ODD_TEXT,
  fc.constantFrom<unknown>(
    null,
    true,
    [],
    {},
    0,
    -1,
    0.5,
    1e21,
    -0,
    2 ** 31,
    2 ** 53,
    Number.MAX_VALUE,
    [[]],
    [null],
    { a: { b: {} } },
  ),
  fc.jsonValue({ maxDepth: 2 }),
  picked('org'),
)
const MOMENTS = fc.oneof(
  fc.integer({ min: -3600, max: 40 * 86_400 }).map((seconds) => ({ $moment: seconds })),
  fc.constantFrom(
    '0000-01-01T00:00:00Z',
    '9999-12-31T23:59:59Z',
    '2026-02-30T00:00:00Z',
    '2026-01-01T00:00:00+23:59',
    '2016-12-31T23:59:60Z',
  ),
)

const ID = /^\^(org|cli|key|dlg|tok|evt)_/

export const BROKEN_TEXTS = fc.constantFrom(
  '',
  '{',
  'null',
  '[]',
  '"text"',
  '1e400',
  '\ufeff{}',
  '{"name":"a","name":"b"}',
  `{"name":"${'a'.repeat(17_000)}"}`,
  '['.repeat(2000) + ']'.repeat(2000),
  `${'{"a":'.repeat(40)}1${'}'.repeat(40)}`,
  '{"name":"\\ud800"}',
  '{"__proto__":{"name":"a"}}',
)

export function createValues(document: OpenApiDocument) {
  /** A value that the schema allows, as far as it says. */
  function valid(schema: JsonSchema, name = ''): fc.Arbitrary<unknown> {
    const { $ref, enum: values, const: only, anyOf, oneOf, type } = schema
    if ($ref) return valid(document.components.schemas[$ref.split('/').at(-1) ?? ''] ?? {}, name)
    if (values) return fc.constantFrom(...values)
    if (only !== undefined) return fc.constant(only)
    const options = anyOf ?? oneOf
    if (options) return fc.oneof(...options.map((option) => valid(option, name)))
    const [first = 'string', ...others] = [type ?? []].flat()
    const named = first === 'array' || first === 'string' ? NAMED[name] : undefined
    const value = named ?? ofType(first, schema, name)
    return others.includes('null') ? fc.option(value, { freq: 6 }) : value
  }

  function ofType(type: string, schema: JsonSchema, name: string): fc.Arbitrary<unknown> {
    switch (type) {
      case 'object':
        return object(schema)
      case 'array':
        return fc.array(valid(schema.items ?? {}, name), { minLength: schema.minItems ?? 0, maxLength: 4 })
      case 'integer':
      case 'number':
        return fc.integer({ min: schema.minimum ?? -10, max: schema.maximum ?? 1_000_000 })
      case 'boolean':
        return fc.boolean()
      default:
        return text(schema, name)
    }
  }

  function text(
    { pattern, format, minLength = 0, maxLength = 80 }: JsonSchema,
    name: string,
  ): fc.Arbitrary<unknown> {
    const kind = ID.exec(pattern ?? '')?.[1]
    if (kind)
      return fc.oneof(
        { weight: 9, arbitrary: picked(kind as Kind) },
        { weight: 1, arbitrary: madeUpId(kind) },
      )
    if (name === 'organization_id') return picked('org')
    if (format === 'date-time') return MOMENTS
    if (pattern !== undefined && !pattern.includes('\\p'))
      return fc.stringMatching(new RegExp(pattern, 'u')).map((made) => made.slice(0, maxLength))
    return fc.string({ unit: 'grapheme', minLength, maxLength: Math.min(maxLength, 80) })
  }

  function object({ properties = {}, required = [] }: JsonSchema): fc.Arbitrary<unknown> {
    const model = Object.fromEntries(
      Object.entries(properties).map(([name, member]) => [name, valid(member, name)]),
    )
    return fc.record(model, { requiredKeys: [...required], noNullPrototype: true })
  }

  /** Nearly what the schema allows: one member missing, odd, or too many. */
  const nearly = (schema: JsonSchema): fc.Arbitrary<unknown> => {
    const names = Object.keys(schema.properties ?? {})
    return fc
      .tuple(valid(schema), fc.constantFrom(...names, 'unknown_member'), ODD_VALUE, fc.boolean())
      .map(([value, name, odd, isRemoved]) => {
        if (typeof value !== 'object' || value === null) return odd
        const copy: Record<string, unknown> = { ...value }
        if (isRemoved && name in copy) delete copy[name]
        else copy[name] = odd
        return copy
      })
  }

  return { valid, nearly }
}
