/** The key sets: public, cacheable, served from memory whether or not the database is up. */
import { type Context, Hono } from 'hono'
import type { Environment } from '../database/schema.ts'
import { ApiError } from '../errors.ts'
import { resource } from '../http/methods.ts'
import type { RequestEnv } from '../http/request-context.ts'
import type { Signer } from './signer.ts'

/** How long verifiers may keep the set, and how long they may go on with it while we do not answer (RFC 5861). */
const CACHE_CONTROL = 'public, max-age=300, stale-while-revalidate=60, stale-if-error=86400'

export function jwksRoutes(signer: Pick<Signer, 'jwks'>): Hono<RequestEnv> {
  const app = new Hono<RequestEnv>()
  resource(app, '/.well-known/jwks.json', { GET: (c) => answer(c, 'production') })
  resource(app, '/sandbox/.well-known/jwks.json', { GET: (c) => answer(c, 'sandbox') })
  return app

  function answer(c: Context<RequestEnv>, environment: Environment) {
    const jwks = signer.jwks(environment)
    if (!jwks)
      throw new ApiError('unavailable', 'The keys have not been loaded yet.', {
        headers: { 'Retry-After': '1' },
      })
    c.header('Cache-Control', CACHE_CONTROL)
    c.header('ETag', jwks.etag)
    c.header('Access-Control-Allow-Origin', '*')
    if (matches(c.req.header('if-none-match'), jwks.etag)) return c.body(null, 304)
    return c.body(jwks.body, 200, { 'Content-Type': 'application/jwk-set+json' })
  }
}

/** RFC 9110 §13.1.2: `*` or a list of tags, compared weakly. */
function matches(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false
  if (ifNoneMatch.trim() === '*') return true
  return ifNoneMatch.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag)
}
