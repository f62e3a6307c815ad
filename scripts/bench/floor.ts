/**
 * The floor of `npm run bench`: the token endpoint that people write for themselves in an afternoon. It looks for an
 * Authorization header, parses and validates the body, and signs; it looks up no key, holds nobody to a limit and keeps
 * no record. Prints the port that it listens on.
 */
import { randomUUID } from 'node:crypto'
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { generateKeyPair, SignJWT } from 'jose'
import * as v from 'valibot'

const ISSUER = 'https://auth.floor.test'
const AUDIENCE = 'https://api.floor.test'

const TokenRequest = v.object({
  expiry_seconds: v.optional(v.pipe(v.number(), v.integer(), v.minValue(300), v.maxValue(86_400)), 3600),
  scopes: v.object({
    organization_id: v.pipe(v.string(), v.regex(/^org_[0-9a-z]{1,40}$/)),
    scopes: v.pipe(
      v.array(v.pipe(v.string(), v.regex(/^[a-z_]+:[a-z_]+$/))),
      v.minLength(1),
      v.maxLength(64),
    ),
  }),
})

const { privateKey } = await generateKeyPair('ES256')
const header = { alg: 'ES256', kid: 'floor-1', typ: 'at+jwt' }

const app = new Hono()
app.post('/v2/auth/token', async (c) => {
  const authorization = c.req.header('authorization')
  if (!authorization || authorization.length < 20) return c.json({ error: 'unauthorized' }, 401)
  let sent: unknown
  try {
    sent = await c.req.json()
  } catch {
    return c.json({ error: 'invalid_json' }, 400)
  }
  const parsed = v.safeParse(TokenRequest, sent)
  if (!parsed.success) return c.json({ error: 'invalid_request' }, 400)
  const { expiry_seconds, scopes } = parsed.output
  const iat = Math.floor(Date.now() / 1000)
  const token = await new SignJWT({
    iss: ISSUER,
    aud: AUDIENCE,
    sub: 'cli_01kb2d3v7fe8ntqr5x9w0c4m6h',
    client_id: 'cli_01kb2d3v7fe8ntqr5x9w0c4m6h',
    jti: randomUUID(),
    iat,
    exp: iat + expiry_seconds,
    organization_id: scopes.organization_id,
    scope: scopes.scopes.join(' '),
  })
    .setProtectedHeader(header)
    .sign(privateKey)
  return c.json({ token, expiry: iat + expiry_seconds, organization_id: scopes.organization_id, scopes })
})

serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, ({ port }) => console.log(port))
