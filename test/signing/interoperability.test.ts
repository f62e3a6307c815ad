/** Tokens of each environment and algorithm, verified by libraries that nobody here wrote, fed only the JWKS URL. */
import { createRemoteJWKSet, jwtVerify } from 'jose'
import jsonwebtoken from 'jsonwebtoken'
import { JwksClient } from 'jwks-rsa'
import { allowInsecureRequests, validateJwtAccessToken } from 'oauth4webapi'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createVerifier } from '#sdk'
import type { SigningAlgorithm } from '../../src/config.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { mint } from '../support/mint.ts'
import { type SeededClient, seedClient } from '../support/seed.ts'
import { DEFAULT_AUDIENCE, ISSUER, startService, type TestService } from '../support/service.ts'

const ENVIRONMENTS = ['sandbox', 'production'] as const
const issuerOf = { production: ISSUER, sandbox: `${ISSUER}/sandbox` }

describe.each(['ES256', 'RS256', 'Ed25519'] satisfies SigningAlgorithm[])('%s', (alg) => {
  let database: TestDatabase
  let service: TestService
  beforeAll(async () => {
    database = await createTestDatabase()
    service = await startService(database, { config: { signingAlgorithm: alg } })
  })
  afterAll(async () => {
    await service?.stop()
    await database?.drop()
  })

  const jwksUrl = (environment: (typeof ENVIRONMENTS)[number]) =>
    `${service.url}${environment === 'sandbox' ? '/sandbox' : ''}/.well-known/jwks.json`
  const other = (environment: (typeof ENVIRONMENTS)[number]) =>
    environment === 'sandbox' ? 'production' : 'sandbox'

  async function mintToken(environment: (typeof ENVIRONMENTS)[number]) {
    const client: SeededClient = await seedClient(database.sql, { environment })
    const response = await mint(service.url, client)
    expect(response.status).toBe(200)
    const { token } = (await response.json()) as { token: string }
    return { token, client }
  }

  describe.each(ENVIRONMENTS)('%s', (environment) => {
    test('the SDK, and A21 not against the other environment', async () => {
      const { token, client } = await mintToken(environment)
      const verifierOf = (keysOf: (typeof ENVIRONMENTS)[number]) =>
        createVerifier({
          issuer: issuerOf[environment],
          audience: DEFAULT_AUDIENCE,
          jwksUri: jwksUrl(keysOf),
        })
      const claims = await verifierOf(environment).verify(token, {
        scopes: client.scopes,
        organizationId: client.organizationId,
      })
      expect(claims).toMatchObject({
        sub: client.clientId,
        organization_id: client.organizationId,
        environment,
      })
      await expect(verifierOf(other(environment)).verify(token)).rejects.toMatchObject({
        code: 'unknown_key',
      })
    })

    test('jose', async () => {
      const { token, client } = await mintToken(environment)
      const expected = { issuer: issuerOf[environment], audience: DEFAULT_AUDIENCE, typ: 'at+jwt' }
      const { payload } = await jwtVerify(token, createRemoteJWKSet(new URL(jwksUrl(environment))), expected)
      expect(payload.client_id).toBe(client.clientId)
      const foreign = createRemoteJWKSet(new URL(jwksUrl(other(environment))))
      await expect(jwtVerify(token, foreign, expected)).rejects.toThrow('no applicable key')
    })

    test('oauth4webapi, the strictest: RFC 9068 validation of a request', async () => {
      const { token, client } = await mintToken(environment)
      const request = new Request('https://api.test/things', {
        headers: { Authorization: `Bearer ${token}` },
      })
      const as = { issuer: issuerOf[environment], jwks_uri: jwksUrl(environment) }
      const claims = await validateJwtAccessToken(as, request, DEFAULT_AUDIENCE, {
        [allowInsecureRequests]: true,
        signingAlgorithms: [alg],
      })
      expect(claims.client_id).toBe(client.clientId)
    })

    // standards §13.3: it knows neither name of the Edwards curves.
    test.skipIf(alg === 'Ed25519')('jsonwebtoken with jwks-rsa (it knows no Edwards curves)', async () => {
      const { token, client } = await mintToken(environment)
      const verify = async (keysOf: (typeof ENVIRONMENTS)[number]) => {
        const kid = jsonwebtoken.decode(token, { complete: true })?.header.kid
        const key = await new JwksClient({ jwksUri: jwksUrl(keysOf) }).getSigningKey(kid)
        return jsonwebtoken.verify(token, key.getPublicKey(), {
          algorithms: [alg as 'ES256' | 'RS256'],
          issuer: issuerOf[environment],
          audience: DEFAULT_AUDIENCE,
        })
      }
      expect(await verify(environment)).toMatchObject({ client_id: client.clientId })
      await expect(verify(other(environment))).rejects.toThrow('Unable to find a signing key')
    })
  })

  test('the header is typ, alg and kid, and nothing that could lead a verifier elsewhere', async () => {
    const { token } = await mintToken('sandbox')
    const header = JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString())
    expect(header).toEqual({ alg, kid: expect.stringMatching(/^[\w-]{43}$/), typ: 'at+jwt' })
  })
})
