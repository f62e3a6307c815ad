/**
 * A client assertion as it arrives: what it says before anything is proved. As strict as of tokens: one spelling, one
 * meaning, no key and no extension in the header. Pure.
 */
import { hasLengthFor, openCompactJws } from '#sdk/compact-jws'
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

// RFC 10070 §4: client-authentication+jwt, which servers should not insist on; RFC 7519 §5.1: JWT, which many clients
// write. A JWT of another kind is none (RFC 8725 §3.11). The prefix may be left out (RFC 7515 §4.1.9).
const TYPE = /^(?:application\/)?(?:jwt|client-authentication\+jwt)$/i

/** Undefined: it is no assertion of a form that could prove anything. */
export function parseAssertion(assertion: string): AssertionForm | undefined {
  const opened = openCompactJws(assertion, MAX_CHARACTERS)
  if (!opened.ok) return undefined

  const { alg, typ, kid } = opened.header
  // Exactly and without coercion: no `none`, no HMAC, no `["RS256"]`.
  const algorithm = ASSERTION_ALGORITHMS.find((each) => each === alg)
  if (!algorithm) return undefined
  if (typ !== undefined && !(typeof typ === 'string' && TYPE.test(typ))) return undefined
  if (kid !== undefined && !(typeof kid === 'string' && KID.test(kid))) return undefined
  if (!hasLengthFor(algorithm, opened.signature)) return undefined

  const payload = parseJsonObject(Buffer.from(opened.payload, 'base64url'))
  return payload && { algorithm, kid, payload }
}
