import {
  createLocalJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  errors,
  type JSONWebKeySet,
  jwtVerify,
} from 'jose'
import { describe, expect, test } from 'vitest'
import { mint, tokenBody, tokenOf } from '../support/mint.ts'
import { seedClient, seedDelegation, seedOrganization } from '../support/seed.ts'
import { DEFAULT_AUDIENCE, ISSUER, SANDBOX_ISSUER, setUpService } from '../support/service.ts'

const { database, service } = await setUpService()

const PATHS = { production: '/.well-known/jwks.json', sandbox: '/sandbox/.well-known/jwks.json' }
const ISSUERS = { production: ISSUER, sandbox: SANDBOX_ISSUER }

async function keySetOf(environment: keyof typeof PATHS): Promise<JSONWebKeySet> {
  const response = await fetch(service.url + PATHS[environment])
  return (await response.json()) as JSONWebKeySet
}

const verify = async (token: string, environment: keyof typeof PATHS, issuer = ISSUERS[environment]) =>
  jwtVerify(token, createLocalJWKSet(await keySetOf(environment)), {
    issuer,
    audience: DEFAULT_AUDIENCE,
    typ: 'at+jwt',
    algorithms: ['ES256'],
  })

describe('the answer', () => {
  test('is what design §5.1 says', async () => {
    const client = await seedClient(database.sql)
    const before = Math.floor(Date.now() / 1000)
    const response = await mint(service.url, client, { body: tokenBody(client, { expiry_seconds: 900 }) })
    expect(response.headers.get('content-type')).toMatch(/^application\/json/)
    expect(response.headers.get('cache-control')).toBe('no-store')
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    expect(response.headers.get('access-control-allow-origin')).toBeNull()
    const answer = await tokenOf(response)
    expect(answer).toEqual({
      token: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]{86}$/),
      expiry: decodeJwt(answer.token).exp,
      organization_id: client.organizationId,
      organization_name: 'Acme',
      scopes: { organization_id: client.organizationId, scopes: client.scopes },
    })
    expect(answer.expiry).toBeGreaterThanOrEqual(before + 900)
    expect(answer.expiry).toBeLessThanOrEqual(Math.floor(Date.now() / 1000) + 900)
  })

  test('names the id of the request, which the ledger has too', async () => {
    const client = await seedClient(database.sql)
    const headers = { 'X-Request-Id': 'forged' }
    const response = await mint(service.url, client, { headers })
    const id = response.headers.get('x-request-id')
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/)
    const { token } = await tokenOf(response)
    const [row] = await database.sql`select * from issued_tokens where request_id = ${id}`
    expect(row).toMatchObject({
      jti: decodeJwt(token).jti,
      key_id: client.keyId,
      client_id: client.clientId,
      organization_id: client.organizationId,
      environment: 'sandbox',
      scopes: client.scopes,
      audience: DEFAULT_AUDIENCE,
      kid: decodeProtectedHeader(token).kid,
      client_ip: '127.0.0.1',
    })
    expect(row?.expires_at.getTime()).toBe(Number(decodeJwt(token).exp) * 1000)
    expect(row?.issued_at.getTime()).toBe(Number(decodeJwt(token).iat) * 1000)
  })
})

describe.each(['production', 'sandbox'] as const)('a token of %s', (environment) => {
  test('has the header and the claims of RFC 9068, and verifies', async () => {
    const client = await seedClient(database.sql, { environment })
    const { token, expiry } = await tokenOf(await mint(service.url, client))
    const { payload, protectedHeader } = await verify(token, environment)
    expect(protectedHeader).toEqual({
      alg: 'ES256',
      typ: 'at+jwt',
      kid: expect.stringMatching(/^[\w-]{43}$/),
    })
    expect(payload).toEqual({
      iss: ISSUERS[environment],
      sub: client.clientId,
      aud: DEFAULT_AUDIENCE,
      iat: expiry - 3600,
      exp: expiry,
      jti: expect.stringMatching(/^tok_[0-7][0-9a-hjkmnp-tv-z]{25}$/),
      client_id: client.clientId,
      scope: 'transactions:read person:write',
      organization_id: client.organizationId,
      environment,
      key_id: client.keyId,
    })
  })

  test('bears partner_id when a partner mints', async () => {
    const partnerId = await seedOrganization(database.sql, 'Partner')
    const organizationId = await seedOrganization(database.sql, 'Delegator')
    await seedDelegation(database.sql, { organizationId, partnerId, environment })
    const client = await seedClient(database.sql, { organizationId: partnerId, kind: 'partner', environment })
    const body = tokenBody({ organizationId, scopes: ['transactions:read'] })
    const answer = await tokenOf(await mint(service.url, client, { body }))
    expect(answer).toMatchObject({
      organization_id: organizationId,
      organization_name: 'Delegator',
      scopes: { organization_id: organizationId, scopes: ['transactions:read'] },
    })
    const { payload } = await verify(answer.token, environment)
    expect(payload).toMatchObject({
      sub: client.clientId,
      client_id: client.clientId,
      organization_id: organizationId,
      partner_id: partnerId,
      scope: 'transactions:read',
    })
  })
})

