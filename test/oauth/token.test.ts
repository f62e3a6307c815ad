/** The OAuth door of the exchange: what it has in common with `POST /v2/auth/token`, and with it. */
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { fingerprint, mint, rawRequest, untilMinuteHasLeft } from '../support/mint.ts'
import { type SeededClient, seedClient, seedDelegation, seedKey, seedOrganization } from '../support/seed.ts'
import { ISSUER, startService, type TestService } from '../support/service.ts'
import { askToken, basic, basicOf, exchangeToken, issuedOf, postForm, refusalOf, tokenPath } from './calls.ts'

let database: TestDatabase
let one: TestService
let other: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  const config = { trustedProxies: ['127.0.0.1'], failedAuthenticationsPerMinute: 20 }
  one = await startService(database, { config })
  other = await startService(database, { config })
})
afterAll(async () => {
  await one?.stop()
  await other?.stop()
  await database?.drop()
})

const invalidClient = [401, 'invalid_client']
const invalidRequest = [400, 'invalid_request']
let lastSource = 0
/** An address that has not failed yet. */
const newSource = () => {
  lastSource++
  return ['X-Forwarded-For', `198.51.100.${lastSource}`] as const
}
const ask = (service: TestService, client: SeededClient, parameters: Record<string, string> = {}) =>
  askToken(service.url, client, parameters, [newSource()])

const ledgerOf = async (clientId: string) =>
  database.sql`select * from issued_tokens where client_id = ${clientId} order by issued_at, jti`

describe('one use case with two doors', () => {
  test('A53 a client’s limit is one for both, for every grant and on every instance', async () => {
    const client = await seedClient(database.sql, { rateLimitPerMinute: 20 })
    await untilMinuteHasLeft(database.sql, 10)
    const { access_token } = issuedOf(await ask(one, client))
    const doors = [
      (url: string) => mint(url, client),
      (url: string) => askToken(url, client),
      (url: string) => exchangeToken(url, client, access_token),
    ]
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, i) => doors[i % 3]?.((i % 2 ? one : other).url)),
    )
    const count = (status: number) => answers.filter((answer) => answer?.status === status).length
    expect([count(200), count(429)]).toEqual([19, 41])
    expect(await ledgerOf(client.clientId)).toHaveLength(20)
  })

  test('each token has its row in the ledger, and names the request', async () => {
    const client = await seedClient(database.sql)
    const answer = await askToken(one.url, client, { scope: 'person:write' }, [
      ['X-Forwarded-For', '192.0.2.9'],
    ])
    const { jti, iat = 0, exp = 0 } = decodeJwt(issuedOf(answer).access_token)
    expect(await ledgerOf(client.clientId)).toMatchObject([
      {
        jti,
        key_id: client.keyId,
        organization_id: client.organizationId,
        environment: 'sandbox',
        scopes: ['person:write'],
        client_ip: '192.0.2.9',
        request_id: answer.headers['x-request-id'],
        subject_jtis: null,
        issued_at: new Date(iat * 1000),
        expires_at: new Date(exp * 1000),
      },
    ])
  })

  test('A19 clients of many tenants at once get their own tokens and nobody else’s', async () => {
    const clients: SeededClient[] = []
    for (let i = 0; i < 12; i++) {
      const client = await seedClient(database.sql)
      issuedOf(await askToken((i % 2 ? one : other).url, client))
      clients.push(client)
    }
    await Promise.all(
      Array.from({ length: 72 }, async (_, i) => {
        const client = clients[i % clients.length] as SeededClient
        const { access_token } = issuedOf(await askToken((i % 2 ? one : other).url, client))
        const { sub, organization_id, key_id } = decodeJwt(access_token)
        expect([sub, organization_id, key_id]).toEqual([client.clientId, client.organizationId, client.keyId])
      }),
    )
  })
})

