/** What every request has: an id, a log that bears it, and the address it came from. */
import type { HttpBindings } from '@hono/node-server'
import type { Context, MiddlewareHandler } from 'hono'
import { routePath } from 'hono/route'
import type { Logger } from 'pino'

export type RequestEnv = {
  Bindings: HttpBindings
  Variables: {
    requestId: string
    /** Not the request's: see requestLog. */
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
    c.set('log', log)
    c.header('X-Request-Id', requestId)
    c.header('X-Content-Type-Options', 'nosniff')
    const began = logEach ? performance.now() : 0
    await next()
    if (logEach)
      requestLog(c).debug(
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

/** The log with the request's id and address on each line. Made when there is something to say: few requests have. */
export const requestLog = (c: Context<RequestEnv>): Logger =>
  c.var.log.child({ request_id: c.var.requestId, client_address: c.var.clientAddress })

/**
 * Why something cannot be had at the moment, for the log. What is down says so in a line: there are as many as requests. What
 * says nothing of the kind may be a fault of ours, and goes there whole.
 */
export function outageOf(cause: unknown): object {
  // What the driver or the server said, from under drizzle's wrapping.
  const error = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause
  if (!(error instanceof Error) || (!('code' in error) && error.name !== 'TooLateError'))
    return { err: cause }
  const errors = error instanceof AggregateError ? error.errors : [error]
  const [message] = errors
    .map((each) => (each instanceof Error ? each.message : ''))
    .join('; ')
    .split('\n')
  return { reason: `${error.name}: ${message}`, ...('code' in error ? { cause_code: error.code } : {}) }
}
