/** What a caller is told whose key is not taken: the same wherever a key authenticates. */
import { ApiError } from '../errors.ts'
import type { KeyDenial } from './standing.ts'

export type KeyRefusal =
  | KeyDenial
  | { ok: false; reason: 'key_missing' | 'key_malformed' | 'key_unknown' }
  | { ok: false; reason: 'several_credentials' | 'access_token_presented' }
  | { ok: false; reason: 'too_many_refusals'; retryAfterSeconds: number }

/** Whether it is the key, or the place it is used from, that is refused: not what it asks for. */
export const isOfKey = (reason: string): boolean => OF_KEY.has(reason)

const OF_KEY: ReadonlySet<string> = new Set<KeyRefusal['reason']>([
  'key_missing',
  'key_malformed',
  'key_unknown',
  'key_expired',
  'key_revoked',
  'client_revoked',
  'address_not_allowed',
  'origin_not_allowed',
  'client_pending_approval',
  'client_suspended',
  'owner_suspended',
])

const INVALID_KEY = 'The key is missing, malformed, unknown, expired or revoked.'

export function keyRefusalToApiError(refusal: KeyRefusal): ApiError {
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
    case 'too_many_refusals':
      return new ApiError('rate_limited', 'Too many refused requests; slow down.', {
        headers: { 'Retry-After': String(refusal.retryAfterSeconds) },
      })
  }
}

/** The error of a reason that has nothing more to say. */
export const refuseKey = (reason: Exclude<KeyRefusal['reason'], 'too_many_refusals'>): ApiError =>
  keyRefusalToApiError({ ok: false, reason })
