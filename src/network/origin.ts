/** Cross-origin requests (the Fetch standard's CORS protocol): which browser pages may use a key. */
import type { Context } from 'hono'
import { fieldOf } from '../http/fields.ts'
import type { RequestContext } from '../http/request-context.ts'

/**
 * The origin of the page that asks, when it is another one: browsers name their own page's origin in every POST. A page of
 * the issuer's is Signet's own, its reference at /docs.
 */
export function foreignOrigin({ incoming, issuer }: RequestContext): string | undefined {
  const origin = fieldOf(incoming, 'origin')
  return origin === issuer ? undefined : origin
}

/** Answers a preflight. It carries no credential, so it can promise nothing for a key: the request itself is judged. */
export function answerPreflight(c: Context, allow: string): Response {
  const origin = c.req.header('origin')
  if (origin === undefined) return c.body(null, 204, { Allow: allow })
  return c.body(null, 204, {
    'Access-Control-Allow-Origin': origin,
    'Access-Control-Allow-Methods': allow,
    'Access-Control-Allow-Headers': 'authorization, x-api-key, content-type, idempotency-key',
    'Access-Control-Max-Age': '600',
    Vary: 'Origin',
  })
}

/** Lets the page at `origin` read the answer. To be called once the key's own allow-list holds that origin. */
export function allowOrigin({ outgoing }: RequestContext, origin: string): void {
  outgoing.setHeader('Access-Control-Allow-Origin', origin)
  outgoing.setHeader(
    'Access-Control-Expose-Headers',
    'RateLimit, RateLimit-Policy, Retry-After, X-Request-Id, Location, Idempotency-Replayed',
  )
  outgoing.setHeader('Vary', 'Origin')
}
