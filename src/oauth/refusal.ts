/** What a refusal of the exchange is in OAuth's words (RFC 6749 §5.2, RFC 8693 §2.2.2, RFC 8707 §2). */
import { ApiError } from '../errors.ts'
import { type Refusal, toApiError } from '../exchange/denial.ts'
import { invalidClient, severalCredentials } from '../keys/client-authentication.ts'

export function toOAuthError(refusal: Refusal): ApiError {
  switch (refusal.reason) {
    // Why a client is not taken is nobody's business but its owner's: the audit trail says it.
    case 'key_missing':
    case 'key_malformed':
    case 'key_unknown':
    case 'key_expired':
    case 'key_revoked':
    case 'client_revoked':
    case 'address_not_allowed':
    case 'origin_not_allowed':
    case 'client_pending_approval':
    case 'client_suspended':
    case 'owner_suspended':
    case 'access_token_presented':
      return invalidClient()
    case 'several_credentials':
      return severalCredentials()
    // Unknown and not delegated: the same.
    case 'organization_not_allowed':
      return new ApiError('invalid_request', 'The client may not mint tokens for this organization.')
    case 'scope_not_granted':
      return new ApiError('invalid_scope', 'The client may not grant a scope that was asked for.')
    case 'scopes_mixed':
    case 'nothing_to_grant':
    case 'scopes_ambiguous':
      return toApiError(refusal)
    case 'expiry_too_long':
      return new ApiError(
        'invalid_request',
        `signet_expires_in_seconds must be at most ${refusal.maxSeconds} here.`,
      )
    case 'audience_not_allowed':
      return invalidTarget()
    case 'subject_invalid':
    case 'too_many_actors':
    case 'too_many_refusals':
    case 'limited':
    case 'unavailable':
      return toApiError(refusal)
  }
}

/** RFC 8707 §2: unknown, malformed, too many. */
export const invalidTarget = (): ApiError =>
  new ApiError('invalid_target', 'resource and audience must be the one audience that the token would have.')
