/** oauth4webapi, the strictest OAuth client there is, does everything that it can do here, at both issuers. */
import { exportJWK, generateKeyPair } from 'jose'
import * as oauth from 'oauth4webapi'
import { describe, expect, test } from 'vitest'
import { apiOfOperator } from '../support/management.ts'
import { type SeededClient, seedClient } from '../support/seed.ts'
import { DEFAULT_AUDIENCE } from '../support/service.ts'
import { setUpAtOwnUrl } from './own-url.ts'

const { database, service, issuers } = await setUpAtOwnUrl()
/** Plain http is allowed on this loopback only. */
const insecure = { [oauth.allowInsecureRequests]: true }
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'

async function discover(issuer: string, algorithm: 'oauth2' | 'oidc' = 'oauth2') {
  const url = new URL(issuer)
  const response = await oauth.discoveryRequest(url, { algorithm, ...insecure })
  return oauth.processDiscoveryResponse(url, response)
}

async function mint(
  as: oauth.AuthorizationServer,
  client: oauth.Client,
  authentication: oauth.ClientAuth,
  parameters: Record<string, string> = {},
) {
  const response = await oauth.clientCredentialsGrantRequest(as, client, authentication, parameters, insecure)
  return oauth.processClientCredentialsResponse(as, client, response)
}

/** Has a public key registered for the client, and gives its private half. */
async function registerKey({ clientId }: SeededClient, algorithm: 'ES256' | 'RS256' | 'Ed25519') {
  const { publicKey, privateKey } = await generateKeyPair(algorithm)
  const jwk = { ...(await exportJWK(publicKey)), kid: 'mine', alg: algorithm, use: 'sig' }
  const api = await apiOfOperator(service)
  const answer = await api.post(`/v2/clients/${clientId}/jwks`, { keys: [jwk] })
  expect(answer.status, answer.text).toBeLessThan(300)
  return { key: privateKey, kid: 'mine' }
}