describe('a revocation answered by one instance is heeded by another that remembered the key', () => {
  const warm = async (client: SeededClient, parameters = {}) => {
    for (const service of [one, other]) issuedOf(await ask(service, client, parameters))
  }

  test('of the key', async () => {
    const client = await seedClient(database.sql)
    await warm(client)
    await database.sql`update keys set revoked_at = now() where id = ${client.keyId}`
    for (const parameters of [{}, { scope: 'admin' }])
      expect(refusalOf(await ask(other, client, parameters))).toEqual(invalidClient)
    expect(await ledgerOf(client.clientId)).toHaveLength(2)
  })

  test.each(['suspended', 'revoked', 'pending_approval'])('the client is %s', async (status) => {
    const client = await seedClient(database.sql)
    await warm(client)
    await database.sql`update clients set status = ${status} where id = ${client.clientId}`
    expect(refusalOf(await ask(other, client))).toEqual(invalidClient)
  })

  test('the organization is suspended', async () => {
    const client = await seedClient(database.sql)
    await warm(client)
    await database.sql`update organizations set status = 'suspended' where id = ${client.organizationId}`
    expect(refusalOf(await ask(other, client))).toEqual(invalidClient)
  })

  test('the delegation is paused', async () => {
    const organizationId = await seedOrganization(database.sql)
    const partner = await seedClient(database.sql, { kind: 'partner' })
    const id = await seedDelegation(database.sql, { organizationId, partnerId: partner.organizationId })
    const parameters = { organization_id: organizationId }
    await warm(partner, parameters)
    await database.sql`update delegations set status = 'paused' where id = ${id}`
    expect(refusalOf(await ask(other, partner, parameters))).toEqual(invalidRequest)
  })

  test('suspended and active again: the next token is not among those that were revoked', async () => {
    const client = await seedClient(database.sql)
    await warm(client)
    await database.sql`update clients set status = 'suspended' where id = ${client.clientId}`
    await database.sql`update clients set status = 'active' where id = ${client.clientId}`
    const { iat = 0 } = decodeJwt(issuedOf(await ask(other, client)).access_token)
    const [cutOff] = await database.sql`select before::float8 from revocations
      where kind = 'client_id' and id = ${client.clientId}`
    expect(iat).toBeGreaterThanOrEqual(cutOff?.before)
  })
})

describe('the organization', () => {
  test('of a partner: one that has delegated, with its ceilings; none by default', async () => {
    const organizationId = await seedOrganization(database.sql)
    const partner = await seedClient(database.sql, { kind: 'partner', scopes: ['a', 'b'] })
    await seedDelegation(database.sql, {
      organizationId,
      partnerId: partner.organizationId,
      scopes: ['b', 'c'],
      maxExpirySeconds: 600,
    })
    const forIt = { organization_id: organizationId }
    const issued = issuedOf(await ask(one, partner, forIt))
    expect(issued).toMatchObject({ scope: 'b', expires_in: 600 })
    expect(decodeJwt(issued.access_token)).toMatchObject({
      organization_id: organizationId,
      partner_id: partner.organizationId,
    })
    for (const scope of ['a', 'c'])
      expect(refusalOf(await ask(one, partner, { ...forIt, scope }))).toEqual([400, 'invalid_scope'])
    const tooLong = { ...forIt, signet_expires_in_seconds: '601' }
    expect(refusalOf(await ask(one, partner, tooLong))).toEqual(invalidRequest)
    expect(refusalOf(await ask(one, partner))).toEqual(invalidRequest)
  })

  test('one that has not delegated, and one that there is not: the same bytes', async () => {
    const partner = await seedClient(database.sql, { kind: 'partner' })
    const client = await seedClient(database.sql)
    const stranger = await seedOrganization(database.sql)
    const paused = await seedOrganization(database.sql)
    await seedDelegation(database.sql, {
      organizationId: paused,
      partnerId: partner.organizationId,
      status: 'paused',
    })
    const refusals = []
    for (const each of [partner, client])
      for (const id of [stranger, paused, stranger.replace(/.$/, '0'), 'org_', 'x', '\u0000', "' or 1=1--"])
        refusals.push(fingerprint(await ask(one, each, { organization_id: id })))
    expect(refusals[0]).toMatchObject({ status: 400 })
    for (const refusal of refusals) expect(refusal).toEqual(refusals[0])
  })

  test('its own may be named', async () => {
    const client = await seedClient(database.sql)
    const own = { organization_id: client.organizationId }
    expect(issuedOf(await ask(one, client, own)).scope).toBe('transactions:read person:write')
  })
})

