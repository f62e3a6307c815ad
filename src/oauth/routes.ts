/** OAuth's endpoints, of each issuer. What they refuse, they refuse as OAuth does (RFC 6749 §5.2). */
import { type Context, Hono } from 'hono'
import type { SigningAlgorithm } from '../config.ts'
import type { Description } from '../http/description.ts'
import { type Doors, throughDoor } from '../http/door.ts'
import { matches } from '../http/etag.ts'
import { resource } from '../http/methods.ts'
import { noStore, renderOAuthError } from '../http/oauth-error.ts'
import { contextOf, type RequestEnv } from '../http/request-context.ts'
import { answerPreflight } from '../network/origin.ts'
import { answerIntrospection, describeIntrospection } from './introspect.ts'
import { issuersOf } from './issuers.ts'
import { createMetadata, describeMetadata, type Metadata, metadataPlaces } from './metadata.ts'
import { answerRevocations, answerRevocationsPreflight, describeRevocations } from './revocations.ts'
import { answerRevocation, describeRevocation } from './revoke.ts'
import { createTokenDoor, describeToken } from './token.ts'

export type OAuthDependencies = { signingAlgorithm: SigningAlgorithm } & Parameters<
  typeof createTokenDoor
>[0] &
  Parameters<typeof answerIntrospection>[0] &
  Parameters<typeof answerRevocation>[0] &
  Parameters<typeof answerRevocations>[0]

export const createTokenDoors = (dependencies: Pick<OAuthDependencies, 'exchange'>, issuer: string): Doors =>
  Object.fromEntries(
    issuersOf(issuer).map((each) => [`${each.path}/oauth2/token`, createTokenDoor(dependencies, each)]),
  )

export function oauthRoutes(
  dependencies: Omit<OAuthDependencies, 'exchange'>,
  doors: Doors,
  issuer: string,
): Hono<RequestEnv> {
  const app = new Hono<RequestEnv>()
  app.onError((error, c) => renderOAuthError(c, error))
  for (const [path, door] of Object.entries(doors))
    resource(app, path, {
      POST: throughDoor(door),
      OPTIONS(c) {
        noStore(contextOf(c))
        return answerPreflight(c, 'POST, OPTIONS')
      },
    })
  for (const each of issuersOf(issuer)) {
    resource(app, `${each.path}/oauth2/introspect`, { POST: answerIntrospection(dependencies, each) })
    resource(app, `${each.path}/oauth2/revoke`, { POST: answerRevocation(dependencies, each) })
    resource(app, `${each.path}/oauth2/revocations`, {
      GET: answerRevocations(dependencies, each),
      OPTIONS: answerRevocationsPreflight,
    })
  }
  return app
}

/** Apart, because what is amiss there is a problem like any other. */
export function metadataRoutes(
  dependencies: Parameters<typeof createMetadata>[0],
  issuer: string,
): Hono<RequestEnv> {
  const app = new Hono<RequestEnv>()
  for (const each of issuersOf(issuer)) {
    const metadata = createMetadata(dependencies, each)
    for (const { path } of metadataPlaces(each))
      resource(app, path, { GET: (c) => answerMetadata(c, metadata()) })
  }
  return app
}

function answerMetadata(c: Context<RequestEnv>, { body, etag }: Metadata): Response {
  c.header('Cache-Control', 'public, max-age=300, stale-while-revalidate=60, stale-if-error=86400')
  c.header('ETag', etag)
  c.header('Access-Control-Allow-Origin', '*')
  if (matches(c.req.header('if-none-match'), etag)) return c.body(null, 304)
  // HEAD, too (RFC 9110 §9.3.2), which has no body to count. What is here is ASCII.
  c.header('Content-Length', String(body.length))
  return c.body(body, 200, { 'Content-Type': 'application/json' })
}

export const oauthDescriptions = (issuer: string): readonly Description[] =>
  issuersOf(issuer).flatMap((each) => [
    describeToken(each),
    describeIntrospection(each),
    describeRevocation(each),
    describeRevocations(each),
    ...describeMetadata(each),
  ])
