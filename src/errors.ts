/** Every error that a caller may see, by its code. docs/http-api.md says what each means to whoever gets it. */
export const ERRORS = {
  invalid_request: { status: 400, title: 'Invalid request' },
  invalid_scope: { status: 400, title: 'Invalid scope' },
  invalid_target: { status: 400, title: 'Invalid target' },
  unsupported_grant_type: { status: 400, title: 'Unsupported grant type' },
  invalid_client: { status: 401, title: 'Invalid client' },
  invalid_key: { status: 401, title: 'Invalid key' },
  access_token_not_allowed: { status: 401, title: 'Access token not allowed' },
  invalid_token: { status: 401, title: 'Invalid token' },
  insufficient_scope: { status: 403, title: 'Insufficient scope' },
  ip_not_allowed: { status: 403, title: 'Address not allowed' },
  origin_not_allowed: { status: 403, title: 'Origin not allowed' },
  client_pending_approval: { status: 403, title: 'Client pending approval' },
  client_suspended: { status: 403, title: 'Client suspended' },
  organization_not_allowed: { status: 403, title: 'Organization not allowed' },
  not_found: { status: 404, title: 'Not found' },
  method_not_allowed: { status: 405, title: 'Method not allowed' },
  conflict: { status: 409, title: 'Conflict' },
  content_too_large: { status: 413, title: 'Content too large' },
  unsupported_media_type: { status: 415, title: 'Unsupported media type' },
  idempotency_mismatch: { status: 422, title: 'Idempotency mismatch' },
  rate_limited: { status: 429, title: 'Rate limited' },
  server_error: { status: 500, title: 'Server error' },
  unavailable: { status: 503, title: 'Unavailable' },
} as const

export type ErrorCode = keyof typeof ERRORS

/** A member of the request body that breaks a rule: where (RFC 6901) and which. */
export type MemberError = { pointer: string; detail: string }

/**
 * An answer other than the one that was asked for. `detail` is for the caller to read: it names the member and the
 * rule, and never repeats what the caller sent.
 */
export class ApiError extends Error {
  override name = 'ApiError'
  readonly code: ErrorCode
  readonly detail: string
  readonly errors: readonly MemberError[]
  readonly headers: Readonly<Record<string, string>>

  constructor(
    code: ErrorCode,
    detail: string,
    more: { errors?: readonly MemberError[]; headers?: Record<string, string>; cause?: unknown } = {},
  ) {
    super(`${code}: ${detail}`, { cause: more.cause })
    this.code = code
    this.detail = detail
    this.errors = more.errors ?? []
    this.headers = more.headers ?? {}
  }
}

/** A member that breaks a rule; `what` holds it, `rule` goes on from its name: `must be …`. */
export const brokenRule = (what: 'body' | 'query', ...errors: readonly MemberError[]): ApiError =>
  new ApiError('invalid_request', `The ${what} breaks a rule; see errors.`, { errors })

/** Missing, malformed and another tenant's: the same words, so that the answers are the same bytes. */
export const notFound = (): ApiError => new ApiError('not_found', 'There is no such resource.')

/** The service does not start, nor would it the next time: why, for whoever started it. */
export class StartRefusedError extends Error {
  override name = 'StartRefusedError'
}
