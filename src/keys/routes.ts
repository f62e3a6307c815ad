/** `GET /v2/auth/validate` and `POST /v2/auth/renew`: what a key may do for itself, over HTTP. */
import { type Context, Hono } from 'hono'
import * as v from 'valibot'
import type { Refused } from '../audit/refusals.ts'
import { toSeconds } from '../clock.ts'
import { CLIENT_KINDS, CLIENT_STATUSES, ORGANIZATION_STATUSES } from '../database/schema.ts'
import { ApiError, ERRORS, type ErrorCode } from '../errors.ts'
import type { Description } from '../http/description.ts'
import { checkMembers, parseStrictJson, readOptionalJsonText } from '../http/json-body.ts'
import { resource } from '../http/methods.ts'
import { problemBody } from '../http/problem.ts'
import { contextOf, type RequestEnv } from '../http/request-context.ts'
import { parseIdempotencyKey } from '../management/idempotency.ts'
import { sendChange } from '../management/routes.ts'
import { environment, id, integer, moment } from '../management/wire.ts'
import { allowOrigin, answerPreflight, foreignOrigin } from '../network/origin.ts'
import { actorOf } from './keys.ts'
import { DEFAULT_OVERLAP_SECONDS, MAX_OVERLAP_SECONDS } from './lifecycle.ts'
import { presentedKey } from './presented-key.ts'
import { Key, RenewedKey, toWire } from './resource.ts'
import type { KeyHolder, Renewal, SelfService, Validated } from './self-service.ts'

const RenewBody = v.strictObject({
  overlap_seconds: v.optional(integer(0, MAX_OVERLAP_SECONDS), DEFAULT_OVERLAP_SECONDS),
  expires_at: v.optional(moment()),
})

const Validation = v.pipe(
  v.strictObject({
    key: Key,
    client: v.strictObject({
      id: id('client'),
      name: v.pipe(v.string(), v.examples(['Integration'])),
      environment: environment(),
      kind: v.picklist(CLIENT_KINDS),
      scopes: v.pipe(v.array(v.string()), v.examples([['transactions:read', 'person:write']])),
      audience: v.pipe(
        v.nullable(v.string()),
        v.description('Null: the default of this service.'),
        v.examples(['https://api.example.com']),
      ),
      max_expiry_seconds: v.pipe(v.number(), v.integer(), v.examples([86_400])),
      rate_limit_per_minute: v.pipe(v.number(), v.integer(), v.examples([60])),
      allowed_cidrs: v.pipe(
        v.nullable(v.array(v.string())),
        v.description('Null: from anywhere.'),
        v.examples([['203.0.113.0/24']]),
      ),
      allowed_origins: v.pipe(
        v.nullable(v.array(v.string())),
        v.description('Null: from no page.'),
        v.examples([['https://app.example.com']]),
      ),
      status: v.picklist(CLIENT_STATUSES),
    }),
    organization: v.strictObject({
      id: id('organization'),
      name: v.pipe(v.string(), v.examples(['Acme'])),
      status: v.picklist(ORGANIZATION_STATUSES),
    }),
    environment: environment(),
    scopes: v.pipe(
      v.array(v.string()),
      v.description('What it may ask for; of a partner, as far as it is delegated.'),
      v.examples([['transactions:read', 'person:write']]),
    ),
    limits: v.strictObject({
      max_expiry_seconds: v.pipe(v.number(), v.integer(), v.examples([86_400])),
      rate_limit_per_minute: v.pipe(v.number(), v.integer(), v.examples([60])),
    }),
    expiry: v.pipe(
      v.nullable(v.pipe(v.number(), v.integer())),
      v.description('When the key expires, in seconds of Unix time. Null: it does not expire.'),
      v.examples([1_795_305_600]),
    ),
  }),
  v.title('Validation'),
)

