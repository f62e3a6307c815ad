/** The key sets: public, cacheable, served from memory whether or not the database is up. */
import { type Context, Hono } from 'hono'
import * as v from 'valibot'
import type { Environment } from '../database/schema.ts'
import { ApiError } from '../errors.ts'
import type { Description } from '../http/description.ts'
import { matches } from '../http/etag.ts'
import { resource } from '../http/methods.ts'
import type { RequestEnv } from '../http/request-context.ts'
import type { Signer } from './signer.ts'

/** How long verifiers may keep the set, and how long they may go on with it while we do not answer (RFC 5861). */
const CACHE_CONTROL = 'public, max-age=300, stale-while-revalidate=60, stale-if-error=86400'

const CACHE_FIELDS = {
  ETag: 'A strong tag of the set.',
  'Cache-Control': 'How long verifiers may keep it.',
}

const text = (example: string) => v.pipe(v.string(), v.examples([example]))

const KeySet = v.pipe(
  v.strictObject({
    keys: v.array(
      v.looseObject({
        kty: text('EC'),
        kid: v.pipe(
          text('NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs'),
          v.description('Its RFC 7638 thumbprint.'),
        ),
        alg: text('ES256'),
        use: v.literal('sig'),
      }),
    ),
  }),
  v.title('KeySet'),
  v.description('Public keys as a JWK Set (RFC 7517 §5). Which further members a key has, its `kty` says.'),
)

export const jwksDescriptions: readonly Description[] = (
  [
    ['getKeySet', '', 'production'],
    ['getSandboxKeySet', '/sandbox', 'sandbox'],
  ] as const
).map(([id, prefix, environment]) => ({
  id,
  method: 'GET',
  path: `${prefix}/.well-known/jwks.json`,
  tag: 'Verification',
  summary: `Read the keys that verify ${environment} tokens`,
  description:
    'Cacheable; served from memory, whether or not the database is up; readable by pages of any origin.',
  security: 'none',
  answers: {
    200: {
      description: 'The keys: those that sign, those that will, and those whose tokens have not all expired.',
      mediaType: 'application/jwk-set+json',
      schema: KeySet,
      headers: CACHE_FIELDS,
    },
    304: { description: 'Unchanged since the `ETag` in `If-None-Match`.', headers: CACHE_FIELDS },
  },
  errors: ['server_error', 'unavailable'],
}))

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
    // HEAD, too (RFC 9110 §9.3.2), which has no body to count. What is here is ASCII.
    c.header('Content-Length', String(jwks.body.length))
    return c.body(jwks.body, 200, { 'Content-Type': 'application/jwk-set+json' })
  }
}
