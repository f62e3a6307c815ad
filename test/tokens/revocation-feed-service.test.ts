/** The revocation feed over HTTP, from a revocation to its refusal by a verifier that is offline. */
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { createVerifier, type Verifier } from '#sdk'
import { createTcpProxy } from '../database/tcp-proxy.ts'
import { createTestDatabase } from '../support/database.ts'
import { apiOfOperator, apiWith } from '../support/management.ts'
import { mint, tokenOf } from '../support/mint.ts'
import { type SeededClient, seedClient, seedDelegation, seedOrganization } from '../support/seed.ts'
import {
  DEFAULT_AUDIENCE,
  ISSUER,
  SANDBOX_ISSUER,
  setUpService,
  startService,
  type TestService,
} from '../support/service.ts'

const { database, service } = await setUpService()
const { sql } = database
const operator = await apiOfOperator(service)

const PATHS = [
  ['/oauth2/revocations', ISSUER, ''],
  ['/sandbox/oauth2/revocations', SANDBOX_ISSUER, '/sandbox'],
] as const

let opened: Verifier[] = []
afterEach(() => {
  vi.restoreAllMocks()
  for (const verifier of opened) verifier.close()
  opened = []
})

/** As one that was started just now; with the keys and the feed of that instance. */
async function verifierOf({ url }: Pick<TestService, 'url'> = service): Promise<Verifier> {
  const verifier = createVerifier({
    issuer: SANDBOX_ISSUER,
    audience: DEFAULT_AUDIENCE,
    jwksUri: `${url}/sandbox/.well-known/jwks.json`,
    revocations: { maxStaleness: 60, uri: `${url}/sandbox/oauth2/revocations` },
  })
  opened.push(verifier)
  await verifier.preload()
  return verifier
}

const judge = (verifier: Verifier, token: string) =>
  verifier.verify(token).then(
    () => 'accepted',
    ({ code }) => code,
  )
const mintOne = async (client: SeededClient, organizationId = client.organizationId) =>
  (await tokenOf(await mint(service.url, { ...client, organizationId }))).token
const claimsOf = (jwt: string) => JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString())
const feedOf = async ({ url }: Pick<TestService, 'url'> = service) =>
  claimsOf(await (await fetch(`${url}/sandbox/oauth2/revocations`)).text())

