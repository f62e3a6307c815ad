/** What a refusal says to the caller: the one place where reasons become errors. */
import { ApiError } from '../errors.ts'
import type { Window } from '../ledger/admission.ts'
import { type Denial, MIN_EXPIRY_SECONDS } from './policy.ts'

export type Refusal =
  | Denial
  | { ok: false; reason: 'key_missing' | 'key_malformed' | 'key_unknown' }
  | { ok: false; reason: 'several_credentials' | 'access_token_presented' }
  | { ok: false; reason: 'too_many_refusals'; retryAfterSeconds: number }
  | { ok: false; reason: 'limited'; window: Window }
  | { ok: false; reason: 'unavailable' }

const INVALID_KEY = 'The key is missing, malformed, unknown, expired or revoked.'

export function toApiError(refusal: Refusal): ApiError {
  switch (refusal.reason) {
    // Whether a key is missing, malformed, unknown, expired or revoked is nobody's business but its owner's.
    case 'key_missing':
      // RFC 6750 §3.1: who showed no credential is asked for one, and told of no error in it.
      return new ApiError('invalid_key', INVALID_KEY, {
        headers: { 'WWW-Authenticate': 'Bearer realm="signet"' },
      })
    case 'key_malformed':
    case 'key_unknown':
    case 'key_expired':
    case 'key_revoked':
    case 'client_revoked':
      return new ApiError('invalid_key', INVALID_KEY)
    case 'several_credentials':
      return new ApiError('invalid_request', 'Present the key once: in Authorization or in X-Api-Key.')
    case 'access_token_presented':
      return new ApiError('access_token_not_allowed', 'An access token cannot be exchanged; present a key.')
    case 'address_not_allowed':
      return new ApiError('ip_not_allowed', 'The key may not be used from this address.')
    case 'origin_not_allowed':
      return new ApiError('origin_not_allowed', 'The key may not be used by pages of this origin.')
    case 'client_pending_approval':
      return new ApiError('client_pending_approval', 'The client has not been approved yet.')
    case 'client_suspended':
    case 'owner_suspended':
      return new ApiError('client_suspended', 'The client, or the organization that owns it, is suspended.')
    case 'organization_not_allowed':
      return new ApiError('organization_not_allowed', 'The key may not mint tokens for this organization.')
    case 'scope_not_granted':
      return atMember(
        'insufficient_scope',
        'The key may not grant a scope that was asked for.',
        `/scopes/scopes/${refusal.index}`,
        'is not granted to the key for this organization',
      )
    case 'scopes_mixed':
      return atMember(
        'invalid_scope',
        'Management scopes (signet:…) and others must not share a token.',
        `/scopes/scopes/${refusal.index}`,
        'is of another kind than the first scope',
      )
    case 'expiry_too_long':
      return atMember(
        'invalid_request',
        'The expiry is longer than the key may ask for.',
        '/expiry_seconds',
        `must be from ${MIN_EXPIRY_SECONDS} to ${refusal.maxSeconds} for this key`,
      )
    case 'audience_not_allowed':
      return atMember(
        'invalid_request',
        'The audience is not the one of these scopes.',
        '/audience',
        'must be the audience of the client, or absent',
      )
    case 'too_many_refusals':
      return new ApiError('rate_limited', 'Too many refused requests; slow down.', {
        headers: { 'Retry-After': String(refusal.retryAfterSeconds) },
      })
    case 'limited':
      return new ApiError('rate_limited', 'The client has used up its tokens for this minute.', {
        headers: { ...rateLimitFields(refusal.window), 'Retry-After': String(refusal.window.resetSeconds) },
      })
    case 'unavailable':
      return new ApiError('unavailable', 'Tokens cannot be minted at the moment.', {
        headers: { 'Retry-After': '1' },
      })
  }
}

/** draft-ietf-httpapi-ratelimit-headers-11: the one place where its format, still moving, is known. */
export const rateLimitFields = ({ limit, remaining, resetSeconds }: Window): Record<string, string> => ({
  'RateLimit-Policy': `"per-client";q=${limit};w=60`,
  RateLimit: `"per-client";r=${remaining};t=${resetSeconds}`,
})

const atMember = (
  code: 'invalid_request' | 'invalid_scope' | 'insufficient_scope',
  detail: string,
  pointer: string,
  rule: string,
) => new ApiError(code, detail, { errors: [{ pointer, detail: rule }] })
