/** Errors as OAuth has them (RFC 6749 §5.2): what `/oauth2/*` answers, where everything else answers problems. */
import type { Context } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import * as v from 'valibot'
import { type ApiError, ERRORS, type ErrorCode } from '../errors.ts'
import type { Answer } from './door.ts'
import { contextOf, type RequestContext, type RequestEnv, reportError } from './request-context.ts'

/** RFC 6749 §5.2, RFC 8707 §2; of the last two, no registered code speaks. */
const OAUTH_CODES = [
  'invalid_request',
  'invalid_client',
  'invalid_scope',
  'invalid_target',
  'unsupported_grant_type',
  'temporarily_unavailable',
  'server_error',
] as const
type OAuthCode = (typeof OAUTH_CODES)[number]

/** RFC 6749 §5.2: with 400, whatever HTTP would rather say, but for these. */
const STATUSES = [401, 405, 413, 429, 500, 503] as const

export const OAuthError = v.pipe(
  v.strictObject({
    error: v.pipe(v.picklist(OAUTH_CODES), v.description('For programs.')),
    error_description: v.pipe(
      v.string(),
      v.regex(/^[\x20-\x21\x23-\x5B\x5D-\x7E]*$/),
      v.description('For people. Never repeats what was sent.'),
      v.examples(['A parameter is missing.']),
    ),
    request_id: v.optional(
      v.pipe(v.string(), v.uuid(), v.description('With `server_error`: as in `X-Request-Id`.')),
    ),
  }),
  v.title('OAuthError'),
  v.description('What went wrong (RFC 6749 §5.2).'),
)

/** RFC 9110 §15.5.2: every 401 has a challenge; RFC 6749 §2.3.1 has every client know this one. */
const CHALLENGE = 'Basic realm="signet", charset="UTF-8"'

/** What is thrown becomes an answer here; what is no ApiError is ours, is logged, and tells the caller nothing. */
export function oauthErrorOf(request: RequestContext, error: unknown): Answer {
  const known = reportError(request, error)
  const status = oauthStatus(known.code)
  return {
    status,
    fields: {
      ...NO_STORE,
      'Content-Type': 'application/json',
      ...(status === 401 ? { 'WWW-Authenticate': CHALLENGE } : {}),
      ...known.headers,
    },
    body: JSON.stringify(oauthErrorBody(known, request.requestId)),
  }
}

/** The same of a route, whose own fields stay. */
export function renderOAuthError(c: Context<RequestEnv>, error: unknown): Response {
  const { status, fields, body } = oauthErrorOf(contextOf(c), error)
  return c.body(body, status as ContentfulStatusCode, fields)
}

/** RFC 6749 §5.1, §5.2: of every answer that has to do with credentials. */
export const NO_STORE = { 'Cache-Control': 'no-store', Pragma: 'no-cache' }

export function noStore({ outgoing }: Pick<RequestContext, 'outgoing'>): void {
  for (const [name, value] of Object.entries(NO_STORE)) outgoing.setHeader(name, value)
}

export const oauthStatus = (code: ErrorCode): 400 | (typeof STATUSES)[number] =>
  STATUSES.find((status) => status === ERRORS[code].status) ?? 400

export const oauthErrorBody = (error: ApiError, requestId: string): v.InferOutput<typeof OAuthError> => ({
  error: oauthCode(error.code),
  error_description: error.detail.replace(/[^\x20-\x21\x23-\x5B\x5D-\x7E]/g, "'"),
  ...(error.code === 'server_error' ? { request_id: requestId } : {}),
})

function oauthCode(code: ErrorCode): OAuthCode {
  const same = OAUTH_CODES.find((each) => each === code)
  if (same) return same
  return code === 'unavailable' || code === 'rate_limited' ? 'temporarily_unavailable' : 'invalid_request'
}
