/** What a refusal of the exchange says to the caller; where it is the key's own, keys/refusal.ts says it. */
import { ApiError } from '../errors.ts'
import { type KeyRefusal, keyRefusalToApiError } from '../keys/refusal.ts'
import type { Window } from '../ledger/admission.ts'
import { MIN_EXPIRY_SECONDS } from '../management/wire.ts'
import type { Denial } from './policy.ts'

export type Refusal =
  | Denial
  | KeyRefusal
  | { ok: false; reason: 'limited'; window: Window }
  | { ok: false; reason: 'unavailable' }

export function toApiError(refusal: Refusal): ApiError {
  switch (refusal.reason) {
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
    case 'nothing_to_grant':
      return new ApiError('invalid_scope', 'There is no scope that the key may grant for this organization.')
    case 'scopes_ambiguous':
      return new ApiError(
        'invalid_scope',
        'Name the scopes: management scopes (signet:…) and others must not share a token.',
      )
    case 'subject_invalid':
      return new ApiError(
        'invalid_request',
        'The token that is to be exchanged is no active access token of this client, or its actor token is none.',
      )
    case 'too_many_actors':
      return new ApiError(
        'invalid_request',
        'The token that is to be exchanged was itself had for another one, too many times over.',
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
    case 'limited':
      return new ApiError('rate_limited', 'The client has used up its tokens for this minute.', {
        headers: { ...rateLimitFields(refusal.window), 'Retry-After': String(refusal.window.resetSeconds) },
      })
    case 'unavailable':
      return new ApiError('unavailable', 'Tokens cannot be minted at the moment.', {
        headers: { 'Retry-After': '1' },
      })
    // What is left is the key's own: the compiler sees to it that nothing else is.
    default:
      return keyRefusalToApiError(refusal)
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