describe.each(['production', 'sandbox'] as const)('the %s issuer', (environment) => {
  const issuer = issuers[environment]
  const setUp = async () => {
    const seeded = await seedClient(database.sql, { environment })
    return { as: await discover(issuer), seeded, client: { client_id: seeded.clientId } }
  }

  test.each(['oauth2', 'oidc'] as const)('discovery by %s', async (algorithm) => {
    const as = await discover(issuer, algorithm)
    expect(as.issuer).toBe(issuer)
    expect(as.token_endpoint).toBe(`${issuer}/oauth2/token`)
  })

  test('the other issuer’s document is refused', async () => {
    const other = environment === 'production' ? 'sandbox' : 'production'
    const response = await oauth.discoveryRequest(new URL(issuers[other]), {
      algorithm: 'oauth2',
      ...insecure,
    })
    await expect(oauth.processDiscoveryResponse(new URL(issuer), response)).rejects.toThrow('issuer')
  })

  test.each([
    ['client_secret_basic', oauth.ClientSecretBasic],
    ['client_secret_post', oauth.ClientSecretPost],
  ] as const)('client_credentials by %s', async (method, authenticate) => {
    const { as, seeded, client } = await setUp()
    expect(as.token_endpoint_auth_methods_supported).toContain(method)
    const answer = await mint(as, client, authenticate(seeded.key), { scope: 'transactions:read' })
    expect(answer).toMatchObject({ token_type: 'bearer', scope: 'transactions:read', expires_in: 3600 })
    await expect(mint(as, client, authenticate(`${seeded.key.slice(0, -1)}x`))).rejects.toMatchObject({
      cause: expect.anything(),
      status: 401,
    })
  })

  test.each(['ES256', 'RS256', 'Ed25519'] as const)(
    'client_credentials by private_key_jwt, %s',
    async (algorithm) => {
      const { as, seeded, client } = await setUp()
      const authentication = oauth.PrivateKeyJwt(await registerKey(seeded, algorithm))
      const answer = await mint(as, client, authentication)
      expect(answer.scope?.split(' ').sort()).toEqual([...seeded.scopes].sort())
      // Another assertion each time: none is good twice.
      await mint(as, client, authentication)
      const stranger = await generateKeyPair('ES256')
      await expect(
        mint(as, client, oauth.PrivateKeyJwt({ key: stranger.privateKey, kid: 'mine' })),
      ).rejects.toMatchObject({ status: 401 })
    },
  )

  test('a request with the token passes its validation of RFC 9068', async () => {
    const { as, seeded, client } = await setUp()
    const { access_token: token } = await mint(as, client, oauth.ClientSecretBasic(seeded.key))
    const request = new Request('https://api.test/things', { headers: { Authorization: `Bearer ${token}` } })
    const claims = await oauth.validateJwtAccessToken(as, request, DEFAULT_AUDIENCE, insecure)
    expect(claims).toMatchObject({
      iss: issuer,
      client_id: seeded.clientId,
      organization_id: seeded.organizationId,
    })
    await expect(
      oauth.validateJwtAccessToken(as, request, 'https://other.test', insecure),
    ).rejects.toBeDefined()
  })

  test('token exchange, to fewer scopes', async () => {
    const { as, seeded, client } = await setUp()
    const authentication = oauth.ClientSecretBasic(seeded.key)
    const { access_token: token } = await mint(as, client, authentication)
    const response = await oauth.genericTokenEndpointRequest(
      as,
      client,
      authentication,
      TOKEN_EXCHANGE,
      { subject_token: token, subject_token_type: ACCESS_TOKEN, scope: 'person:write' },
      insecure,
    )
    const answer = await oauth.processGenericTokenEndpointResponse(as, client, response)
    expect(answer).toMatchObject({
      scope: 'person:write',
      token_type: 'bearer',
      issued_token_type: ACCESS_TOKEN,
    })
    const request = new Request('https://api.test/things', {
      headers: { Authorization: `Bearer ${answer.access_token}` },
    })
    const claims = await oauth.validateJwtAccessToken(as, request, DEFAULT_AUDIENCE, insecure)
    expect(claims.act).toEqual({ iss: issuer, sub: seeded.clientId })
  })

  test.each([false, true])('introspection, then revocation; as a JWT: %s', async (requestJwtResponse) => {
    const { as, seeded, client } = await setUp()
    const authentication = oauth.ClientSecretBasic(seeded.key)
    const { access_token: token } = await mint(as, client, authentication)
    const introspect = async () => {
      const response = await oauth.introspectionRequest(as, client, authentication, token, {
        requestJwtResponse,
        ...insecure,
      })
      const answer = await oauth.processIntrospectionResponse(as, client, response)
      if (requestJwtResponse) await oauth.validateApplicationLevelSignature(as, response, insecure)
      return answer
    }
    expect(await introspect()).toMatchObject({
      active: true,
      iss: issuer,
      client_id: seeded.clientId,
      aud: DEFAULT_AUDIENCE,
    })
    const response = await oauth.revocationRequest(as, client, authentication, token, insecure)
    await oauth.processRevocationResponse(response)
    expect(await introspect()).toEqual({ active: false })
  })

  test('introspection and revocation by private_key_jwt', async () => {
    const { as, seeded, client } = await setUp()
    const authentication = oauth.PrivateKeyJwt(await registerKey(seeded, 'ES256'))
    const { access_token: token } = await mint(as, client, authentication)
    const response = await oauth.introspectionRequest(as, client, authentication, token, insecure)
    expect((await oauth.processIntrospectionResponse(as, client, response)).active).toBe(true)
    await oauth.processRevocationResponse(
      await oauth.revocationRequest(as, client, authentication, token, insecure),
    )
  })

  test('what is refused is an error that it understands', async () => {
    const { as, seeded, client } = await setUp()
    const authentication = oauth.ClientSecretPost(seeded.key)
    await expect(mint(as, client, authentication, { scope: 'accounts:read' })).rejects.toMatchObject({
      name: 'ResponseBodyError',
      error: 'invalid_scope',
    })
    await expect(mint(as, client, authentication, { resource: 'https://other.test' })).rejects.toMatchObject({
      name: 'ResponseBodyError',
      error: 'invalid_target',
    })
  })
})
