/**
 * A client assertion as it arrives: what it says before anything is proved. RFC 7515 §7.1, strictly: one spelling, one
 * meaning. Pure.
 */
import { getAlgorithmProfile } from '#sdk/algorithms'
import { type JsonObject, parseJsonObject } from '#sdk/strict-json'
import { ASSERTION_ALGORITHMS, type AssertionAlgorithm, KID } from './public-jwk.ts'

export type AssertionForm = {
  algorithm: AssertionAlgorithm
  /** Undefined: whichever of the client's keys it is. */
  kid: string | undefined
  /** Nobody has signed it yet, as far as we know. */
  payload: JsonObject
}

const MAX_CHARACTERS = 16 * 1024
const COMPACT_JWS = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/

// RFC 10070 §4: client-authentication+jwt, which servers should not insist on; RFC 7519 §5.1: JWT, which many clients
// write. A JWT of another kind is none (RFC 8725 §3.11). The prefix may be left out (RFC 7515 §4.1.9).
const TYPE = /^(?:application\/)?(?:jwt|client-authentication\+jwt)$/i

// RFC 7515 §4.1.11: no extension is understood here, and `b64` (RFC 7797) changes what is signed. The others bring a key
// or say where one is: a client's keys are those that were registered.
const REFUSED_MEMBERS = ['crit', 'b64', 'jwk', 'jku', 'x5u', 'x5c'] as const

/** Undefined: it is no assertion of a form that could prove anything. */
export function parseAssertion(assertion: string): AssertionForm | undefined {
  if (assertion.length > MAX_CHARACTERS) return undefined
  const [, encodedHeader, encodedPayload, encodedSignature] = COMPACT_JWS.exec(assertion) ?? []
  const header = decodeObject(encodedHeader)
  if (!header || REFUSED_MEMBERS.some((name) => Object.hasOwn(header, name))) return undefined

  const { alg, typ, kid } = header
  // Exactly and without coercion: no `none`, no HMAC, no `["RS256"]`.
  const algorithm = ASSERTION_ALGORITHMS.find((each) => each === alg)
  if (!algorithm) return undefined
  if (typ !== undefined && !(typeof typ === 'string' && TYPE.test(typ))) return undefined
  if (kid !== undefined && !(typeof kid === 'string' && KID.test(kid))) return undefined

  // RFC 7518 §3.4: r and s side by side at full length, and no DER.
  const { signatureCharacters } = getAlgorithmProfile(algorithm)
  if (!decode(encodedSignature)) return undefined
  if (signatureCharacters !== undefined && encodedSignature?.length !== signatureCharacters) return undefined

  const payload = decodeObject(encodedPayload)
  return payload && { algorithm, kid, payload }
}

function decodeObject(encoded: string | undefined): JsonObject | undefined {
  const bytes = decode(encoded)
  return bytes && parseJsonObject(bytes)
}

/** RFC 4648 §3.5: in its one spelling; decoders let others pass. */
function decode(encoded: string | undefined): Uint8Array | undefined {
  if (encoded === undefined) return undefined
  const bytes = Buffer.from(encoded, 'base64url')
  return bytes.toString('base64url') === encoded ? bytes : undefined
}
