/**
 * Which public keys a client may register for its assertions (RFC 7517, RFC 7518 §6): asymmetric ones, each for one
 * algorithm. Pure.
 */
import { createPublicKey, hash, type KeyObject } from 'node:crypto'
import type { PublicJwk } from '../database/schema.ts'

/** RFC 7523 §5 has everybody know RS256. */
export const ASSERTION_ALGORITHMS = ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA', 'Ed25519'] as const
export type AssertionAlgorithm = (typeof ASSERTION_ALGORITHMS)[number]

type Kind = {
  /** What makes it a key, in the order of RFC 7638 §3.2. */
  members: readonly string[]
  /** What it can be for; the first, where the client does not say. */
  algorithms: readonly AssertionAlgorithm[]
}

const elliptic = (algorithm: AssertionAlgorithm): Kind => ({
  members: ['crv', 'kty', 'x', 'y'],
  algorithms: [algorithm],
})
const KINDS = new Map<string, Kind>([
  ['EC P-256', elliptic('ES256')],
  ['EC P-384', elliptic('ES384')],
  ['RSA', { members: ['e', 'kty', 'n'], algorithms: ['RS256', 'PS256'] }],
  // RFC 9864 §2.2, §4.4: `EdDSA` says the same, and is deprecated. A key is for one of the two spellings, as for one
  // algorithm (draft-ietf-oauth-rfc8725bis §3.1).
  ['OKP Ed25519', { members: ['crv', 'kty', 'x'], algorithms: ['Ed25519', 'EdDSA'] }],
])

/** RFC 7518 §6.2.2, §6.3.2, §6.4.1; `priv` is what keys of kind AKP have. */
const SECRET_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv'] as const

/** RFC 7518 §3.3; NIST SP 800-57 advises 3072. Past the maximum, verifying would cost more than it should. */
const RSA_BITS = { min: 2048, max: 8192 }
const MAX_EXPONENT = 2n ** 32n

export const KID = /^[\x21-\x7e]{1,128}$/

type JwkVerdict =
  | { ok: true; jwk: PublicJwk }
  /** `rule` goes on from the member's name: `must be …`. Without a member, it is of the key as a whole. */
  | { ok: false; member: string | undefined; rule: string }

/** What of the JWK is kept, or why it may not be registered. Members that are none of ours are ignored (RFC 7517 §4). */
export function evaluateJwk(entry: Readonly<Record<string, unknown>>): JwkVerdict {
  const secret = SECRET_MEMBERS.find((name) => Object.hasOwn(entry, name))
  if (secret !== undefined)
    return broken(
      secret,
      'must not be there: the key must be public, and this belongs to a private or symmetric one, which is for nobody else to see',
    )

  const { kty, crv, use, key_ops: operations } = entry
  const kind = KINDS.get(kty === 'RSA' ? 'RSA' : `${String(kty)} ${String(crv)}`)
  if (!kind) {
    return kty === 'EC' || kty === 'OKP'
      ? broken('crv', kty === 'EC' ? 'must be P-256 or P-384' : 'must be Ed25519')
      : broken('kty', 'must be EC, RSA or OKP')
  }
  // RFC 7517 §4.2, §4.3.
  if (use !== undefined && use !== 'sig') return broken('use', 'must be sig or absent')
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify')))
    return broken('key_ops', 'must contain verify or be absent')

  const { alg = kind.algorithms[0], kid } = entry
  if (typeof alg !== 'string' || !kind.algorithms.includes(alg as AssertionAlgorithm))
    return broken('alg', `must be ${kind.algorithms.join(' or ')} for such a key, or absent`)
  if (kid !== undefined && !(typeof kid === 'string' && KID.test(kid)))
    return broken('kid', 'must be 1 to 128 visible ASCII characters, or absent')

  const members: Record<string, string> = {}
  for (const name of kind.members) {
    const value = entry[name]
    if (typeof value !== 'string') return broken(name, 'must be a string')
    members[name] = value
  }
  const fault = findFault(members)
  if (fault) return fault
  return { ok: true, jwk: { ...members, kty: String(kty), alg, kid: kid ?? thumbprint(members) } }
}

/** The members that make the key what it is, whatever it is called and used for. */
export function materialOf({ kid: _kid, alg: _alg, ...material }: PublicJwk): Record<string, string> {
  return material
}

/** RFC 7638 §3, with SHA-256. */
export function thumbprint(material: Readonly<Record<string, string>>): string {
  const sorted = Object.fromEntries(Object.entries(material).sort(([a], [b]) => (a < b ? -1 : 1)))
  return hash('sha256', JSON.stringify(sorted), 'base64url')
}

function findFault(members: Record<string, string>): (JwkVerdict & { ok: false }) | undefined {
  let key: KeyObject
  try {
    // Of an elliptic curve, this finds what is not on it.
    key = createPublicKey({ key: members, format: 'jwk' })
  } catch {
    return broken(undefined, 'must be a key: its members do not make one')
  }
  // Canonical base64url, of the full length (RFC 7518 §6.2.1.2), without zeros before it (§2, Base64urlUInt): else one
  // key would have many spellings, and so many thumbprints.
  const spelled: Record<string, unknown> = { ...key.export({ format: 'jwk' }) }
  const misspelled = Object.keys(members).find((name) => spelled[name] !== members[name])
  if (misspelled !== undefined) return broken(misspelled, 'must be base64url, in the length of RFC 7518 §6')

  if (key.asymmetricKeyType !== 'rsa') return undefined
  const { modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {}
  if (modulusLength < RSA_BITS.min || modulusLength > RSA_BITS.max)
    return broken('n', `must have ${RSA_BITS.min} to ${RSA_BITS.max} bits`)
  if ((Buffer.from(members.n ?? '', 'base64url').at(-1) ?? 0) % 2 === 0) return broken('n', 'must be odd')
  if (publicExponent < 3n || publicExponent > MAX_EXPONENT || publicExponent % 2n === 0n)
    return broken('e', 'must be odd, at least 3 and less than 2^32')
  return undefined
}

const broken = (member: string | undefined, rule: string) => ({ ok: false as const, member, rule })