describe.each(PATHS)('%s', (path, issuer, prefix) => {
  const get = (init?: RequestInit) => fetch(service.url + path, init)

  test('is a JWS of its own type, by a key of the issuer’s set', async () => {
    const response = await get()
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('application/jwt')
    const keys = createRemoteJWKSet(new URL(`${service.url}${prefix}/.well-known/jwks.json`))
    const { payload, protectedHeader } = await jwtVerify(await response.text(), keys, {
      issuer,
      typ: 'revocations+jwt',
      requiredClaims: ['iat', 'exp', 'ttl', 'revoked'],
    })
    expect(Object.keys(protectedHeader).sort()).toEqual(['alg', 'kid', 'typ'])
    expect(Object.keys(payload).sort()).toEqual(['exp', 'iat', 'iss', 'revoked', 'ttl'])
    expect(payload.ttl).toBe(30)
    expect(Object.keys(payload.revoked as object).sort()).toEqual(
      ['client_id', 'delegation', 'jti', 'key_id', 'kid', 'organization_id'].sort(),
    )
  })

  test('RFC 9111 §5.2.2.1, §5.1: may be kept for its ttl, less the age that it has', async () => {
    const { headers } = await get()
    expect(headers.get('cache-control')).toBe('public, max-age=30')
    expect(headers.get('age')).toMatch(/^[0-4]$/)
    const now = performance.now()
    vi.spyOn(performance, 'now').mockImplementation(() => now + 20_000)
    expect(Number((await get()).headers.get('age'))).toBeGreaterThanOrEqual(15)
  })

  test('RFC 9110 §13.1.2: 304 for the tag, in a list, weak, or any; repeating what caches need', async () => {
    const etag = (await get()).headers.get('etag') ?? ''
    expect(etag).toMatch(/^"[\w-]+"$/)
    for (const tags of [etag, `"x", ${etag}`, `W/${etag}`, '*']) {
      const response = await get({ headers: { 'If-None-Match': tags } })
      expect(response.status).toBe(304)
      expect(await response.text()).toBe('')
      expect(response.headers.get('etag')).toBe(etag)
      expect(response.headers.get('cache-control')).toBe('public, max-age=30')
      expect(response.headers.get('age')).toMatch(/^\d$/)
      expect(response.headers.get('date')).toBeTruthy()
      expect(response.headers.get('access-control-allow-origin')).toBe('*')
      expect(response.headers.get('access-control-expose-headers')).toBe('Age, ETag')
    }
    for (const tags of ['"x"', 'garbage', `${etag}x`])
      expect((await get({ headers: { 'If-None-Match': tags } })).status).toBe(200)
  })

  test('RFC 9110 §8.8.3: the same tag and the same bytes until something is revoked', async () => {
    const tagged = async () => {
      const response = await get()
      return [response.headers.get('etag'), await response.text()]
    }
    const before = await tagged()
    expect(await tagged()).toEqual(before)
    const client = await seedClient(sql, { environment: prefix === '' ? 'production' : 'sandbox' })
    expect((await operator.post(`/v2/clients/${client.clientId}/revoke`)).status).toBe(200)
    const after = await tagged()
    expect(after[0]).not.toBe(before[0])
    expect(after[1]).not.toBe(before[1])
  })

  test('RFC 9110 §9.3.2: HEAD gives the fields of GET and no body', async () => {
    const [got, head] = await Promise.all([get(), get({ method: 'HEAD' })])
    expect(head.status).toBe(200)
    expect(await head.text()).toBe('')
    for (const name of ['etag', 'cache-control', 'content-type', 'access-control-allow-origin'])
      expect(head.headers.get(name)).toBe(got.headers.get(name))
    expect(head.headers.get('age')).toMatch(/^\d$/)
  })

  test('RFC 9110 §15.5.6: other methods are refused by name', async () => {
    const response = await get({ method: 'POST' })
    expect(response.status).toBe(405)
    expect(response.headers.get('allow')).toBe('GET, HEAD, OPTIONS')
  })

  test('pages of any origin may read it, its age and its tag, and revalidate by themselves', async () => {
    const { headers } = await get({ headers: { Origin: 'https://anywhere.example' } })
    expect(headers.get('access-control-allow-origin')).toBe('*')
    expect(headers.get('access-control-expose-headers')).toBe('Age, ETag')
    const preflight = await get({
      method: 'OPTIONS',
      headers: {
        Origin: 'https://anywhere.example',
        'Access-Control-Request-Method': 'GET',
        'Access-Control-Request-Headers': 'if-none-match',
      },
    })
    expect(preflight.status).toBe(204)
    expect(preflight.headers.get('access-control-allow-origin')).toBe('*')
    expect(preflight.headers.get('access-control-allow-headers')).toBe('if-none-match')
  })
})

test('A32 a feed is no access token, and an access token is no feed', async () => {
  const client = await seedClient(sql)
  const feed = await (await fetch(`${service.url}/sandbox/oauth2/revocations`)).text()
  expect(await judge(await verifierOf(), feed)).toBe('type_not_allowed')
  expect((await apiWith(service.url, feed).get('/v2/tokens')).status).toBe(401)
  const token = await mintOne(client)
  const verifier = createVerifier({
    issuer: SANDBOX_ISSUER,
    audience: DEFAULT_AUDIENCE,
    jwksUri: `${service.url}/sandbox/.well-known/jwks.json`,
    revocations: { maxStaleness: 60 },
    fetch: (url, init) =>
      url.endsWith('/revocations') ? Promise.resolve(new Response(token)) : fetch(url, init),
  })
  opened.push(verifier)
  await expect(verifier.preload()).rejects.toMatchObject({ code: 'revocations_unavailable' })
})

