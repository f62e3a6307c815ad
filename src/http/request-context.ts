/** What every request has: an id, a log that bears it, and the address it came from. */
import type { IncomingMessage } from 'node:http'
import type { HttpBindings } from '@hono/node-server'
import type { Context, MiddlewareHandler } from 'hono'
import { routePath } from 'hono/route'
import type { Logger } from 'pino'
import { ApiError, ERRORS } from '../errors.ts'

export type RequestContext = {
  /** Node's own, which say exactly what came, line by line. */
  incoming: IncomingMessage
  /** Fields that are set on it go out whatever is answered. */
  outgoing: Outgoing
  /** Never the caller's: logs must not be forged. */
  requestId: string
  /** Canonical; behind trusted proxies, what they say. */
  clientAddress: string
  issuer: string
  /** Not the request's: see requestLog. */
  log: Logger
}

/** Each field is set once: what is set again may go out twice. */
export type Outgoing = { setHeader(name: string, value: string): unknown }

export type RequestEnv = { Bindings: HttpBindings; Variables: { request: RequestContext } }

export type OpenRequest = (incoming: IncomingMessage, outgoing: Outgoing) => RequestContext

/** Gives each request an id of its own, which its answer bears. */
export function createOpenRequest(options: {
  log: Logger
  issuer: string
  clientAddress: (incoming: IncomingMessage) => string
}): OpenRequest {
  const { log, issuer, clientAddress } = options
  return (incoming, outgoing) => {
    const requestId = crypto.randomUUID()
    outgoing.setHeader('X-Request-Id', requestId)
    outgoing.setHeader('X-Content-Type-Options', 'nosniff')
    return { incoming, outgoing, requestId, clientAddress: clientAddress(incoming), issuer, log }
  }
}

/** Opens the request for the routes behind it, and logs how it ended. */
export function requestContext(open: OpenRequest, log: Logger): MiddlewareHandler<RequestEnv> {
  const logAnswer = createLogAnswer(log)
  return async (c, next) => {
    const request = open(c.env.incoming, c.env.outgoing)
    c.set('request', request)
    const answered = logAnswer(request)
    await next()
    answered?.(routePath(c, -1), c.res.status)
  }
}

export type LogAnswer = (request: RequestContext) => ((route: string, status: number) => void) | undefined

/**
 * The line of a request that has been answered; undefined where nobody wants it. It holds the route but never the path, the
 * query, a header or a body: that is where secrets travel.
 */
export function createLogAnswer(log: Logger): LogAnswer {
  if (!log.isLevelEnabled('debug')) return () => undefined
  return (request: RequestContext) => {
    const began = performance.now()
    return (route: string, status: number) =>
      requestLog(request).debug(
        { method: request.incoming.method, route, status, ms: performance.now() - began },
        'answered',
      )
  }
}

/** The log with the request's id and address on each line. Made when there is something to say: few requests have. */
export const requestLog = ({ log, requestId, clientAddress }: RequestContext): Logger =>
  log.child({ request_id: requestId, client_address: clientAddress })

export const contextOf = (c: Context<RequestEnv>): RequestContext => c.get('request')

/** Logs what was thrown, and says what the caller is told of it: what is no ApiError is ours, and tells nothing. */
export function reportError(request: RequestContext, error: unknown): ApiError {
  const log = requestLog(request)
  if (!(error instanceof ApiError)) {
    log.error({ err: error }, 'unexpected error')
    return new ApiError('server_error', 'Something went wrong on our side.', { cause: error })
  }
  const { status } = ERRORS[error.code]
  if (status === 503) log.warn({ code: error.code, ...outageOf(error.cause) }, error.detail)
  else if (status < 500) log.info({ code: error.code }, 'refused')
  return error
}

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
