/** `POST /v2/auth/token`: the exchange over HTTP. */
import { Hono } from 'hono'
import * as v from 'valibot'
import { ApiError } from '../errors.ts'
import { readJsonBody } from '../http/json-body.ts'
import { resource } from '../http/methods.ts'
import type { RequestEnv } from '../http/request-context.ts'
import { presentedKey } from '../keys/presented-key.ts'
import { allowOrigin, answerPreflight } from '../network/origin.ts'
import { rateLimitFields, toApiError } from './denial.ts'
import type { Exchange } from './exchange.ts'
import { MAX_EXPIRY_SECONDS, MIN_EXPIRY_SECONDS, type TokenRequest } from './policy.ts'

const ALLOW = 'POST, OPTIONS'
const EXPIRY_RULE = `must be an integer from ${MIN_EXPIRY_SECONDS} to ${MAX_EXPIRY_SECONDS}`
/** RFC 6749 §3.3: scope-token. */
const SCOPE_TOKEN = /^[\x21\x23-\x5b\x5d-\x7e]{1,128}$/
const SCOPE_RULE = 'must be 1 to 128 visible ASCII characters without space, quote and backslash'
const name = (maxLength: number) =>
  v.pipe(
    v.string(),
    v.nonEmpty('must not be empty'),
    v.maxLength(maxLength, `must be at most ${maxLength} characters long`),
    v.check((text) => text.isWellFormed(), 'must be well-formed Unicode'),
  )

const TokenBody = v.strictObject({
  expiry_seconds: v.optional(
    v.pipe(
      v.number(),
      v.integer(EXPIRY_RULE),
      v.minValue(MIN_EXPIRY_SECONDS, EXPIRY_RULE),
      v.maxValue(MAX_EXPIRY_SECONDS, EXPIRY_RULE),
    ),
  ),
  scopes: v.strictObject({
    organization_id: name(64),
    scopes: v.pipe(
      v.array(v.string()),
      v.minLength(1, 'must hold at least one scope'),
      v.maxLength(100, 'must hold at most 100 scopes'),
    ),
  }),
  audience: v.optional(name(255)),
})

export function exchangeRoutes(exchange: Exchange): Hono<RequestEnv> {
  const app = new Hono<RequestEnv>()
  resource(app, '/v2/auth/token', {
    async POST(c) {
      // A key in a URL ends up in logs and histories: whatever the query says, it is refused.
      if (c.env.incoming.url?.includes('?'))
        throw new ApiError('invalid_request', 'This resource takes no query parameters.')
      const origin = c.req.header('origin')
      const answer = await exchange({
        presented: presentedKey(c.env.incoming),
        clientAddress: c.var.clientAddress,
        origin,
        requestId: c.var.requestId,
        onAuthenticated(client) {
          if (origin !== undefined && client.allowedOrigins?.includes(origin)) allowOrigin(c, origin)
        },
        readBody: async () => toTokenRequest(await readJsonBody(c, TokenBody)),
      })
      if (!answer.ok) throw toApiError(answer)

      // A grant means that the origin is allowed, perhaps by a younger list than the one that was in memory above.
      if (origin !== undefined) allowOrigin(c, origin)
      c.header('Cache-Control', 'no-store')
      for (const [field, value] of Object.entries(rateLimitFields(answer.window))) c.header(field, value)
      return c.json({
        token: answer.token,
        expiry: answer.expiry,
        organization_id: answer.organization.id,
        organization_name: answer.organization.name,
        scopes: { organization_id: answer.organization.id, scopes: answer.scopes },
      })
    },
    OPTIONS: (c) => answerPreflight(c, ALLOW),
  })
  return app
}

function toTokenRequest(body: v.InferOutput<typeof TokenBody>): TokenRequest {
  const { organization_id, scopes } = body.scopes
  const malformed = scopes.findIndex((scope) => !SCOPE_TOKEN.test(scope))
  if (malformed !== -1)
    throw new ApiError('invalid_scope', 'A scope is not well-formed.', {
      errors: [{ pointer: `/scopes/scopes/${malformed}`, detail: SCOPE_RULE }],
    })
  return {
    organizationId: organization_id,
    // RFC 6749 §3.3: a set; saying it twice adds nothing.
    scopes: [...new Set(scopes)],
    expirySeconds: body.expiry_seconds,
    audience: body.audience,
  }
}
