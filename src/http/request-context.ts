/** What every request has: an id, a log that bears it, and the address it came from. */
import type { HttpBindings } from '@hono/node-server'
import type { MiddlewareHandler } from 'hono'
import { routePath } from 'hono/route'
import type { Logger } from 'pino'

export type RequestEnv = {
  Bindings: HttpBindings
  Variables: {
    requestId: string
    log: Logger
    /** Canonical; behind trusted proxies, what they say. */
    clientAddress: string
    issuer: string
  }
}

/**
 * Gives each request an id of its own (never the caller's: logs must not be forged) and logs how it ended. The log
 * holds the route but never the path, the query, a header or a body: that is where secrets travel.
 */
export function requestContext(options: {
  log: Logger
  issuer: string
  clientAddress: (request: HttpBindings['incoming']) => string
}): MiddlewareHandler<RequestEnv> {
  const { log, issuer, clientAddress } = options
  const logEach = log.isLevelEnabled('debug')
  return async (c, next) => {
    const requestId = crypto.randomUUID()
    const address = clientAddress(c.env.incoming)
    c.set('requestId', requestId)
    c.set('issuer', issuer)
    c.set('clientAddress', address)
    c.set('log', log.child({ request_id: requestId, client_address: address }))
    c.header('X-Request-Id', requestId)
    c.header('X-Content-Type-Options', 'nosniff')
    const began = logEach ? performance.now() : 0
    await next()
    if (logEach)
      c.var.log.debug(
        {
          method: c.req.method,
          route: routePath(c, -1),
          status: c.res.status,
          ms: performance.now() - began,
        },
        'answered',
      )
  }
}
