/** `POST /oauth2/token` (RFC 6749 §3.2): the exchange, by the door that OAuth clients know. */
import * as v from 'valibot'
import { ApiError } from '../errors.ts'
import { rateLimitFields } from '../exchange/denial.ts'
import type { Exchange } from '../exchange/exchange.ts'
import { exchangeOver } from '../exchange/routes.ts'
import type { Description } from '../http/description.ts'
import { type Answer, createDoor, type Door } from '../http/door.ts'
import { NO_STORE, oauthErrorOf } from '../http/oauth-error.ts'
import { readForm } from './form.ts'
import { GRANT_TYPES, issuedTokenType, readGrant, TOKEN_EXCHANGE, TOKEN_TYPES } from './grants.ts'
import type { Issuer } from './issuers.ts'
import { presentedClient } from './presented-client.ts'
import { toOAuthError } from './refusal.ts'

const operationOf = ({ path }: Issuer) => (path === '' ? 'issueToken' : 'issueSandboxToken')

/** The order of what is found wrong: the form, `grant_type`, the client, its limits; then grant, parameters, target, scope. */
export const createTokenDoor = ({ exchange }: { exchange: Exchange }, issuer: Issuer): Door =>
  createDoor(async (request): Promise<Answer> => {
    const form = await readForm(request.incoming)
    const grantType = form.get('grant_type')
    if (grantType === undefined) throw new ApiError('invalid_request', 'grant_type is missing.')
    const answer = await exchangeOver(request, exchange, {
      operation: operationOf(issuer),
      presented: presentedClient(request.incoming, form, issuer.environment),
      readRequest: async () => readGrant(form),
      toApiError: toOAuthError,
    })
    return {
      status: 200,
      fields: { ...NO_STORE, 'Content-Type': 'application/json', ...rateLimitFields(answer.window) },
      body: JSON.stringify({
        access_token: answer.token,
        token_type: 'Bearer',
        expires_in: answer.expirySeconds,
        // RFC 6749 §5.1 wants it where it is not what was asked for; who reads it should not have to compare.
        scope: answer.scopes.join(' '),
        ...(grantType === TOKEN_EXCHANGE ? { issued_token_type: issuedTokenType(form) } : {}),
      }),
    }
  }, oauthErrorOf)

const text = (description: string, example: string) =>
  v.optional(v.pipe(v.string(), v.description(description), v.examples([example])))
const targets = (description: string) =>
  v.optional(
    v.pipe(
      v.union([v.string(), v.array(v.string())]),
      v.description(description),
      v.examples(['https://api.example.com']),
    ),
  )
const tokenType = (description: string) =>
  v.optional(v.pipe(v.picklist(TOKEN_TYPES), v.description(description)))

