import { isJsonObject, type JsonObject } from './strict-json.ts'

/**
 * The claims of a verified Signet access token (RFC 9068 §2.2 and Signet's own), deeply frozen. Other claims
 * the token carries are there too, unverified as to their type.
 */
export type AccessToken = {
  readonly iss: string
  /** The client; Signet puts the same id in `client_id`. */
  readonly sub: string
  /** As in the token: the one audience, or an array of exactly one. */
  readonly aud: string | readonly [string]
  /** Unix time in seconds, possibly fractional. */
  readonly iat: number
  /** Unix time in seconds, possibly fractional. */
  readonly exp: number
  /** Unix time in seconds, possibly fractional. */
  readonly nbf?: number
  readonly jti: string
  readonly client_id: string
  /** Granted scopes, separated by single spaces. */
  readonly scope: string
  readonly organization_id: string
  readonly environment: 'sandbox' | 'production'
  /** The master key that the token was minted with. */
  readonly key_id: string
  /** The partner that minted the token for `organization_id`; absent when the organization did so itself. */
  readonly partner_id?: string
  /** Who had the token for another one, by token exchange (RFC 8693 §4.1); inside it, who had that one so. */
  readonly act?: Actor
  /** The tokens that it was had for, the last first: it is revoked with any of them. */
  readonly subject_jtis?: readonly string[]
  readonly [claim: string]: unknown
}

export type Actor = { readonly iss: string; readonly sub: string; readonly act?: Actor }

export type ClaimsPolicy = {
  readonly issuer: string
  readonly audiences: ReadonlySet<string>
  readonly clockToleranceSeconds: number
}

export type Requirements = {
  readonly scopes: readonly string[]
  readonly organizationId: string | undefined
}

export type ClaimsVerdict =
  | { readonly ok: true; readonly claims: AccessToken }
  | { readonly ok: false; readonly reason: 'issuer_mismatch' | 'audience_mismatch' }
  | { readonly ok: false; readonly reason: 'expired' | 'not_yet_valid' | 'confirmation_unsupported' }
  | { readonly ok: false; readonly reason: 'claim_invalid'; readonly claim: string }

export type RequirementsVerdict =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: 'insufficient_scope' | 'organization_mismatch' }

const STRING_CLAIMS = [
  'sub',
  'jti',
  'client_id',
  'scope',
  'organization_id',
  'environment',
  'key_id',
] as const

// RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E ), separated by single spaces.
const SCOPE = /^[\x21\x23-\x5B\x5D-\x7E]+(?: [\x21\x23-\x5B\x5D-\x7E]+)*$/

/**
 * Judges the payload of a token whose signature has been verified (RFC 9068 §4).
 * A missing claim is refused, never defaulted.
 */
export function evaluateClaims(payload: JsonObject, policy: ClaimsPolicy, nowSeconds: number): ClaimsVerdict {
  const invalid = (claim: string) => ({ ok: false, reason: 'claim_invalid', claim }) as const
  // RFC 9068 §4: byte for byte; an array of issuers is no issuer.
  if (payload.iss !== policy.issuer) return { ok: false, reason: 'issuer_mismatch' }
  if (!isAcceptedAudience(payload.aud, policy.audiences)) return { ok: false, reason: 'audience_mismatch' }

  const { exp, iat, nbf } = payload
  const tolerance = policy.clockToleranceSeconds
  if (!isNumericDate(exp)) return invalid('exp')
  if (!isNumericDate(iat)) return invalid('iat')
  if (nbf !== undefined && !isNumericDate(nbf)) return invalid('nbf')
  // RFC 7519 §4.1.4: "on or after which" the token must not be accepted, so now === exp + tolerance is too late.
  // Each comparison states what is valid and is negated, so that a clock that answers NaN validates nothing.
  if (!(nowSeconds < exp + tolerance)) return { ok: false, reason: 'expired' }
  // RFC 7519 §4.1.5: valid from nbf on, nbf itself included. The same is asked of iat: a token from the future
  // was signed by a clock that is wrong.
  const latest = nowSeconds + tolerance
  if (!(iat <= latest && (nbf === undefined || nbf <= latest))) return { ok: false, reason: 'not_yet_valid' }

  for (const claim of STRING_CLAIMS) {
    if (!isNonEmptyString(payload[claim])) return invalid(claim)
  }
  if (!SCOPE.test(payload.scope as string)) return invalid('scope')
  if (payload.environment !== 'sandbox' && payload.environment !== 'production') return invalid('environment')
  if (payload.partner_id !== undefined && !isNonEmptyString(payload.partner_id)) return invalid('partner_id')
  if (payload.act !== undefined && !isActor(payload.act)) return invalid('act')
  if (payload.subject_jtis !== undefined && !isStrings(payload.subject_jtis)) return invalid('subject_jtis')

  // RFC 7800 §3.1 lets a recipient ignore what it does not understand of `cnf`. That would turn a token bound to
  // a key (RFC 9449 §7.2, RFC 8705 §3) into one that whoever stole it can use.
  if (Object.hasOwn(payload, 'cnf')) return { ok: false, reason: 'confirmation_unsupported' }
  return { ok: true, claims: deepFreeze(payload) as AccessToken }
}

/** What the caller demands beyond validity: every scope, exactly as written, and the organization. */
export function evaluateRequirements(claims: AccessToken, required: Requirements): RequirementsVerdict {
  if (required.organizationId !== undefined && claims.organization_id !== required.organizationId) {
    return { ok: false, reason: 'organization_mismatch' }
  }
  if (required.scopes.length > 0) {
    const granted = claims.scope.split(' ')
    if (!required.scopes.every((scope) => granted.includes(scope))) {
      return { ok: false, reason: 'insufficient_scope' }
    }
  }
  return { ok: true }
}

export function isScopeToken(value: unknown): value is string {
  return typeof value === 'string' && !value.includes(' ') && SCOPE.test(value)
}

// RFC 7519 §4.1.3 allows several audiences. A token for two services can be replayed by either at the other, and
// Signet never issues one, so exactly one is accepted: ours.
function isAcceptedAudience(aud: unknown, accepted: ReadonlySet<string>): boolean {
  const audience: unknown = Array.isArray(aud) && aud.length === 1 ? aud[0] : aud
  return typeof audience === 'string' && accepted.has(audience)
}

// RFC 7519 §2: seconds, possibly fractional. From 2^53 on a double no longer holds every second.
function isNumericDate(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value < 2 ** 53
}

// RFC 8693 §4.1: iss and sub together name an actor. (parseJsonObject has bounded how deep they nest.)
function isActor(value: unknown): boolean {
  if (!isJsonObject(value) || !isNonEmptyString(value.iss) || !isNonEmptyString(value.sub)) return false
  return value.act === undefined || isActor(value.act)
}

export const isStrings = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((each) => typeof each === 'string')

function isNonEmptyString(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const child of Object.values(value)) deepFreeze(child)
    Object.freeze(value)
  }
  return value
}
