/** Problems, as the OpenAPI document describes them: the schema, an example of each, and the fields beside them. */
import * as v from 'valibot'
import { ApiError, ERRORS, type ErrorCode, notFound } from '../errors.ts'
import type { Description } from './description.ts'
import { problemBody } from './problem.ts'

const CODES = Object.keys(ERRORS) as ErrorCode[]
const REQUEST_ID = '5f0c3a52-9d1e-4c0b-8a53-7f6f2f6f1a10'

/** RFC 9457, as problem.ts renders it. */
export const Problem = v.pipe(
  v.strictObject({
    type: v.pipe(
      v.string(),
      v.url(),
      v.description('Names the error; leads to what it means.'),
      v.examples(['https://auth.example.com/errors/invalid_request']),
    ),
    title: v.pipe(v.string(), v.examples(['Invalid request'])),
    status: v.pipe(v.number(), v.integer(), v.minValue(400), v.maxValue(599)),
    detail: v.pipe(
      v.string(),
      v.description('For people. Never repeats what was sent.'),
      v.examples(['The body breaks a rule; see errors.']),
    ),
    request_id: v.pipe(
      v.string(),
      v.uuid(),
      v.description('As in `X-Request-Id`; in a repeated answer, that of the first request.'),
      v.examples([REQUEST_ID]),
    ),
    error: v.strictObject({ code: v.pipe(v.picklist(CODES), v.description('For programs.')) }),
    'violated-policies': v.optional(
      v.pipe(
        v.array(v.string()),
        v.description('Which rate limits are used up, by their names in `RateLimit-Policy`.'),
        v.examples([['per-client']]),
      ),
    ),
    errors: v.optional(
      v.pipe(
        v.array(
          v.strictObject({
            pointer: v.pipe(
              v.string(),
              v.description('The member, as a JSON Pointer (RFC 6901); empty: the body itself.'),
            ),
            detail: v.string(),
          }),
        ),
        v.description('Each member of the body, or parameter of the query, that breaks a rule.'),
        v.examples([[{ pointer: '/name', detail: 'must not be empty' }]]),
      ),
    ),
  }),
  v.title('Problem'),
  v.description('What went wrong (RFC 9457).'),
)

/** As it would be rendered. */
export const problemExample = (code: ErrorCode, issuer: string): unknown =>
  JSON.parse(
    problemBody(EXAMPLES[code] ?? new ApiError(code, `${ERRORS[code].title}.`), {
      issuer,
      requestId: REQUEST_ID,
    }),
  )

const EXAMPLES: Readonly<Partial<Record<ErrorCode, ApiError>>> = {
  invalid_request: new ApiError('invalid_request', 'The body breaks a rule; see errors.', {
    errors: [{ pointer: '/name', detail: 'must not be empty' }],
  }),
  not_found: notFound(),
}

export type Field = { description: string; required?: boolean; schema: { type: 'string' | 'integer' } }

const field = (description: string, required = false, type: 'string' | 'integer' = 'string'): Field => ({
  description,
  ...(required ? { required } : {}),
  schema: { type },
})

/** What a refusal with that status bears beside its body. */
export function problemFields(
  status: number,
  { security, takesIdempotencyKey }: Pick<Description, 'security' | 'takesIdempotencyKey'>,
): Record<string, Field> {
  switch (status) {
    case 401:
      return { 'WWW-Authenticate': field('The scheme that would do (RFC 9110 §11.6.1).', true) }
    case 403:
      return security === 'access_token'
        ? {
            'WWW-Authenticate': field('With `insufficient_scope`: the scope that is needed (RFC 6750 §3.1).'),
          }
        : {}
    case 409:
      return takesIdempotencyKey
        ? {
            'Retry-After': field(
              'In seconds; while the request of that Idempotency-Key is running.',
              false,
              'integer',
            ),
          }
        : {}
    case 415:
      return { Accept: field('The media type that would do.') }
    case 429:
      return {
        'Retry-After': field('In seconds.', true, 'integer'),
        ...(security === 'key' || security === 'client' ? RATE_LIMIT_FIELDS : {}),
      }
    case 503:
      return { 'Retry-After': field('In seconds.', true, 'integer') }
    default:
      return {}
  }
}

const RATE_LIMIT_FIELDS = {
  RateLimit: field('What is left of the window: `"per-client";r=59;t=42`.'),
  'RateLimit-Policy': field('The limit and its window: `"per-client";q=60;w=60`.'),
}
