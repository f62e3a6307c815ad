/** The application: what every request passes through, and where each slice is mounted. */
import { Hono } from 'hono'
import type { Logger } from 'pino'
import { ApiError } from './errors.ts'
import type { Exchange } from './exchange/exchange.ts'
import { exchangeRoutes } from './exchange/routes.ts'
import { resource } from './http/methods.ts'
import { describeError, renderError } from './http/problem.ts'
import { type RequestEnv, requestContext } from './http/request-context.ts'
import type { ClientAddress } from './network/client-address.ts'
import { jwksRoutes } from './signing/routes.ts'
import type { Signer } from './signing/signer.ts'

export function createApp(dependencies: {
  log: Logger
  issuer: string
  clientAddress: ClientAddress
  exchange: Exchange
  signer: Pick<Signer, 'jwks'>
  /** Whether tokens can be minted; undefined when they can, else why not. */
  findUnreadiness: () => Promise<string | undefined>
}): Hono<RequestEnv> {
  const { exchange, signer, findUnreadiness } = dependencies
  const app = new Hono<RequestEnv>()
  app.use(requestContext(dependencies))
  app.onError((error, c) => renderError(c, error))
  app.notFound((c) => renderError(c, new ApiError('not_found', 'There is no such resource.')))

  app.route('/', exchangeRoutes(exchange))
  app.route('/', jwksRoutes(signer))
  resource(app, '/errors/:code', { GET: describeError })

  // The process runs. Whether the database does is no reason to kill it.
  resource(app, '/livez', { GET: (c) => c.json({ status: 'live' }, 200, { 'Cache-Control': 'no-store' }) })
  resource(app, '/readyz', {
    async GET(c) {
      const reason = await findUnreadiness()
      const status = reason === undefined ? 200 : 503
      const body = reason === undefined ? { status: 'ready' } : { status: 'not_ready', reason }
      return c.json(body, status, {
        'Cache-Control': 'no-store',
        ...(reason === undefined ? {} : { 'Retry-After': '1' }),
      })
    },
  })
  return app
}
