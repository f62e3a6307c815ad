/** An example for each schema of the OpenAPI document: always the same, and valid by it (which a test checks). */
import type { JsonSchema } from './json-schema.ts'

/** What members with these names hold, where nobody gave an example: a value, or each item of a list. */
const NAMED: Readonly<Record<string, unknown>> = {
  status: 'active',
  scopes: 'transactions:read',
  audience: 'https://api.example.com',
  max_expiry_seconds: 3600,
  rate_limit_per_minute: 60,
  allowed_cidrs: '203.0.113.0/24',
  allowed_origins: 'https://app.example.com',
  client_ip: '203.0.113.7',
  created_by: 'cli_01kb2d3v7fe8ntqr5x9w0c4m6h',
  requested_by: 'cli_01kb2d3v7fe8ntqr5x9w0c4m6h',
  approved_by: 'cli_01kb2d3v7fe8ntqr5x9w0c4m6h',
  kid: 'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs',
  request_id: '5f0c3a52-9d1e-4c0b-8a53-7f6f2f6f1a10',
  action: 'client.approve',
  target_id: 'cli_01kb2d3v7fe8ntqr5x9w0c4m6h',
  hash: '5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9',
  reason: 'unspecified',
  public_jwk: {
    kty: 'EC',
    crv: 'P-256',
    x: 'MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4',
    y: '4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM',
  },
}
/** Else, the first that its pattern and its length allow. */
const TEXTS = ['Acme', 'transactions:read', 'https://app.example.com', '203.0.113.0/24', '203.0.113.7']
const MOMENT = '2026-11-22T09:30:00.000Z'
const LATER = '2027-11-22T09:30:00.000Z'
/** Members that say when something ends; and those of what has not happened to whatever is well. */
const ENDS = /^(expires|retires|removes)_at$/
const UNHAPPENED = /^(tokens_)?(revoked|revocation)_|^replace[ds](_by)?$|^(suspended|paused)_/

/** What `schema` says first: its example, its only value, its default; else something made of its parts. */
export function exampleOf(
  schema: JsonSchema,
  components: Readonly<Record<string, JsonSchema>>,
  name = '',
): unknown {
  const { $ref, examples, const: only, default: usual, enum: values, anyOf, oneOf, allOf } = schema
  if ($ref !== undefined) return exampleOf(components[$ref.split('/').at(-1) ?? ''] ?? {}, components, name)
  if (UNHAPPENED.test(name) && Array.isArray(schema.type) && schema.type.includes('null')) return null
  if (examples) return examples[0]
  if (only !== undefined) return only
  if (usual !== undefined) return usual
  if (values) return values.includes(NAMED[name]) ? NAMED[name] : values[0]
  const [first] = anyOf ?? oneOf ?? []
  if (first) return exampleOf(first, components, name)
  if (allOf && schema.type === undefined)
    return Object.assign({}, ...allOf.map((part) => exampleOf(part, components)))
  const type = typeof schema.type === 'string' ? schema.type : schema.type?.[0]
  switch (type) {
    case 'object':
      if (typeof NAMED[name] === 'object') return NAMED[name]
      return Object.fromEntries(
        Object.entries(schema.properties ?? {}).map(([member, of]) => [
          member,
          exampleOf(of, components, member),
        ]),
      )
    case 'array':
      return schema.items ? [exampleOf(schema.items, components, name)] : []
    case 'integer':
    case 'number':
      return numberOf(schema, NAMED[name])
    case 'boolean':
      return false
    case 'string':
      return textOf(schema, name)
    default:
      return null
  }
}

function textOf(
  { format, pattern, minLength = 0, maxLength = Number.POSITIVE_INFINITY }: JsonSchema,
  name: string,
): string {
  if (format === 'date-time') return ENDS.test(name) ? LATER : MOMENT
  const rule = pattern === undefined ? undefined : new RegExp(pattern, 'u')
  const fits = (text: string) =>
    text.length >= minLength && text.length <= maxLength && (rule?.test(text) ?? true)
  return [String(NAMED[name] ?? 'Acme'), ...TEXTS].find(fits) ?? 'string'
}

function numberOf({ minimum = 1, maximum = Number.POSITIVE_INFINITY }: JsonSchema, named: unknown): number {
  return typeof named === 'number' && named >= minimum && named <= maximum ? named : minimum
}
