/** `POST /oauth2/introspect` (RFC 7662, RFC 9701). */
import type { Context } from 'hono'
import * as v from 'valibot'
import { type Clock, toSeconds } from '../clock.ts'
import { ApiError } from '../errors.ts'
import type { Description } from '../http/description.ts'
import type { RequestEnv } from '../http/request-context.ts'
import type { Credential } from '../keys/keys.ts'
import { environment, id } from '../management/wire.ts'
import type { Signer } from '../signing/signer.ts'
import type { InspectToken } from '../tokens/inspection.ts'
import type { OwnToken } from '../tokens/token-reader.ts'
import { isPreferred } from './accept.ts'
import { type ClientEndpoint, onTokenForm, TOKEN_FORM } from './client-endpoint.ts'
import type { Issuer } from './issuers.ts'

const JSON_TYPE = 'application/json'
const JWT_TYPE = 'application/token-introspection+jwt'

/**
 * Of one client, at once. A gateway asks for each request that it gets, thousands of times a second: a rate would have to be
 * so high that it limits nobody. What must be bounded is what waits, and with it the share that one takes of the others'
 * time.
 */
const MAX_ASKING = 100

const seconds = (example: number) => v.pipe(v.number(), v.integer(), v.examples([example]))

const Introspection = v.pipe(
  v.variant('active', [
    v.strictObject({
      active: v.literal(true),
      scope: v.pipe(v.string(), v.examples(['transactions:read person:write'])),
      client_id: id('client'),
      token_type: v.literal('Bearer'),
      exp: seconds(1_795_305_600),
      iat: seconds(1_795_302_000),
      sub: id('client'),
      aud: v.pipe(v.string(), v.examples(['https://api.example.com'])),
      iss: v.pipe(v.string(), v.examples(['https://auth.example.com'])),
      jti: id('token'),
      organization_id: v.pipe(id('organization'), v.description('Whom it is for.')),
      environment: environment(),
      key_id: v.pipe(id('key'), v.description('The key that was exchanged for it.')),
      partner_id: v.optional(
        v.pipe(id('organization'), v.description('Who minted it for that organization.')),
      ),
      act: v.optional(
        v.pipe(
          v.looseObject({ iss: v.string(), sub: v.string() }),
          v.description('Who had it for another token; inside, who had that one so (RFC 8693 §4.1).'),
          v.examples([{ iss: 'https://auth.example.com', sub: 'cli_01kb2d3v7fe8ntqr5x9w0c4m6h' }]),
        ),
      ),
    }),
    v.strictObject({ active: v.literal(false) }),
  ]),
  v.title('TokenIntrospection'),
)
type Introspection = v.InferOutput<typeof Introspection>

const operationOf = ({ path }: Issuer) => (path === '' ? 'introspectToken' : 'introspectSandboxToken')

export function answerIntrospection(
  dependencies: ClientEndpoint & {
    inspectToken: InspectToken
    signer: Pick<Signer, 'reload' | 'sign'>
    now: Clock
  },
  issuer: Issuer,
): (c: Context<RequestEnv>) => Promise<Response> {
  const { inspectToken, signer, now } = dependencies
  const asking = new Map<string, number>()

  return onTokenForm(dependencies, issuer, operationOf(issuer), async (c, { credential, token }) => {
    const claims = await inTurn(credential.client.id, () => inspectToken(token, issuer.environment))
    const introspection: Introspection =
      claims && maySee(credential, claims) ? describeToken(claims) : { active: false }
    if (!isPreferred(c.req.header('accept'), JWT_TYPE, JSON_TYPE)) return c.json(introspection)

    // No admission asks which key it was: one that another instance has revoked must not sign this any more.
    if (!(await inTurn(credential.client.id, () => signer.reload()))) throw unsigned()
    // RFC 9701 §5: the caller is its audience, so that it is nobody else's; without `sub` and `exp`, and by its `typ`, it is
    // no access token.
    const signed = await signer.sign(
      issuer.environment,
      {
        iss: issuer.id,
        aud: credential.client.id,
        iat: toSeconds(now()),
        token_introspection: introspection,
      },
      'token-introspection+jwt',
    )
    if (!signed) throw unsigned()
    return c.body(signed.token, 200, { 'Content-Type': JWT_TYPE })
  })

  async function inTurn<T>(clientId: string, ask: () => Promise<T>): Promise<T> {
    const others = asking.get(clientId) ?? 0
    if (others >= MAX_ASKING) throw tooManyAtOnce()
    asking.set(clientId, others + 1)
    try {
      return await ask()
    } finally {
      const left = (asking.get(clientId) ?? 1) - 1
      if (left === 0) asking.delete(clientId)
      else asking.set(clientId, left)
    }
  }
}

/** RFC 7662 §2.2, §4: whose it is, whom it is for, and the platform. Anybody else's question has the answer of a bad token. */
function maySee({ owner }: Credential, { organization_id, partner_id }: OwnToken): boolean {
  return owner.platform || owner.id === organization_id || owner.id === partner_id
}

function describeToken(claims: OwnToken): Introspection {
  const { scope, client_id, exp, iat, sub, aud, iss, jti } = claims
  const { organization_id, environment, key_id, partner_id, act } = claims
  return {
    active: true,
    ...{ scope, client_id, token_type: 'Bearer', exp, iat, sub, aud, iss, jti },
    ...{ organization_id, environment, key_id },
    ...(partner_id === undefined ? {} : { partner_id }),
    ...(act === undefined ? {} : { act: { ...act } }),
  }
}

const tooManyAtOnce = () =>
  new ApiError(
    'rate_limited',
    `The client has ${MAX_ASKING} questions under way; ask again after one of them.`,
    {
      headers: { 'Retry-After': '1' },
    },
  )

const unsigned = () =>
  new ApiError('unavailable', 'The answer cannot be signed at the moment.', {
    headers: { 'Retry-After': '1' },
  })

export const describeIntrospection = (issuer: Issuer): Description => ({
  id: operationOf(issuer),
  method: 'POST',
  path: `${issuer.path}/oauth2/introspect`,
  tag: 'OAuth',
  summary: 'Ask whether a token is good',
  description:
    'By what the database says at this moment (RFC 7662): what was revoked one request earlier, by whatever means and on ' +
    'whichever instance, is not active. A client sees the tokens that its organization’s clients minted and those ' +
    'that were minted for its organization, of its own environment; clients of the platform see all. Of any other ' +
    'token, as of anything that is none, the answer is `{"active":false}`.\n\n' +
    `With \`Accept: ${JWT_TYPE}\` the answer is a JWT (RFC 9701), signed as access tokens are (\`typ\` tells them apart), ` +
    'with the client’s id as its audience. An answer may be remembered for 30 s and not beyond `exp`.',
  ...TOKEN_FORM,
  answers: {
    200: {
      description: 'What it is, if it is good.',
      schema: Introspection,
      otherMediaTypes: [JWT_TYPE],
      headers: { 'Cache-Control': '`no-store`.' },
    },
  },
})
