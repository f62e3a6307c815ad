/** RFC 9701: JWT answers of introspection. */
import { createLocalJWKSet, decodeProtectedHeader, type JWK, jwtVerify } from 'jose'
import * as oauth from 'oauth4webapi'
import { describe, expect, test } from 'vitest'
import { createVerifier, VerificationError } from '../../sdk/src/index.ts'
import { isPreferred } from '../../src/oauth/accept.ts'
import { seedClient } from '../support/seed.ts'
import { DEFAULT_AUDIENCE, ISSUER, SANDBOX_ISSUER, setUpService } from '../support/service.ts'
import { ask, claimsOf, flip, introspect, tokenFrom } from '../tokens/calls.ts'

const { database, service } = await setUpService()
const { url } = service
const client = await seedClient(database.sql, { environment: 'production' })
const token = await tokenFrom(url, client)
const JWT = 'application/token-introspection+jwt'

const jwksOf = async (path = '') =>
  (await (await fetch(`${url}${path}/.well-known/jwks.json`)).json()) as { keys: JWK[] }
const introspectionJwt = async (presented: string, caller = client) => {
  const answer = await ask(url, 'introspect', caller, { token: presented }, { Accept: JWT })
  expect(answer.status).toBe(200)
  expect(answer.headers.get('content-type')).toBe(JWT)
  expect(answer.headers.get('cache-control')).toBe('no-store')
  return answer.text()
}

describe('§4 it is asked for in Accept', () => {
  test.each([
    [JWT, true],
    [JWT.toUpperCase(), true],
    [`${JWT};q=0.5`, true],
    [`${JWT}, */*`, true],
    [`${JWT}, application/*;q=0.9`, true],
    [`application/json;q=0.8, ${JWT};q=0.9`, true],
    [`application/json;q=0, ${JWT};q=0.001`, true],
    [`text/html, ${JWT};q=0.1`, true],
    [`${JWT}; q=0.5 , application/* ;q=0.4, */*;q=0.9`, true],
    [undefined, false],
    ['', false],
    ['*/*', false],
    ['application/*', false],
    ['application/json', false],
    [`${JWT};q=0`, false],
    [`${JWT};q=0.000, */*`, false],
    [`application/json, ${JWT}`, false],
    [`${JWT}, application/json`, false],
    [`application/json;q=0.9, ${JWT};q=0.8`, false],
    [`*/*, ${JWT};q=0.9`, false],
    [`${JWT};q=1.5`, false],
    [`${JWT}x`, false],
    ['application/jwt', false],
    ['text/html', false],
    [';;,,;q=,', false],
  ])('%j', (accept, isJwt) => {
    expect(isPreferred(accept, JWT, 'application/json')).toBe(isJwt)
  })

  test('and what is not asked for is JSON', async () => {
    for (const accept of ['application/json', '*/*', 'text/html', `${JWT};q=0`]) {
      const answer = await ask(url, 'introspect', client, { token }, { Accept: accept })
      expect(answer.headers.get('content-type')).toBe('application/json')
    }
  })

  test('A60 a long header costs nothing', () => {
    const began = performance.now()
    isPreferred(`${JWT};`.repeat(2000) + ','.repeat(20_000) + ' '.repeat(10_000), JWT, 'application/json')
    expect(performance.now() - began).toBeLessThan(100)
  })
})

