/** What introspection and revocation have in common: an authenticated client says something of one token, in a form. */
import type { Context } from 'hono'
import * as v from 'valibot'
import type { Refused } from '../audit/refusals.ts'
import { ApiError, ERRORS } from '../errors.ts'
import type { Description } from '../http/description.ts'
import { noStore } from '../http/oauth-error.ts'
import { contextOf, type RequestEnv } from '../http/request-context.ts'
import type { AuthenticateClient } from '../keys/client-authentication.ts'
import { actorOf, type Credential } from '../keys/keys.ts'
import { foreignOrigin } from '../network/origin.ts'
import { readForm } from './form.ts'
import type { Issuer } from './issuers.ts'
import { presentedClient } from './presented-client.ts'

export type ClientEndpoint = {
  authenticateClient: AuthenticateClient
  /** For the audit trail: called for each, never waited for. */
  onRefused: (refused: Refused) => void
}

export type TokenForm = {
  credential: Credential
  token: string
  clientAddress: string
  origin: string | undefined
  requestId: string
  /** Leaves word of what is not done, though the answer does not say so. */
  refuse: (code: string, targetId: string) => void
}

/**
 * Handles a form with a `token`. The client is authenticated first: nobody else learns anything (RFC 7009 §2.1, RFC 7662
 * §2.1). `token_type_hint` is a hint, and there is one kind of token: it is not looked at.
 */
export const onTokenForm =
  (
    { authenticateClient, onRefused }: ClientEndpoint,
    issuer: Issuer,
    operation: string,
    answer: (c: Context<RequestEnv>, form: TokenForm) => Promise<Response>,
  ) =>
  async (c: Context<RequestEnv>): Promise<Response> => {
    noStore(contextOf(c))
    const { clientAddress, requestId } = contextOf(c)
    const origin = foreignOrigin(contextOf(c))
    let credential: Credential | undefined
    let reason: string | undefined
    const refuse = (code: string, targetId?: string) =>
      onRefused({
        action: 'request.refused',
        operation,
        code,
        actor: credential && actorOf(credential),
        targetId,
        clientAddress,
        requestId,
      })
    try {
      const form = await readForm(c.env.incoming)
      const presented = presentedClient(c.env.incoming, form, issuer.environment)
      const authenticated = await authenticateClient({ presented, clientAddress, origin })
      credential = authenticated.credential
      if (!authenticated.ok) {
        // The trail learns why; whoever asks does not.
        reason = authenticated.reason
        throw authenticated.error
      }
      const token = form.get('token')
      if (token === undefined) throw new ApiError('invalid_request', 'The parameter token is missing.')
      const asked = { credential: authenticated.credential, token, clientAddress, origin, requestId, refuse }
      return await answer(c, asked)
    } catch (error) {
      if (error instanceof ApiError && ERRORS[error.code].status < 500) refuse(reason ?? error.code)
      throw error
    }
  }

const text = () => v.pipe(v.string(), v.minLength(1))

/** As it is sent, for the OpenAPI document. */
const TokenFormBody = v.object({
  token: v.pipe(
    text(),
    v.description('The access token.'),
    v.examples(['eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFUzI1NiJ9.e30.c2ln']),
  ),
  token_type_hint: v.optional(
    v.pipe(v.string(), v.description('Not looked at.'), v.examples(['access_token'])),
  ),
  client_id: v.optional(
    v.pipe(v.string(), v.description('With `client_secret`, or beside another way to authenticate.')),
  ),
  client_secret: v.optional(
    v.pipe(v.string(), v.description('One of the client’s keys (`client_secret_post`).')),
  ),
  client_assertion: v.optional(v.pipe(v.string(), v.description('A JWT (`private_key_jwt`, RFC 7523).'))),
  client_assertion_type: v.optional(v.literal('urn:ietf:params:oauth:client-assertion-type:jwt-bearer')),
})

/** What both say of themselves. */
export const TOKEN_FORM = {
  security: 'client',
  errorFormat: 'oauth',
  body: { schema: TokenFormBody, isRequired: true, mediaType: 'application/x-www-form-urlencoded' },
  errors: [
    'invalid_request',
    'invalid_client',
    'content_too_large',
    'rate_limited',
    'server_error',
    'unavailable',
  ],
} as const satisfies Partial<Description>