describe('A21 environments', () => {
  test('A21 their key sets share no key', async () => {
    const production = (await keySetOf('production')).keys.map((jwk) => jwk.kid)
    const sandbox = (await keySetOf('sandbox')).keys.map((jwk) => jwk.kid)
    expect(production).toHaveLength(1)
    expect(sandbox).toHaveLength(1)
    expect(production).not.toEqual(sandbox)
  })

  test('A21 a token of one fails in the other, whichever issuer the verifier expects', async () => {
    const [sandbox, production] = await Promise.all(
      (['sandbox', 'production'] as const).map(async (environment) => {
        const client = await seedClient(database.sql, { environment })
        return (await tokenOf(await mint(service.url, client))).token
      }),
    )
    for (const issuer of [ISSUER, SANDBOX_ISSUER]) {
      await expect(verify(sandbox ?? '', 'production', issuer)).rejects.toThrow(errors.JWKSNoMatchingKey)
      await expect(verify(production ?? '', 'sandbox', issuer)).rejects.toThrow(errors.JWKSNoMatchingKey)
    }
    await expect(verify(sandbox ?? '', 'sandbox', ISSUER)).rejects.toThrow(errors.JWTClaimValidationFailed)
  })

  test('A21 a delegation holds in its own environment only', async () => {
    const partnerId = await seedOrganization(database.sql)
    const organizationId = await seedOrganization(database.sql)
    await seedDelegation(database.sql, { organizationId, partnerId, environment: 'sandbox' })
    const body = tokenBody({ organizationId, scopes: ['transactions:read'] })
    const partner = { organizationId: partnerId, kind: 'partner' } as const
    const sandbox = await seedClient(database.sql, { ...partner, environment: 'sandbox' })
    const production = await seedClient(database.sql, { ...partner, environment: 'production' })
    expect((await mint(service.url, sandbox, { body })).status).toBe(200)
    expect((await mint(service.url, production, { body })).status).toBe(403)
  })
})

describe('the expiry', () => {
  test.each([
    [86_400, 3600],
    [3600, 3600],
    [3599, 3599],
    [300, 300],
  ])('under a ceiling of %i s is %i s when none is asked for', async (maxExpirySeconds, expected) => {
    const client = await seedClient(database.sql, { maxExpirySeconds })
    const { iat, exp } = decodeJwt((await tokenOf(await mint(service.url, client))).token)
    expect(Number(exp) - Number(iat)).toBe(expected)
  })

  test('may be as long as the ceiling', async () => {
    const client = await seedClient(database.sql)
    const body = tokenBody(client, { expiry_seconds: 86_400 })
    const { iat, exp } = decodeJwt((await tokenOf(await mint(service.url, client, { body }))).token)
    expect(Number(exp) - Number(iat)).toBe(86_400)
  })
})

describe('the audience', () => {
  test("is the client's, and may be named", async () => {
    const client = await seedClient(database.sql, { audience: 'https://orders.test' })
    for (const more of [{}, { audience: 'https://orders.test' }]) {
      const { token } = await tokenOf(await mint(service.url, client, { body: tokenBody(client, more) }))
      expect(decodeJwt(token).aud).toBe('https://orders.test')
    }
    const other = await mint(service.url, client, { body: tokenBody(client, { audience: DEFAULT_AUDIENCE }) })
    expect(other.status).toBe(400)
  })

  test('of management scopes is the issuer; no other token gets it', async () => {
    const scopes = ['signet:keys:read', 'orders:read']
    const client = await seedClient(database.sql, { scopes, environment: 'production', audience: ISSUER })
    const forScope = (scope: string, more = {}) =>
      mint(service.url, client, { body: tokenBody({ ...client, scopes: [scope] }, more) })
    const { token } = await tokenOf(await forScope('signet:keys:read'))
    expect(decodeJwt(token)).toMatchObject({ iss: ISSUER, aud: ISSUER, scope: 'signet:keys:read' })
    expect((await forScope('signet:keys:read', { audience: DEFAULT_AUDIENCE })).status).toBe(400)
    expect((await forScope('orders:read')).status).toBe(400)
    expect((await forScope('orders:read', { audience: ISSUER })).status).toBe(400)
  })
})
