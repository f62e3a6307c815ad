/** Forms (`application/x-www-form-urlencoded`) by the schemas of the OpenAPI document, for OAuth's endpoints. */
import fc from 'fast-check'
import type { JsonSchema } from '../../../src/http/json-schema.ts'
import { type createValues, ODD_TEXT, picked } from './values.ts'

export const FORM = 'application/x-www-form-urlencoded'

/** Parameters in their order; a name may stand several times. */
export type FormPairs = [name: string, value: unknown][]

/** With these the client authenticates: the world puts them in, as the plan says. */
const AUTHENTICATION = ['client_id', 'client_secret', 'client_assertion', 'client_assertion_type']

/** What parameters with these names are good for; else their schema decides alone. */
const NAMED: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  token: picked('jwt'),
  subject_token: picked('jwt'),
  actor_token: picked('jwt'),
  scope: fc
    .subarray(['transactions:read', 'person:write', 'accounts:read', 'signet:keys:read'])
    .map((scopes) => scopes.join(' ')),
  resource: fc.constantFrom('https://api.example.com', 'https://api.example.com/#part', 'api'),
  audience: fc.constantFrom('https://api.example.com', 'https://other.example.com'),
  signet_expires_in_seconds: fc.oneof(
    fc.integer({ min: 300, max: 86_400 }),
    fc.constantFrom('0', '299', '86401', '1e3', '-300', '300.5', ' 300', '９９９'),
  ),
}

export const BROKEN_FORMS = fc.constantFrom(
  '',
  '&&&',
  '=',
  'grant_type',
  'grant_type=%zz',
  'grant_type=client_credentials&x=%ff',
  'grant_type=client_credentials&grant_type=client_credentials',
  'token=a&token=b',
  'scope=a&scope=b&grant_type=client_credentials',
  'grant_type=client_credentials&scope=%00',
  'grant_type=client_credentials&scope=%22%5C',
  'grant_type=client_credentials;scope=a',
  '{"grant_type":"client_credentials"}',
  `grant_type=client_credentials&scope=${'a'.repeat(17_000)}`,
  `${'a=&'.repeat(4000)}grant_type=client_credentials`,
  '__proto__=a&constructor=b&grant_type=client_credentials',
)

/** Mostly what the schema allows; sometimes a parameter too many, twice, odd, or none of those that it takes. */
export function formsOf(
  schema: JsonSchema,
  { valid }: ReturnType<typeof createValues>,
): fc.Arbitrary<FormPairs> {
  const { properties = {}, required = [] } = schema
  const names = Object.keys(properties).filter((name) => !AUTHENTICATION.includes(name))
  // What may stand several times is one text or a list of them.
  const model = Object.fromEntries(
    names.map((name) => {
      const member = properties[name] ?? {}
      const value = NAMED[name] ?? valid(member, name)
      return [name, member.anyOf ? fc.oneof(value, fc.array(value, { minLength: 1, maxLength: 2 })) : value]
    }),
  )
  const forms = fc
    .record(model, {
      requiredKeys: required.filter((name) => names.includes(name)),
      noNullPrototype: true,
    })
    .map((record) =>
      Object.entries(record).flatMap(
        ([name, value]): FormPairs => [value].flat().map((each): [string, unknown] => [name, each]),
      ),
    )
  const nearly = fc
    .tuple(forms, fc.constantFrom(...names, 'unknown_parameter'), ODD_TEXT)
    .map(([pairs, name, odd]): FormPairs => [...pairs.filter(([each]) => each !== name), [name, odd]])
  const twice = fc
    .tuple(forms, fc.nat(20))
    .map(([pairs, n]): FormPairs => [...pairs, ...pairs.slice(n % (pairs.length || 1)).slice(0, 1)])
  return fc.oneof(
    { weight: 20, arbitrary: forms },
    { weight: 3, arbitrary: nearly },
    { weight: 1, arbitrary: twice },
    { weight: 1, arbitrary: fc.constant([] as FormPairs) },
  )
}
