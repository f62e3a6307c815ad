/** `POST /v2/auth/token`: the exchange over HTTP. */
import { Hono } from 'hono'
import * as v from 'valibot'
import { ApiError } from '../errors.ts'
import type { Description } from '../http/description.ts'
import { type Answer, createDoor, type Door, type Doors, throughDoor } from '../http/door.ts'
import { readJsonBody } from '../http/json-body.ts'
import { resource } from '../http/methods.ts'
import { problemOf } from '../http/problem.ts'
import type { RequestContext, RequestEnv } from '../http/request-context.ts'
import { presentedKey } from '../keys/presented-key.ts'
import { expirySeconds, MAX_SCOPES, SCOPE_RULE, SCOPE_TOKEN } from '../management/wire.ts'
import { allowOrigin, answerPreflight, foreignOrigin } from '../network/origin.ts'
import { type Refusal, rateLimitFields, toApiError } from './denial.ts'
import type { Exchange, Exchanged, ExchangeRequest, Wish } from './exchange.ts'

const ALLOW = 'POST, OPTIONS'
const name = (maxLength: number) =>
  v.pipe(
    v.string(),
    v.nonEmpty('must not be empty'),
    v.maxLength(maxLength, `must be at most ${maxLength} characters long`),
    v.check((text) => text.isWellFormed(), 'must be well-formed Unicode'),
  )

const TokenBody = v.pipe(
  v.strictObject({
    expiry_seconds: v.optional(expirySeconds()),
    scopes: v.strictObject({
      organization_id: name(64),
      scopes: v.pipe(
        v.array(v.string()),
        v.minLength(1, 'must hold at least one scope'),
        v.maxLength(MAX_SCOPES, `must hold at most ${MAX_SCOPES} scopes`),
      ),
    }),
    audience: v.optional(name(255)),
  }),
  v.examples([
    {
      expiry_seconds: 3600,
      scopes: {
        organization_id: 'org_01kb2d3v7fe8ntqr5x9w0c4m6h',
        scopes: ['transactions:read', 'person:write'],
      },
    },
  ]),
)

const Scopes = v.strictObject({
  organization_id: v.pipe(
    v.string(),
    v.description('Whom the token is for.'),
    v.examples(['org_01kb2d3v7fe8ntqr5x9w0c4m6h']),
  ),
  scopes: v.pipe(v.array(v.string()), v.examples([['transactions:read', 'person:write']])),
})

export const exchangeDescriptions: readonly Description[] = [
  {
    id: 'exchangeKey',
    method: 'POST',
    path: '/v2/auth/token',
    tag: 'Authentication',
    summary: 'Exchange a key for an access token',
    description:
      'All of the scopes or no token; nothing is cut to fit. `expiry_seconds` is within the client’s and the ' +
      'delegation’s ceiling; absent, it is 3600, or the ceiling where that is lower. `audience` is the one that the ' +
      'token is expected to have. A query string is refused, so that no key gets into a URL. Pages of the origins that ' +
      'the client lists may call it.',
    security: 'key',
    body: { schema: TokenBody, isRequired: true },
    answers: {
      200: {
        description: 'The access token (RFC 9068), and what it grants.',
        schema: v.pipe(
          v.strictObject({
            token: v.pipe(
              v.string(),
              v.description('The JWT.'),
              v.examples(['eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFUzI1NiJ9.e30.c2ln']),
            ),
            expiry: v.pipe(
              v.number(),
              v.integer(),
              v.description('When it expires, in seconds of Unix time.'),
              v.examples([1_795_305_600]),
            ),
            organization_id: Scopes.entries.organization_id,
            organization_name: v.pipe(v.string(), v.examples(['Acme'])),
            scopes: Scopes,
          }),
          v.title('AccessToken'),
        ),
        headers: {
          RateLimit: 'What is left of the client’s minute: `"per-client";r=59;t=42`.',
          'RateLimit-Policy': 'The limit and its window: `"per-client";q=60;w=60`.',
        },
      },
    },
    errors: [
      'invalid_request',
      'invalid_scope',
      'invalid_key',
      'access_token_not_allowed',
      'insufficient_scope',
      'ip_not_allowed',
      'origin_not_allowed',
      'client_pending_approval',
      'client_suspended',
      'organization_not_allowed',
      'content_too_large',
      'unsupported_media_type',
      'rate_limited',
      'server_error',
      'unavailable',
    ],
  },
]

/** 200 with the token and what it grants; each refusal is a problem (docs/http-api.md). */
const createExchangeDoor = (exchange: Exchange): Door =>
  createDoor(async (request): Promise<Answer> => {
    const { incoming } = request
    // A key in a URL ends up in logs and histories: whatever the query says, it is refused.
    if (incoming.url?.includes('?'))
      throw new ApiError('invalid_request', 'This resource takes no query parameters.')
    const answer = await exchangeOver(request, exchange, {
      operation: 'exchangeKey',
      presented: presentedKey(incoming),
      readRequest: async () => toWish(await readJsonBody(incoming, TokenBody)),
      toApiError,
    })
    const { token, expiry, organization, scopes, window } = answer
    return {
      status: 200,
      fields: {
        'Content-Type': 'application/json',
        'Cache-Control': 'no-store',
        ...rateLimitFields(window),
      },
      body: JSON.stringify({
        token,
        expiry,
        organization_id: organization.id,
        organization_name: organization.name,
        scopes: { organization_id: organization.id, scopes },
      }),
    }
  }, problemOf)

export const createExchangeDoors = (exchange: Exchange): Doors => ({
  '/v2/auth/token': createExchangeDoor(exchange),
})

export function exchangeRoutes(doors: Doors): Hono<RequestEnv> {
  const app = new Hono<RequestEnv>()
  for (const [path, door] of Object.entries(doors))
    resource(app, path, { POST: throughDoor(door), OPTIONS: (c) => answerPreflight(c, ALLOW) })
  return app
}

/**
 * What both doors have in common: pages of the client's own origins may read the answer. Rejects with the ApiError of a
 * refusal.
 */
export async function exchangeOver(
  request: RequestContext,
  exchange: Exchange,
  door: Pick<ExchangeRequest, 'operation' | 'presented' | 'readRequest'> & {
    toApiError: (refusal: Refusal) => ApiError
  },
): Promise<Exchanged> {
  const { operation, presented, readRequest } = door
  const { clientAddress, requestId } = request
  const origin = foreignOrigin(request)
  let isListed = false
  try {
    const answer = await exchange({
      operation,
      presented,
      readRequest,
      clientAddress,
      origin,
      requestId,
      onAuthenticated: ({ allowedOrigins }) => {
        isListed = origin !== undefined && allowedOrigins?.includes(origin) === true
      },
    })
    if (!answer.ok) throw door.toApiError(answer)
    // A grant means that the origin is allowed, perhaps by a younger list than the one that was in memory above.
    if (origin !== undefined) allowOrigin(request, origin)
    return answer
  } catch (error) {
    // Whose authentication failed is told the same as all others, to the last field.
    const isUnknown = error instanceof ApiError && error.code === 'invalid_client'
    if (origin !== undefined && isListed && !isUnknown) allowOrigin(request, origin)
    throw error
  }
}

function toWish(body: v.InferOutput<typeof TokenBody>): Wish {
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
    tokens: undefined,
  }
}
