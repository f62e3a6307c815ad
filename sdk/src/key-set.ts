import { type CryptoKey, importJWK, type JWK } from 'jose'
import { getAlgorithmProfile, isVerificationAlgorithm, type VerificationAlgorithm } from './algorithms.ts'
import { isJsonObject, type JsonObject } from './strict-json.ts'

/** A JWK set (RFC 7517 §5). Its entries are judged one by one; those that cannot be used are skipped. */
export type JwkSet = { readonly keys: readonly unknown[] }

export type VerificationKey = { readonly algorithm: VerificationAlgorithm; readonly publicKey: CryptoKey }

/** Usable keys by `kid`. A Map: `kid` is data chosen by whoever sends the token, never a property name. */
export type KeySet = ReadonlyMap<string, VerificationKey>

type Candidate = { readonly kid: string; readonly algorithm: VerificationAlgorithm; readonly jwk: JWK }

// RFC 7517 §9.2, RFC 7518 §6: what a private or symmetric key has. An entry with any of them is not a public
// key, whatever else it says, and whoever published it has lost it.
const SECRET_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv'] as const

export function isJwkSet(value: unknown): value is JwkSet {
  return isJsonObject(value) && Array.isArray(value.keys)
}

/**
 * The entries of a set that may verify with one of `algorithms`, reduced to their public members.
 * RFC 7517 §5: entries that are not understood are skipped, so that a new kind of key harms nobody.
 */
export function selectKeys(set: JwkSet, algorithms: ReadonlySet<VerificationAlgorithm>): Candidate[] {
  const entries = set.keys.filter(isJsonObject)
  const occurrences = new Map<unknown, number>()
  for (const { kid } of entries) occurrences.set(kid, (occurrences.get(kid) ?? 0) + 1)
  return entries.flatMap((entry) => {
    // Two keys under one name: either could be the impostor.
    if (occurrences.get(entry.kid) !== 1) return []
    return findCandidate(entry, algorithms) ?? []
  })
}

/** Imports each candidate once. One that the runtime cannot import is skipped like any other unusable entry. */
export async function importKeys(candidates: readonly Candidate[]): Promise<KeySet> {
  const imported = await Promise.all(
    candidates.map(async ({ kid, algorithm, jwk }): Promise<[string, VerificationKey][]> => {
      try {
        return [[kid, { algorithm, publicKey: (await importJWK(jwk, algorithm)) as CryptoKey }]]
      } catch {
        return []
      }
    }),
  )
  return new Map(imported.flat())
}

function findCandidate(
  entry: JsonObject,
  algorithms: ReadonlySet<VerificationAlgorithm>,
): Candidate | undefined {
  const { kid, alg, use, key_ops: operations } = entry
  if (typeof kid !== 'string' || kid === '') return undefined
  // draft-ietf-oauth-rfc8725bis §3.1: one key, one algorithm. A key that names none would take the token's word.
  if (!isVerificationAlgorithm(alg) || !algorithms.has(alg)) return undefined
  const profile = getAlgorithmProfile(alg)
  if (entry.kty !== profile.kty || entry.crv !== profile.crv) return undefined
  // RFC 7517 §4.2, §4.3
  if (use !== undefined && use !== 'sig') return undefined
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify')))
    return undefined
  if (SECRET_MEMBERS.some((name) => Object.hasOwn(entry, name))) return undefined
  // WebCrypto would turn a number into a string of digits and import that.
  if (!profile.members.every((name) => typeof entry[name] === 'string')) return undefined
  const jwk = Object.fromEntries(profile.members.map((name) => [name, entry[name]])) as JWK
  return { kid, algorithm: alg, jwk }
}