const TokenForm = v.pipe(
  v.looseObject({
    grant_type: v.pipe(
      v.picklist(GRANT_TYPES),
      v.description('`client_credentials`, or token exchange (RFC 8693).'),
    ),
    scope: text(
      'Scopes with one space between them; all of them or no token. Absent: all that the client may grant for that ' +
        'organization and audience, and the subject token holds; where those are management scopes (`signet:…`) and ' +
        'others, they must be named.',
      'transactions:read person:write',
    ),
    organization_id: text(
      'Whom the token is for. Absent: the organization that owns the client; a partner names the one that has delegated ' +
        'to it. Of token exchange, the subject token’s, whether it is named or not.',
      'org_01kb2d3v7fe8ntqr5x9w0c4m6h',
    ),
    resource: targets(
      'The audience that the token is expected to have, an absolute URI (RFC 8707). May stand several times; a token has ' +
        'one audience, so all must be it.',
    ),
    audience: targets('As `resource`; need not be a URI (RFC 8693 §2.1).'),
    signet_expires_in_seconds: v.optional(
      v.pipe(
        v.string(),
        v.regex(/^[1-9][0-9]{0,4}$/),
        v.description(
          'How long the token is to be good, from 300 to 86400, and within the client’s and the delegation’s ceiling: ' +
            'never cut to fit. Absent: 3600, or the ceiling where that is lower. Of token exchange, from 1, and within ' +
            'what is left of the subject token.',
        ),
        v.examples(['900']),
      ),
    ),
    subject_token: text(
      'Of token exchange: an active access token that this client was issued.',
      'eyJ0eXAi.e30.c2ln',
    ),
    subject_token_type: tokenType('With `subject_token`.'),
    actor_token: text(
      'Of token exchange: another such token for the same organization. The client is the actor, with it or without.',
      'eyJ0eXAi.e30.c2ln',
    ),
    actor_token_type: tokenType('With `actor_token`, and not without.'),
    requested_token_type: tokenType('Of token exchange; what is issued is the same JWT, by either name.'),
    client_id: text(
      'Who asks, unless `Authorization` says so; where both do, they must agree.',
      'cli_01kb2d3v7fe8ntqr5x9w0c4m6h',
    ),
    client_secret: text('`client_secret_post`: one of the client’s keys.', 'sgt_test_0123456789ab'),
    client_assertion: text('`private_key_jwt`: the JWT (RFC 7523 §2.2).', 'eyJ0eXAi.e30.c2ln'),
    client_assertion_type: text(
      'With `client_assertion`.',
      'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    ),
  }),
  v.examples([{ grant_type: 'client_credentials', scope: 'transactions:read person:write' }]),
)

const IssuedToken = v.pipe(
  v.strictObject({
    access_token: v.pipe(
      v.string(),
      v.description('The JWT (RFC 9068).'),
      v.examples(['eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFUzI1NiJ9.e30.c2ln']),
    ),
    token_type: v.literal('Bearer'),
    expires_in: v.pipe(v.number(), v.integer(), v.description('In seconds.'), v.examples([3600])),
    scope: v.pipe(
      v.string(),
      v.description('What it grants, with one space between scopes.'),
      v.examples(['transactions:read person:write']),
    ),
    issued_token_type: v.optional(
      v.pipe(v.picklist(TOKEN_TYPES), v.description('Of token exchange: the one that was requested.')),
    ),
  }),
  v.title('IssuedToken'),
  v.description('An access token, as OAuth answers it (RFC 6749 §5.1, RFC 8693 §2.2.1).'),
)

export const describeToken = (issuer: Issuer): Description => ({
  id: operationOf(issuer),
  method: 'POST',
  path: `${issuer.path}/oauth2/token`,
  tag: 'OAuth',
  summary: `Issue an access token of the ${issuer.environment} issuer`,
  description:
    'By the rules, the ledger and the limits of `POST /v2/auth/token`. With `client_credentials` (RFC 6749 §4.4), the ' +
    'client’s key or assertion is exchanged for a token. With `urn:ietf:params:oauth:grant-type:token-exchange` (RFC 8693), an ' +
    'access token that the client holds is exchanged for one with fewer scopes or an earlier expiry: never more of ' +
    'anything, never another organization. What comes of it names the client in `act`, five times over at most, and ' +
    'ends when that token is revoked.\n\n' +
    'Parameters that are not known are ignored; one that is empty counts as absent, and none may stand twice but ' +
    '`resource` and `audience`. What the query says is no parameter. Pages of the origins that the client lists may ' +
    'call it.',
  security: 'client',
  errorFormat: 'oauth',
  body: { schema: TokenForm, isRequired: true, mediaType: 'application/x-www-form-urlencoded' },
  answers: {
    200: {
      description: 'The access token, and what it grants.',
      schema: IssuedToken,
      headers: {
        'Cache-Control': '`no-store`.',
        RateLimit: 'What is left of the client’s minute: `"per-client";r=59;t=42`.',
        'RateLimit-Policy': 'The limit and its window: `"per-client";q=60;w=60`.',
      },
    },
  },
  errors: [
    'invalid_request',
    'invalid_scope',
    'invalid_target',
    'unsupported_grant_type',
    'invalid_client',
    'content_too_large',
    'rate_limited',
    'server_error',
    'unavailable',
  ],
})