describe('from the answer to a revocation on, this instance’s feed has it, and a verifier refuses', () => {
  type Case = { client: SeededClient; token: string; jti: string }
  const revoke = async (path: string, body?: object) => {
    const { status, text } = await operator.post(path, body)
    expect(status, text).toBe(200)
  }
  const kinds: [string, (its: Case) => Promise<void>][] = [
    ['a token', ({ jti }) => revoke(`/v2/tokens/${jti}/revoke`)],
    [
      'a key, with its tokens',
      ({ client }) => revoke(`/v2/keys/${client.keyId}/revoke`, { revoke_tokens: true }),
    ],
    [
      'a compromised key',
      ({ client }) => revoke(`/v2/keys/${client.keyId}/revoke`, { reason: 'compromised' }),
    ],
    ['a suspended client', ({ client }) => revoke(`/v2/clients/${client.clientId}/suspend`)],
    ['a revoked client', ({ client }) => revoke(`/v2/clients/${client.clientId}/revoke`)],
    [
      'a suspended organization',
      async ({ client }) => {
        const path = `/v2/organizations/${client.organizationId}`
        expect((await operator.patch(path, { status: 'suspended' })).status).toBe(200)
      },
    ],
  ]
  test.each(kinds)('%s', async (_, revokeIt) => {
    const [client, other] = await Promise.all([seedClient(sql), seedClient(sql)])
    const [token, others] = [await mintOne(client), await mintOne(other)]
    expect(await judge(await verifierOf(), token)).toBe('accepted')
    await revokeIt({ client, token, jti: claimsOf(token).jti })
    const verifier = await verifierOf()
    expect(await judge(verifier, token)).toBe('revoked')
    expect(await judge(verifier, others)).toBe('accepted')
  })

  const delegationKinds: [string, (its: { id: string; partnerId: string }) => Promise<void>][] = [
    ['a paused delegation', ({ id }) => revoke(`/v2/delegations/${id}/pause`)],
    ['a revoked delegation', ({ id }) => revoke(`/v2/delegations/${id}/revoke`)],
    [
      'a suspended partner',
      async ({ partnerId }) => {
        const path = `/v2/organizations/${partnerId}`
        expect((await operator.patch(path, { status: 'suspended' })).status).toBe(200)
      },
    ],
  ]
  test.each(delegationKinds)('%s', async (_, revokeIt) => {
    const organizationId = await seedOrganization(sql)
    const own = await seedClient(sql, { organizationId })
    const [partner, another] = await Promise.all([
      seedClient(sql, { kind: 'partner' }),
      seedClient(sql, { kind: 'partner' }),
    ])
    const id = await seedDelegation(sql, { organizationId, partnerId: partner.organizationId })
    await seedDelegation(sql, { organizationId, partnerId: another.organizationId })
    const token = await mintOne(partner, organizationId)
    const others = [await mintOne(own), await mintOne(another, organizationId)]
    expect(await judge(await verifierOf(), token)).toBe('accepted')
    await revokeIt({ id, partnerId: partner.organizationId })
    const verifier = await verifierOf()
    expect(await judge(verifier, token)).toBe('revoked')
    for (const other of others) expect(await judge(verifier, other)).toBe('accepted')
  })

  test('what was minted with a key before it was revoked without its tokens lives on', async () => {
    const client = await seedClient(sql)
    const token = await mintOne(client)
    await revoke(`/v2/keys/${client.keyId}/revoke`, { reason: 'superseded' })
    expect(await judge(await verifierOf(), token)).toBe('accepted')
  })
})

test('a verifier that runs follows, beside verification', async () => {
  const client = await seedClient(sql)
  const token = await mintOne(client)
  const verifier = await verifierOf()
  expect(await judge(verifier, token)).toBe('accepted')
  await operator.post(`/v2/clients/${client.clientId}/revoke`)
  const realNow = performance.now.bind(performance)
  vi.spyOn(performance, 'now').mockImplementation(() => realNow() + 20_000)
  await vi.waitFor(async () => expect(await judge(verifier, token)).toBe('revoked'), 5000)
})

test('a revocation on one instance is in the feed of another within seconds', async () => {
  const other = await startService(database)
  try {
    const client = await seedClient(sql)
    const token = await mintOne(client)
    await operator.post(`/v2/tokens/${claimsOf(token).jti}/revoke`)
    await vi.waitFor(async () => expect((await feedOf(other)).revoked.jti).toContain(claimsOf(token).jti), {
      timeout: 5000,
      interval: 50,
    })
    expect(await judge(await verifierOf(other), token)).toBe('revoked')
  } finally {
    await other.stop()
  }
})

