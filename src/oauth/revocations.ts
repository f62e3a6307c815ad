/** `GET /oauth2/revocations`: the revocation feed, from memory, for whoever asks. */
import type { Context } from 'hono'
import * as v from 'valibot'
import { ApiError } from '../errors.ts'
import type { Description } from '../http/description.ts'
import { matches } from '../http/etag.ts'
import type { RequestEnv } from '../http/request-context.ts'
import { FEED_TTL_SECONDS, type RevocationFeed } from '../tokens/revocation-feed.ts'
import type { Issuer } from './issuers.ts'

/** RFC 7519 §10.3.1. Of which kind the JWT is, its `typ` says; the kind has no media type of its own registered. */
const MEDIA_TYPE = 'application/jwt'

export const answerRevocations =
  ({ feed }: { feed: Pick<RevocationFeed, 'current'> }, { environment }: Issuer) =>
  (c: Context<RequestEnv>): Response => {
    // Of an error too: a page should be able to tell what it is.
    c.header('Access-Control-Allow-Origin', '*')
    const current = feed.current(environment)
    if (!current)
      throw new ApiError('unavailable', 'The feed has not been read yet.', {
        headers: { 'Retry-After': '1' },
      })
    c.header('Cache-Control', `public, max-age=${FEED_TTL_SECONDS}`)
    c.header('ETag', current.etag)
    // RFC 9111 §5.1: since it was validated at the origin. That is the database, of which this instance is a cache; a
    // cache before it counts on from here (§4.2.3), and asks again once the sum has reached max-age.
    c.header('Age', String(current.ageSeconds))
    // Neither is among those that scripts may read unasked (Fetch, "CORS-safelisted response-header name").
    c.header('Access-Control-Expose-Headers', 'Age, ETag')
    if (matches(c.req.header('if-none-match'), current.etag)) return c.body(null, 304)
    // HEAD, too (RFC 9110 §9.3.2), which has no body to count. What is here is ASCII.
    c.header('Content-Length', String(current.jwt.length))
    return c.body(current.jwt, 200, { 'Content-Type': MEDIA_TYPE })
  }

/** A page's own script may revalidate: for If-None-Match, its browser asks first (Fetch, "CORS-preflight fetch"). */
export const answerRevocationsPreflight = (c: Context<RequestEnv>): Response =>
  c.body(null, 204, {
    Allow: 'GET, HEAD, OPTIONS',
    'Access-Control-Allow-Origin': '*',
    'Access-Control-Allow-Methods': 'GET, HEAD',
    'Access-Control-Allow-Headers': 'if-none-match',
    'Access-Control-Max-Age': '86400',
  })

const FIELDS = {
  ETag: 'A strong tag of the JWT.',
  'Cache-Control': 'How long it may be kept.',
  Age: 'How many seconds ago it was last known to be complete.',
}

export const describeRevocations = ({ path, environment }: Issuer): Description => ({
  id: path === '' ? 'getRevocations' : 'getSandboxRevocations',
  method: 'GET',
  path: `${path}/oauth2/revocations`,
  tag: 'Verification',
  summary: `Read which ${environment} tokens have been revoked`,
  description:
    'For those who verify tokens offline: all revocations that still matter, as a signed JWT. Cacheable; served from ' +
    'memory, whether or not the database is up; readable by pages of any origin. `/docs/revocation-feed.md` is its format.',
  security: 'none',
  errorFormat: 'oauth',
  answers: {
    200: {
      description: 'A compact JWS with `typ: revocations+jwt`.',
      mediaType: MEDIA_TYPE,
      schema: v.pipe(
        v.string(),
        v.regex(/^[\w-]+\.[\w-]+\.[\w-]+$/),
        v.examples(['eyJ0eXAiOiJyZXZvY2F0aW9ucytqd3QifQ.eyJyZXZva2VkIjp7fX0.c2lnbmF0dXJl']),
      ),
      headers: FIELDS,
    },
    304: { description: 'Unchanged since the `ETag` in `If-None-Match`.', headers: FIELDS },
  },
  errors: ['server_error', 'unavailable'],
})
