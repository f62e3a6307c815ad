import { base64url } from 'jose'
import { getAlgorithmProfile, type VerificationAlgorithm } from './algorithms.ts'
import { type JsonObject, parseJsonObject } from './strict-json.ts'

const MAX_KID_CHARACTERS = 256

// RFC 7515 §7.1, §2: three segments of base64url without padding, white space or line breaks. A JWE has five.
const COMPACT_JWS = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/

/** What is told apart by `typ`, so that none can pass for another (RFC 8725 §3.11). */
export type JwtKind = { readonly type: RegExp; readonly maxCharacters: number }

// RFC 9068 §4: `at+jwt`, or with the `application/` prefix that RFC 7515 §4.1.9 lets senders omit; the RFC's
// own example writes `at+JWT`, and media types are case-insensitive.
export const ACCESS_TOKEN: JwtKind = { type: /^(?:application\/)?at\+jwt$/i, maxCharacters: 16 * 1024 }

// What lists all that is revoked may be long: some 700,000 tokens.
export const REVOCATION_FEED: JwtKind = {
  type: /^(?:application\/)?revocations\+jwt$/i,
  maxCharacters: 32 * 1024 * 1024,
}

// RFC 7515 §4.1.11: an extension marked critical is refused by whoever does not understand it, and none is
// understood here; `b64` (RFC 7797) changes what is signed. The others name a key inside the token, and the key
// comes from the issuer's JWKS alone (draft-ietf-oauth-rfc8725bis §3.8, §3.10).
const REFUSED_MEMBERS = ['crit', 'b64', 'jwk', 'jku', 'x5u', 'x5c'] as const

export type OpenedJws =
  | {
      readonly ok: true
      readonly header: JsonObject
      /** As it is in the JWS. */
      readonly payload: string
      readonly signature: string
    }
  | { readonly ok: false; readonly reason: 'malformed' | 'header_not_allowed' }

/** Judges the form of any compact JWS, and that its header brings no key and no extension. Only the header is decoded. */
export function openCompactJws(jws: unknown, maxCharacters: number): OpenedJws {
  const malformed = { ok: false, reason: 'malformed' } as const
  if (typeof jws !== 'string' || jws.length > maxCharacters) return malformed
  const segments = COMPACT_JWS.exec(jws)
  if (!segments) return malformed
  const [, encodedHeader = '', payload = '', signature = ''] = segments
  if (![encodedHeader, payload, signature].every(isCanonicalBase64url)) return malformed

  const header = parseJsonObject(base64url.decode(encodedHeader))
  if (!header) return malformed
  if (REFUSED_MEMBERS.some((name) => Object.hasOwn(header, name))) {
    return { ok: false, reason: 'header_not_allowed' }
  }
  return { ok: true, header, payload, signature }
}

/** RFC 7518 §3.4: r and s side by side at full length; this is what refuses DER. */
export function hasLengthFor(algorithm: VerificationAlgorithm, signature: string): boolean {
  const { signatureCharacters } = getAlgorithmProfile(algorithm)
  return signatureCharacters === undefined || signature.length === signatureCharacters
}

export type CompactJws =
  | { readonly ok: true; readonly algorithm: VerificationAlgorithm; readonly kid: string }
  | { readonly ok: false; readonly reason: 'malformed' | 'header_not_allowed' }
  | { readonly ok: false; readonly reason: 'algorithm_not_allowed' | 'type_not_allowed' }

/**
 * Judges a token's form and header, before any key is looked up or anything but the header is decoded.
 * The payload stays encoded: nothing reads it until the signature over it has been verified.
 */
export function parseCompactJws(
  token: unknown,
  kind: JwtKind,
  algorithms: ReadonlySet<VerificationAlgorithm>,
): CompactJws {
  const malformed = { ok: false, reason: 'malformed' } as const
  const opened = openCompactJws(token, kind.maxCharacters)
  if (!opened.ok) return opened
  const { alg, typ, kid } = opened.header
  // Set.has compares exactly and without coercion: no `none`, no `es256`, no `["ES256"]`.
  if (!algorithms.has(alg as VerificationAlgorithm)) return { ok: false, reason: 'algorithm_not_allowed' }
  if (typeof typ !== 'string' || !kind.type.test(typ)) return { ok: false, reason: 'type_not_allowed' }
  if (typeof kid !== 'string' || kid === '' || kid.length > MAX_KID_CHARACTERS) return malformed

  const algorithm = alg as VerificationAlgorithm
  if (!hasLengthFor(algorithm, opened.signature)) return malformed
  return { ok: true, algorithm, kid }
}

/**
 * RFC 4648 §3.5: the bits of the last character that encode nothing must be zero. Decoders ignore them, so that
 * one token would otherwise have several spellings.
 */
function isCanonicalBase64url(segment: string): boolean {
  const last = segment.charAt(segment.length - 1)
  switch (segment.length % 4) {
    case 0:
      return true
    case 2:
      return 'AQgw'.includes(last)
    case 3:
      return 'AEIMQUYcgkosw048'.includes(last)
    default:
      return false
  }
}