describe('§5 the JWT', () => {
  test('header, claims and signature; no sub and no exp but those of the token, inside', async () => {
    const jwt = await introspectionJwt(token)
    const { payload, protectedHeader } = await jwtVerify(jwt, createLocalJWKSet(await jwksOf()), {
      issuer: ISSUER,
      audience: client.clientId,
      typ: 'token-introspection+jwt',
    })
    expect(protectedHeader).toEqual({
      alg: 'ES256',
      kid: decodeProtectedHeader(token).kid,
      typ: 'token-introspection+jwt',
    })
    expect(Object.keys(payload).sort()).toEqual(['aud', 'iat', 'iss', 'token_introspection'])
    expect(payload.aud).toBe(client.clientId)
    expect(Math.abs(Number(payload.iat) - Date.now() / 1000)).toBeLessThan(60)
    expect(payload.token_introspection).toEqual(await introspect(url, client, token))
    expect(payload.token_introspection).toMatchObject({ active: true, exp: claimsOf(token).exp })
  })

  test.each([
    ['garbage', () => 'x'],
    ['a forged token', () => flip(token)],
  ])('of %s: active false inside, and not one member more', async (_what, presented) => {
    const claims = claimsOf(await introspectionJwt(presented())) as object
    expect(claims).toMatchObject({ token_introspection: { active: false } })
    expect((claims as { token_introspection: object }).token_introspection).toEqual({ active: false })
  })

  test('of the sandbox: its own issuer and keys', async () => {
    const sandboxClient = await seedClient(database.sql)
    const jwt = await introspectionJwt(await tokenFrom(url, sandboxClient), sandboxClient)
    expect(claimsOf(jwt).iss).toBe(SANDBOX_ISSUER)
    await jwtVerify(jwt, createLocalJWKSet(await jwksOf('/sandbox')))
    await expect(jwtVerify(jwt, createLocalJWKSet(await jwksOf()))).rejects.toThrow()
  })

  test('§6 the metadata names what it is signed with', async () => {
    const metadata = await (await fetch(`${url}/.well-known/oauth-authorization-server`)).json()
    expect(metadata).toMatchObject({
      introspection_endpoint: `${ISSUER}/oauth2/introspect`,
      introspection_signing_alg_values_supported: ['ES256'],
    })
  })
})

describe('§8.1 one kind of JWT does not pass for another', () => {
  test('A32 no verifier takes an answer for an access token, whatever its audience', async () => {
    const jwt = await introspectionJwt(token)
    const jwks = (await jwksOf()) as never
    for (const audience of [client.clientId, DEFAULT_AUDIENCE]) {
      const verifier = createVerifier({ issuer: ISSUER, audience, jwks: () => jwks })
      await expect(verifier.verify(jwt)).rejects.toThrow(VerificationError)
      await expect(verifier.verify(jwt)).rejects.toMatchObject({ code: 'type_not_allowed' })
    }
    const verifier = createVerifier({ issuer: ISSUER, audience: DEFAULT_AUDIENCE, jwks: () => jwks })
    expect(await verifier.verify(token)).toMatchObject({ jti: claimsOf(token).jti })
    const answer = await fetch(`${url}/v2/organizations`, { headers: { Authorization: `Bearer ${jwt}` } })
    expect(answer.status).toBe(401)
  })

  test('introspection and revocation take it for no token', async () => {
    const jwt = await introspectionJwt(token)
    expect(await introspect(url, client, jwt)).toEqual({ active: false })
    expect((await ask(url, 'revoke', client, { token: jwt })).status).toBe(200)
    expect(await introspect(url, client, token)).toMatchObject({ active: true })
  })

  test('nor does who expects an answer take an access token', async () => {
    await expect(
      jwtVerify(token, createLocalJWKSet(await jwksOf()), { typ: 'token-introspection+jwt' }),
    ).rejects.toThrow()
  })
})

test('an independent client understands both forms', async () => {
  const jwks = await jwksOf()
  const as: oauth.AuthorizationServer = {
    issuer: ISSUER,
    introspection_endpoint: `${ISSUER}/oauth2/introspect`,
    jwks_uri: `${ISSUER}/.well-known/jwks.json`,
    introspection_signing_alg_values_supported: ['ES256'],
  }
  const options = {
    [oauth.customFetch]: (address: string, init: object) =>
      fetch(address.replace(ISSUER, url), init as RequestInit),
  }
  const asClient: oauth.Client = { client_id: client.clientId }
  for (const requestJwtResponse of [false, true]) {
    const response = await oauth.introspectionRequest(
      as,
      asClient,
      oauth.ClientSecretBasic(client.key),
      token,
      { ...options, requestJwtResponse } as never,
    )
    const copy = response.clone()
    const answer = await oauth.processIntrospectionResponse(
      as,
      { ...asClient, introspection_signed_response_alg: 'ES256' },
      response,
    )
    expect(answer).toMatchObject({ active: true, jti: claimsOf(token).jti })
    if (requestJwtResponse) await jwtVerify(await copy.text(), createLocalJWKSet(jwks), { issuer: ISSUER })
  }
})