describe('pages', () => {
  const ORIGIN = 'https://app.test'
  const from = (origin: string, client: SeededClient, parameters: Record<string, string> = {}) =>
    askToken(one.url, client, parameters, [['Origin', origin], newSource()])

  test('of the client’s own origins may read the token, the limits and what is refused', async () => {
    const client = await seedClient(database.sql, { allowedOrigins: [ORIGIN] })
    const answer = await from(ORIGIN, client)
    expect(answer.status).toBe(200)
    expect(answer.headers['access-control-allow-origin']).toBe(ORIGIN)
    expect(answer.headers['access-control-expose-headers']).toContain(
      'RateLimit, RateLimit-Policy, Retry-After',
    )
    expect(answer.headers['access-control-allow-credentials']).toBeUndefined()
    for (const parameters of [{ scope: 'admin' }, { scope: '"' }, { grant_type: 'password' }]) {
      const refused = await from(ORIGIN, client, parameters)
      expect(refused.status).toBe(400)
      expect(refused.headers['access-control-allow-origin']).toBe(ORIGIN)
    }
    expect((await from(ISSUER, client)).status).toBe(200)
  })

  test('of others get the bytes of a failed authentication, as all do whose client is not taken', async () => {
    const client = await seedClient(database.sql, { allowedOrigins: [ORIGIN] })
    const suspended = await seedClient(database.sql, { allowedOrigins: [ORIGIN], status: 'suspended' })
    const expected = fingerprint(await from(ORIGIN, { ...client, key: 'x' }))
    expect(expected).toMatchObject({ status: 401 })
    expect(JSON.stringify(expected)).not.toContain('access-control')
    for (const origin of ['https://evil.test', 'null', `${ORIGIN}.evil`, `${ORIGIN}/`, '*'])
      expect(fingerprint(await from(origin, client))).toEqual(expected)
    expect(fingerprint(await from(ORIGIN, suspended))).toEqual(expected)
  })

  test('a preflight tells how to ask', async () => {
    for (const environment of ['production', 'sandbox'] as const) {
      const answer = await rawRequest(one.url, {
        method: 'OPTIONS',
        path: tokenPath(environment),
        headers: [
          ['Origin', ORIGIN],
          ['Access-Control-Request-Method', 'POST'],
        ],
      })
      expect(answer.status).toBe(204)
      expect(answer.headers).toMatchObject({
        'access-control-allow-origin': ORIGIN,
        'access-control-allow-methods': 'POST, OPTIONS',
      })
    }
  })
})

