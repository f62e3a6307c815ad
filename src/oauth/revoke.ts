/** `POST /oauth2/revoke` (RFC 7009). */
import type { Context } from 'hono'
import type { Description } from '../http/description.ts'
import type { RequestEnv } from '../http/request-context.ts'
import type { RevokeToken } from '../tokens/revocation.ts'
import type { ReadToken } from '../tokens/token-reader.ts'
import { type ClientEndpoint, onTokenForm, TOKEN_FORM } from './client-endpoint.ts'
import type { Issuer } from './issuers.ts'

const operationOf = ({ path }: Issuer) => (path === '' ? 'revokeOwnToken' : 'revokeOwnSandboxToken')

export function answerRevocation(
  dependencies: ClientEndpoint & { readToken: ReadToken; revokeToken: RevokeToken },
  issuer: Issuer,
): (c: Context<RequestEnv>) => Promise<Response> {
  const { readToken, revokeToken } = dependencies
  return onTokenForm(dependencies, issuer, operationOf(issuer), async (c, { token, refuse, ...request }) => {
    const claims = await readToken(token, issuer.environment)
    // RFC 7009 §2.2: what is no token of ours needs no revocation, so that is done.
    if (claims?.client_id === request.credential.client.id) await revokeToken({ ...request, token: claims })
    // Another's stays as it is, and whoever asks learns nothing of it.
    else if (claims) refuse('not_own_token', claims.jti)
    return c.body(null, 200)
  })
}

export const describeRevocation = (issuer: Issuer): Description => ({
  id: operationOf(issuer),
  method: 'POST',
  path: `${issuer.path}/oauth2/revoke`,
  tag: 'OAuth',
  summary: 'Revoke a token',
  description:
    'Ends an access token of the client’s own, and with it every token that was had for it by token exchange (RFC 7009). ' +
    'Introspection and token exchange refuse it from then on, and the revocation feed says so (at once, or within ' +
    'seconds where it is long); an API that verifies offline without the feed accepts it until it expires. Whatever else is presented (revoked, expired, unknown, another ' +
    'client’s, garbage), nothing changes, and the answer is the same. After a 503 the token may still be good.',
  ...TOKEN_FORM,
  answers: { 200: { description: 'It is good no longer.', headers: { 'Cache-Control': '`no-store`.' } } },
})
