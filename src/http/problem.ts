/** The one renderer of errors: RFC 9457 problem details. */
import type { Context } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { ApiError, ERRORS, type ErrorCode } from '../errors.ts'
import type { Answer } from './door.ts'
import { contextOf, type RequestContext, type RequestEnv, reportError } from './request-context.ts'

/** RFC 9110 §15.5.2: a 401 names the scheme that would do. `error` only when a credential was shown (RFC 6750 §3.1). */
const CHALLENGE = 'Bearer realm="signet", error="invalid_token"'

const CODES = Object.keys(ERRORS) as ErrorCode[]

/** What is thrown becomes an answer here; what is no ApiError is ours, is logged, and tells the caller nothing. */
export function problemOf(request: RequestContext, error: unknown): Answer {
  const known = reportError(request, error)
  const { status } = ERRORS[known.code]
  return {
    status,
    fields: {
      'Content-Type': 'application/problem+json',
      'Cache-Control': 'no-store',
      ...(status === 401 ? { 'WWW-Authenticate': CHALLENGE } : {}),
      ...known.headers,
    },
    body: problemBody(known, request),
  }
}

/** The same of a route, whose own fields stay. */
export function renderError(c: Context<RequestEnv>, error: unknown): Response {
  const { status, fields, body } = problemOf(contextOf(c), error)
  return c.body(body, status as ContentfulStatusCode, fields)
}

export function problemBody(error: ApiError, about: Pick<RequestContext, 'issuer' | 'requestId'>): string {
  const { status, title } = ERRORS[error.code]
  return JSON.stringify({
    type: error.code === 'rate_limited' ? QUOTA_EXCEEDED : `${about.issuer}/errors/${error.code}`,
    title,
    status,
    detail: error.detail,
    request_id: about.requestId,
    error: { code: error.code },
    ...(error.code === 'rate_limited' && error.headers.RateLimit
      ? { 'violated-policies': ['per-client'] }
      : {}),
    ...(error.errors.length > 0 ? { errors: error.errors } : {}),
  })
}

/** The registered problem type of the RateLimit header fields draft (revision 11, §5.1). */
const QUOTA_EXCEEDED = 'https://iana.org/assignments/http-problem-types#quota-exceeded'

/** `GET /errors/{code}`: what a problem's `type` leads to. */
export function describeError(c: Context<RequestEnv>): Response {
  const code = CODES.find((each) => each === c.req.param('code'))
  if (!code) throw new ApiError('not_found', 'There is no such error.')
  const { status, title } = ERRORS[code]
  c.header('Cache-Control', 'public, max-age=3600')
  return c.json({ code, status, title })
}