describe('A54 failed authentications', () => {
  const GRANT = { grant_type: 'client_credentials' }
  const wrong = (client: SeededClient, source: readonly [string, string]) =>
    postForm(one.url, GRANT, { headers: [['Authorization', basicOf(client.clientId, 'x')], source] })

  test('A54 are throttled by source, by both doors together; never the client that they name', async () => {
    const client = await seedClient(database.sql)
    const source = newSource()
    for (let i = 0; i < 10; i++) expect(refusalOf(await wrong(client, source))).toEqual(invalidClient)
    for (let i = 0; i < 10; i++)
      expect(
        (await mint(one.url, { ...client, key: 'x' }, { headers: { [source[0]]: source[1] } })).status,
      ).toBe(401)
    const blocked = await wrong(client, source)
    expect(refusalOf(blocked)).toEqual([429, 'temporarily_unavailable'])
    expect(Number(blocked.headers['retry-after'])).toBeGreaterThanOrEqual(1)
    expect(blocked.headers.ratelimit).toBeUndefined()
    expect((await ask(one, client)).status).toBe(200)
  })

  test('A54 a client that tries Basic first and the body then is not locked out by itself', async () => {
    const client = await seedClient(database.sql)
    const source = newSource()
    const inBody = { ...GRANT, client_id: client.clientId, client_secret: client.key }
    for (let i = 0; i < 30; i++) {
      expect((await wrong(client, source)).status).toBeGreaterThanOrEqual(401)
      expect((await postForm(one.url, inBody, { headers: [source] })).status).toBe(200)
    }
  })

  test('A54 what a good client is refused is no failed authentication', async () => {
    const client = await seedClient(database.sql)
    const source = newSource()
    for (let i = 0; i < 25; i++)
      expect((await askToken(one.url, client, { scope: 'admin' }, [source])).status).toBe(400)
    expect(refusalOf(await wrong(client, source))).toEqual(invalidClient)
  })

  test('another client’s key, though remembered, is no proof of being the one that was named', async () => {
    const [client, neighbour] = [await seedClient(database.sql), await seedClient(database.sql)]
    expect((await ask(one, neighbour)).status).toBe(200)
    const { key } = neighbour
    expect(refusalOf(await ask(one, { ...client, key }))).toEqual(invalidClient)
    const second = await seedKey(database.sql, client.clientId, 'sandbox')
    expect((await ask(one, { ...client, key: second.key })).status).toBe(200)
  })
})

test('refusals are in the audit trail, with the operation; the reason, which the answer does not give, too', async () => {
  const own = await startService(database, { config: { trustedProxies: ['127.0.0.1'] } })
  const client = await seedClient(database.sql)
  const suspended = await seedClient(database.sql, { status: 'suspended' })
  const production = await seedClient(database.sql, { environment: 'production' })
  const organizationId = await seedOrganization(database.sql)
  const source = ['X-Forwarded-For', '203.0.113.77'] as const
  const askOwn = (who: SeededClient, parameters: Record<string, string> = {}) =>
    askToken(own.url, who, parameters, [source])
  await askOwn(client, { scope: 'admin' })
  await askOwn(client, { scope: '"' })
  await askOwn(client, { grant_type: 'password' })
  await askOwn(client, { organization_id: organizationId })
  await askOwn(suspended)
  await askOwn({ ...client, key: 'x' })
  await exchangeToken(own.url, client, 'x')
  await postForm(own.url, 'grant_type=client_credentials', {
    headers: [source, basic(client), basic(client)],
  })
  await askOwn(production, { scope: 'admin' })
  // Nobody is named, and nothing was asked for: it is in the log, and not in the trail.
  await postForm(own.url, '', { headers: [source] })
  await own.stop()
  const events = await database.sql`
    select actor_client_id as client, actor_key_id as key, target_id as target, details ->> 'operation' as operation,
      details ->> 'code' as code
    from audit_events where action = 'token.refused' and (client_ip = '203.0.113.77'
      or details ->> 'code' = 'subject_invalid') order by code, operation`
  const ofClient = { client: client.clientId, key: client.keyId, operation: 'issueToken' }
  const inSandbox = { ...ofClient, operation: 'issueSandboxToken', target: null }
  const nobody = { client: null, key: null, target: null, operation: 'issueSandboxToken' }
  expect(events.map((event) => ({ ...event }))).toEqual([
    { ...inSandbox, client: suspended.clientId, key: suspended.keyId, code: 'client_suspended' },
    { ...inSandbox, code: 'invalid_scope' },
    { ...nobody, code: 'key_malformed' },
    { ...inSandbox, target: organizationId, code: 'organization_not_allowed' },
    { ...inSandbox, target: client.organizationId, code: 'scope_not_granted' },
    {
      ...ofClient,
      client: production.clientId,
      key: production.keyId,
      target: production.organizationId,
      code: 'scope_not_granted',
    },
    { ...nobody, code: 'several_credentials' },
    { ...inSandbox, code: 'subject_invalid' },
    { ...inSandbox, code: 'unsupported_grant_type' },
  ])
})