export function selfServiceRoutes(
  selfService: SelfService,
  /** For the audit trail: called for each, never waited for. */
  onRefused: (refused: Refused) => void,
): Hono<RequestEnv> {
  const app = new Hono<RequestEnv>()

  /** Answers whoever holds a key; of who is refused, the audit trail learns no more than the key has proved. */
  const forHolder =
    (operation: string, answer: (c: Context<RequestEnv>, holder: KeyHolder) => Promise<Response>) =>
    async (c: Context<RequestEnv>): Promise<Response> => {
      let holder: KeyHolder | undefined
      try {
        holder = await authenticate(c)
        const answered = await answer(c, holder)
        // It is allowed, perhaps by a younger list than the one that was in memory when it proved itself.
        if (holder.origin !== undefined) allowOrigin(contextOf(c), holder.origin)
        return answered
      } catch (error) {
        if (error instanceof ApiError && ERRORS[error.code].status < 500)
          onRefused({
            action: 'request.refused',
            operation,
            code: error.code,
            actor: holder && actorOf(holder.credential),
            targetId: holder?.credential.key.id,
            clientAddress: contextOf(c).clientAddress,
            requestId: contextOf(c).requestId,
          })
        throw error
      }
    }

  /** The key proves itself before anything else of the request is looked at. */
  async function authenticate(c: Context<RequestEnv>): Promise<KeyHolder> {
    c.header('Cache-Control', 'no-store')
    // A key in a URL ends up in logs and histories: whatever the query says, it is refused.
    if (c.env.incoming.url?.includes('?'))
      throw new ApiError('invalid_request', 'This resource takes no query parameters.')
    const holder = await selfService.authenticate({
      presented: presentedKey(c.env.incoming),
      clientAddress: contextOf(c).clientAddress,
      origin: foreignOrigin(contextOf(c)),
    })
    const { origin, credential } = holder
    if (origin !== undefined && credential.client.allowedOrigins?.includes(origin))
      allowOrigin(contextOf(c), origin)
    return holder
  }

  resource(app, '/v2/auth/validate', {
    GET: forHolder('validateKey', async (c, holder) => c.json(toAnswer(await selfService.validate(holder)))),
    OPTIONS: (c) => answerPreflight(c, 'GET, HEAD, OPTIONS'),
  })

  resource(app, '/v2/auth/renew', {
    POST: forHolder('renewKey', async (c, holder) => {
      const text = await readOptionalJsonText(c.env.incoming)
      const { requestId, issuer } = contextOf(c)
      const answer = await selfService.renew(holder, {
        requestId,
        read: () => ({
          idempotencyKey: parseIdempotencyKey(c.env.incoming),
          body: text === undefined ? undefined : parseStrictJson(text),
        }),
        toRenewal,
        problemOf: (refusal) => problemBody(refusal, { issuer, requestId }),
      })
      return sendChange(c, answer)
    }),
    OPTIONS: (c) => answerPreflight(c, 'POST, OPTIONS'),
  })
  return app
}

function toRenewal(body: unknown): Renewal {
  const { overlap_seconds, expires_at } = checkMembers(RenewBody, body === undefined ? {} : body, 'body')
  return { overlapSeconds: overlap_seconds, expiresAt: expires_at }
}

const toAnswer = ({ row, client, owner }: Validated) => ({
  key: toWire(row),
  client: {
    id: client.id,
    name: client.name,
    environment: client.environment,
    kind: client.kind,
    scopes: client.scopes,
    audience: client.audience,
    max_expiry_seconds: client.maxExpirySeconds,
    rate_limit_per_minute: client.rateLimitPerMinute,
    allowed_cidrs: client.allowedCidrs,
    allowed_origins: client.allowedOrigins,
    status: client.status,
  },
  organization: { id: owner.id, name: owner.name, status: owner.status },
  environment: client.environment,
  scopes: client.scopes,
  limits: {
    max_expiry_seconds: client.maxExpirySeconds,
    rate_limit_per_minute: client.rateLimitPerMinute,
  },
  expiry: row.expiresAt && toSeconds(row.expiresAt.getTime()),
})

const KEY_ERRORS: readonly ErrorCode[] = [
  'invalid_request',
  'invalid_key',
  'access_token_not_allowed',
  'ip_not_allowed',
  'origin_not_allowed',
  'client_pending_approval',
  'client_suspended',
  'rate_limited',
  'server_error',
  'unavailable',
]
const tag = 'Key self-service'

export const selfServiceDescriptions: readonly Description[] = [
  {
    id: 'validateKey',
    method: 'GET',
    path: '/v2/auth/validate',
    tag,
    summary: 'Validate the key that asks',
    description:
      'Whether it is good at this moment, for whom, and what it may ask for. Refused as in the exchange.',
    security: 'key',
    answers: { 200: { description: 'It is good.', schema: Validation } },
    errors: KEY_ERRORS,
  },
  {
    id: 'renewKey',
    method: 'POST',
    path: '/v2/auth/renew',
    tag,
    summary: 'Renew the key that asks',
    description:
      'Makes a new key of the same client. The one that asks works until its overlap has ended, or its own life before ' +
      'that; with `overlap_seconds: 0` it ends at once. A key is renewed once. One that expires begets none that lives ' +
      'longer than it did: without `expires_at`, as long. The new key is in this answer only: when the request is ' +
      'repeated with its Idempotency-Key, the answer has none and says so.',
    security: 'key',
    body: { schema: RenewBody, isRequired: false },
    takesIdempotencyKey: true,
    answers: {
      201: {
        description: 'It was made.',
        schema: RenewedKey,
        headers: {
          Location: 'Where the new key is, in the management API.',
          'Idempotency-Replayed': '`true` where the answer is that of an earlier request.',
        },
      },
    },
    errors: [
      ...KEY_ERRORS,
      'conflict',
      'content_too_large',
      'unsupported_media_type',
      'idempotency_mismatch',
    ],
  },
]
