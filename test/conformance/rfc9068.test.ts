/** RFC 9068: the access token, of both issuers and by each of the doors. */
import {
  createRemoteJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  generateKeyPair,
  jwtVerify,
  SignJWT,
} from 'jose'
import * as oauth from 'oauth4webapi'
import { describe, expect, test } from 'vitest'
import { askToken, exchangeToken, issuedOf } from '../oauth/calls.ts'
import { mint, tokenOf } from '../support/mint.ts'
import { type SeededClient, seedClient, seedDelegation, seedOrganization } from '../support/seed.ts'
import { DEFAULT_AUDIENCE, ISSUER, SANDBOX_ISSUER, setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const { url } = service
const ISSUERS = { production: ISSUER, sandbox: SANDBOX_ISSUER }
const jwksOf = (environment: keyof typeof ISSUERS) =>
  `${url}${environment === 'production' ? '' : '/sandbox'}/.well-known/jwks.json`

const DOORS = {
  '/v2/auth/token': async (client: SeededClient) => (await tokenOf(await mint(url, client))).token,
  client_credentials: async (client: SeededClient) => issuedOf(await askToken(url, client)).access_token,
  'token exchange': async (client: SeededClient) => {
    const { access_token } = issuedOf(await askToken(url, client))
    return issuedOf(await exchangeToken(url, client, access_token)).access_token
  },
}

const matrix = (['production', 'sandbox'] as const).flatMap((environment) =>
  (Object.keys(DOORS) as (keyof typeof DOORS)[]).map((door) => [environment, door] as const),
)

describe.each(matrix)('of %s, by %s', (environment, door) => {
  const issue = async () => {
    const client = await seedClient(database.sql, { environment })
    return { client, token: await DOORS[door](client) }
  }

  test('§2.1 the header: typ at+jwt, alg, kid, and nothing that leads elsewhere', async () => {
    const { token } = await issue()
    expect(decodeProtectedHeader(token)).toEqual({
      typ: 'at+jwt',
      alg: 'ES256',
      kid: expect.stringMatching(/^[\w-]{43}$/),
    })
    // RFC 7518 §3.4: r and s, 64 bytes.
    expect(Buffer.from(token.split('.')[2] ?? '', 'base64url')).toHaveLength(64)
  })

  test('§2.2 the claims, each with its type', async () => {
    const { client, token } = await issue()
    const claims = decodeJwt(token)
    const now = Math.floor(Date.now() / 1000)
    expect(claims).toEqual({
      iss: ISSUERS[environment],
      sub: client.clientId,
      aud: DEFAULT_AUDIENCE,
      iat: expect.any(Number),
      exp: expect.any(Number),
      // A UUIDv7 (RFC 9562 §5.7): a millisecond, and 74 random bits. It is a name, not a secret.
      jti: expect.stringMatching(/^tok_[0-7][0-9a-hjkmnp-tv-z]{25}$/),
      client_id: client.clientId,
      // §2.2.3
      scope: 'transactions:read person:write',
      // Private ones, documented (§2.2.2).
      organization_id: client.organizationId,
      environment,
      key_id: client.keyId,
      ...(door === 'token exchange'
        ? {
            act: { iss: ISSUERS[environment], sub: client.clientId },
            subject_jtis: [expect.stringMatching(/^tok_/)],
          }
        : {}),
    })
    const { iat = 0, exp = 0 } = claims
    expect([iat, exp].every(Number.isSafeInteger)).toBe(true)
    expect(Math.abs(now - iat)).toBeLessThanOrEqual(2)
    expect(exp - iat).toBeLessThanOrEqual(3600)
    expect(token.length).toBeLessThan(2048)
  })

  test('§4 an independent verifier takes it', async () => {
    const { client, token } = await issue()
    const { payload } = await jwtVerify(token, createRemoteJWKSet(new URL(jwksOf(environment))), {
      issuer: ISSUERS[environment],
      audience: DEFAULT_AUDIENCE,
      typ: 'at+jwt',
      algorithms: ['ES256'],
      requiredClaims: ['iss', 'exp', 'aud', 'sub', 'client_id', 'iat', 'jti'],
    })
    expect(payload.sub).toBe(client.clientId)
  })

  test('§4 oauth4webapi’s validateJwtAccessToken takes it, and no other issuer’s', async () => {
    const { client, token } = await issue()
    const validate = (of: keyof typeof ISSUERS, audience = DEFAULT_AUDIENCE) =>
      oauth.validateJwtAccessToken(
        { issuer: ISSUERS[of], jwks_uri: jwksOf(of) },
        new Request('https://api.test/orders', { headers: { Authorization: `Bearer ${token}` } }),
        audience,
        { [oauth.allowInsecureRequests]: true },
      )
    expect(await validate(environment)).toMatchObject({ client_id: client.clientId, sub: client.clientId })
    await expect(validate(environment === 'production' ? 'sandbox' : 'production')).rejects.toThrow()
    await expect(validate(environment, 'https://other.test')).rejects.toThrow()
  })
})

test('§2.2 jti: never the same one', async () => {
  const client = await seedClient(database.sql)
  const answers = await Promise.all(Array.from({ length: 100 }, () => askToken(url, client)))
  expect(new Set(answers.map((answer) => decodeJwt(issuedOf(answer).access_token).jti)).size).toBe(100)
})

test('§5 sub is the client, by an id that it cannot choose and no user can have', async () => {
  const client = await seedClient(database.sql)
  const { access_token } = issuedOf(
    await askToken(url, client, { sub: 'user_1', client_id: client.clientId }),
  )
  expect(decodeJwt(access_token).sub).toMatch(/^cli_[0-9a-z]{26}$/)
})

test('§5 of a partner, it names for whom and by whom', async () => {
  const organizationId = await seedOrganization(database.sql)
  const partner = await seedClient(database.sql, { kind: 'partner' })
  await seedDelegation(database.sql, { organizationId, partnerId: partner.organizationId })
  const { access_token } = issuedOf(await askToken(url, partner, { organization_id: organizationId }))
  expect(decodeJwt(access_token)).toMatchObject({
    sub: partner.clientId,
    organization_id: organizationId,
    partner_id: partner.organizationId,
  })
})

test('§2.1 A27 a token that is not signed with a published key is none: where one is taken, it is refused', async () => {
  const client = await seedClient(database.sql)
  const { access_token } = issuedOf(await askToken(url, client))
  const { privateKey } = await generateKeyPair('ES256')
  const header = decodeProtectedHeader(access_token) as { alg: string }
  const forged = await new SignJWT(decodeJwt(access_token)).setProtectedHeader(header).sign(privateKey)
  const [, payload] = access_token.split('.')
  const none = `${Buffer.from('{"typ":"at+jwt","alg":"none"}').toString('base64url')}.${payload}.`
  for (const token of [forged, none]) expect((await exchangeToken(url, client, token)).status).toBe(400)
})
