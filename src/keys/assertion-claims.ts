/** What a client assertion must say (RFC 7523 §3; of its audience, RFC 10070 §4). Pure. */
import type { JsonObject } from '#sdk/strict-json'
import { idPattern } from '../ids.ts'

/** The longest that an assertion may still live; each is remembered until then. */
const MAX_LIFE_SECONDS = 300
/** What clocks may differ: FAPI 2.0 (§5.3.2.1) has servers accept an `iat` or `nbf` up to so far in the future. */
const TOLERANCE_SECONDS = 10

export type AssertionClaims = {
  clientId: string
  jti: string
  expiresAt: Date
  /** What it names as its audience. */
  audience: 'issuer' | 'token_endpoint'
}

type AssertionPolicy = {
  issuer: string
  /** Undefined: it is no audience. */
  tokenEndpoint: string | undefined
  /** The body's `client_id`, where there is one. */
  clientId: string | undefined
  /** Of Unix time, with fractions. */
  nowSeconds: number
}

const CLIENT_ID = idPattern('client')
/** It is stored: what PostgreSQL's text cannot hold as it is has no place in it. */
const JTI = /^[^\p{Cc}\p{Cs}]{1,255}$/u

/** Undefined: it breaks a rule, and which is nobody's business but its sender's. */
export function evaluateAssertion(payload: JsonObject, policy: AssertionPolicy): AssertionClaims | undefined {
  const { iss, sub, jti, exp, nbf, iat } = payload
  // RFC 7523 §3: `sub` is the client; §2.2: so is `client_id`, which need not be there. The client is its own issuer.
  if (typeof sub !== 'string' || !CLIENT_ID.test(sub) || iss !== sub) return undefined
  if (policy.clientId !== undefined && policy.clientId !== sub) return undefined

  const audience = findAudience(payload.aud, policy)
  if (!audience) return undefined

  if (typeof jti !== 'string' || !JTI.test(jti)) return undefined

  const { nowSeconds } = policy
  const latest = nowSeconds + TOLERANCE_SECONDS
  // Each comparison states what is valid, so that a clock that answers NaN validates nothing.
  if (!isNumericDate(exp) || !(nowSeconds < exp + TOLERANCE_SECONDS && exp <= latest + MAX_LIFE_SECONDS))
    return undefined
  for (const begin of [nbf, iat])
    if (begin !== undefined && !(isNumericDate(begin) && begin <= latest)) return undefined

  return { clientId: sub, jti, expiresAt: new Date(Math.ceil(exp * 1000)), audience }
}

// RFC 10070 §4: the issuer, as the only value; else a server that the client also talks to could use it here.
function findAudience(aud: unknown, policy: AssertionPolicy): AssertionClaims['audience'] | undefined {
  const audience: unknown = Array.isArray(aud) && aud.length === 1 ? aud[0] : aud
  if (audience === policy.issuer) return 'issuer'
  return typeof audience === 'string' && audience === policy.tokenEndpoint ? 'token_endpoint' : undefined
}

// RFC 7519 §2: seconds, possibly fractional. From 2^53 on a double no longer holds every second.
function isNumericDate(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value < 2 ** 53
}
