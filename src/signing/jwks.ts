/** The published key set (RFC 7517 §5), as bytes with their strong ETag. */
import { hash } from 'node:crypto'

export type PublicJwk = Record<string, string>
export type Jwks = { set: { keys: readonly PublicJwk[] }; body: string; etag: string }

/** What a JWK may show, in the order in which it is shown; the private members are whatever else it has. */
const PUBLIC_MEMBERS = ['kty', 'crv', 'n', 'e', 'x', 'y'] as const

export function publicMembers(jwk: object): Record<string, string> {
  const shown = PUBLIC_MEMBERS.flatMap((name) => (name in jwk ? [[name, Reflect.get(jwk, name)]] : []))
  return Object.fromEntries(shown)
}

/** The same keys make the same bytes: members and keys stand in a fixed order, and no timestamp is among them. */
export function buildJwks(keys: readonly { kid: string; alg: string; publicJwk: object }[]): Jwks {
  const sorted = [...keys].sort((a, b) => (a.kid < b.kid ? -1 : 1))
  const set = {
    // What is stored is filtered once more: a private member must not get out by any mistake.
    keys: sorted.map(({ kid, alg, publicJwk }) => ({ ...publicMembers(publicJwk), kid, alg, use: 'sig' })),
  }
  const body = JSON.stringify(set)
  return { set, body, etag: `"${hash('sha256', body, 'base64url')}"` }
}