test('A65 a revoked signing key: it is listed, another one signs the feed, verifiers follow', async () => {
  const other = await startService(database)
  try {
    const client = await seedClient(sql)
    const token = await mintOne(client)
    const running = await verifierOf()
    expect(await judge(running, token)).toBe('accepted')
    const { kid } = JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString())
    expect((await operator.post(`/v2/signing-keys/${kid}/revoke`)).status).toBe(200)

    const signedBy = async ({ url }: Pick<TestService, 'url'>) => {
      const jwt = await (await fetch(`${url}/sandbox/oauth2/revocations`)).text()
      return JSON.parse(Buffer.from(jwt.split('.')[0] ?? '', 'base64url').toString()).kid
    }
    expect(await signedBy(service)).not.toBe(kid)
    expect((await feedOf()).revoked.kid[kid]).toBeGreaterThan(Date.now() / 1000 + 8 * 86_400 - 60)
    // The other instance learns of it by its feed, not by the next refresh of its keys in half a minute.
    await vi.waitFor(async () => expect(await signedBy(other)).not.toBe(kid), { timeout: 5000, interval: 50 })
    expect(await (await fetch(`${other.url}/sandbox/.well-known/jwks.json`)).text()).not.toContain(kid)

    // It still has the old key set; half a minute after its last fetch, it asks for the key that it does not know.
    const realNow = performance.now.bind(performance)
    vi.spyOn(performance, 'now').mockImplementation(() => realNow() + 31_000)
    await vi.waitFor(async () => expect(await judge(running, token)).not.toBe('accepted'), 5000)
    const fresh = await mintOne(client)
    await vi.waitFor(async () => expect(await judge(running, fresh)).toBe('accepted'), 5000)
  } finally {
    await other.stop()
  }
})

test('F2 database down: the feed goes on from memory with a growing age; once it has expired, 503', async () => {
  const lonely = await createTestDatabase()
  const proxy = await createTcpProxy(`${lonely.target.host}/.s.PGSQL.${lonely.target.port}`)
  let ahead = 0
  const alone = await startService(
    { target: { ...lonely.target, host: '127.0.0.1', port: proxy.port } },
    { now: () => Date.now() + ahead },
  )
  const get = (headers = {}) => fetch(`${alone.url}/oauth2/revocations`, { headers })
  try {
    const before = await get()
    const jwt = await before.text()
    proxy.filter(() => () => false)
    proxy.cutAll()
    const realNow = performance.now.bind(performance)
    vi.spyOn(performance, 'now').mockImplementation(() => realNow() + 600_000)
    const after = await get()
    expect(await after.text()).toBe(jwt)
    expect(Number(after.headers.get('age'))).toBeGreaterThanOrEqual(600)
    const etag = before.headers.get('etag') ?? ''
    const revalidated = await get({ 'If-None-Match': etag })
    expect(revalidated.status).toBe(304)
    expect(Number(revalidated.headers.get('age'))).toBeGreaterThanOrEqual(600)

    ahead = 3_600_000
    const expired = await get()
    expect(expired.status).toBe(503)
    expect(expired.headers.get('retry-after')).toBe('1')
    expect(expired.headers.get('cache-control')).toBe('no-store')
    expect(expired.headers.get('access-control-allow-origin')).toBe('*')
    expect(await expired.json()).toMatchObject({ error: 'temporarily_unavailable' })
  } finally {
    proxy.filter(undefined)
    proxy.cutAll()
    await alone.stop()
    await proxy.close()
    await lonely.drop()
  }
})

test('it tells nothing but ids: no name, no address, no reason, no key', async () => {
  const client = await seedClient(sql)
  const token = await mintOne(client)
  await operator.post(`/v2/tokens/${claimsOf(token).jti}/revoke`, { reason: 'compromised' })
  await operator.post(`/v2/keys/${client.keyId}/revoke`, { reason: 'compromised' })
  const text = JSON.stringify(await feedOf())
  for (const told of [client.key, client.key.slice(0, 15), 'Acme', 'Integration', '127.0.0.1', 'compromised'])
    expect(text).not.toContain(told)
})
