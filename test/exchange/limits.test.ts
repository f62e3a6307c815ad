import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checksum, createKeyFormat } from '../../src/keys/key-format.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { mint, problemOf, rawRequest, tokenBody, untilMinuteHasLeft } from '../support/mint.ts'
import { type SeededClient, seedClient, seedOrganization } from '../support/seed.ts'
import { startService, type TestService } from '../support/service.ts'

let database: TestDatabase
let services: TestService[]
beforeAll(async () => {
  database = await createTestDatabase()
  const config = { trustedProxies: ['127.0.0.1'], failedAuthenticationsPerMinute: 5 }
  services = await Promise.all([1, 2, 3].map(() => startService(database, { config })))
})
afterAll(async () => {
  await Promise.all((services ?? []).map((service) => service.stop()))
  await database?.drop()
})

const url = (instance = 0) => services[instance % services.length]?.url ?? ''
const from = (address: string) => ({ headers: { 'X-Forwarded-For': address } })

describe('a client’s limit', () => {
  test('A53 is one for all instances, whatever address or spelling of the key', async () => {
    const client = await seedClient(database.sql, { rateLimitPerMinute: 20 })
    await untilMinuteHasLeft(database.sql, 10)
    const answers = await Promise.all(
      Array.from({ length: 75 }, (_, i) => {
        const address = i % 2 ? `203.0.113.${i}` : `2001:db8::${i.toString(16)}`
        // A key in another case is another text, and no key.
        const key = i % 5 === 4 ? client.key.toUpperCase() : client.key
        return mint(url(i), { ...client, key }, from(address))
      }),
    )
    const count = (status: number) => answers.filter((answer) => answer.status === status).length
    expect([count(200), count(429), count(401)]).toEqual([20, 40, 15])
    const rows = await database.sql`select from issued_tokens where client_id = ${client.clientId}`
    expect(rows).toHaveLength(20)
    const [usage] =
      await database.sql`select admitted from usage_minutes where client_id = ${client.clientId}`
    expect(usage?.admitted).toBe(20)
  })

  test('is told in the fields of the RateLimit draft, revision 11', async () => {
    const client = await seedClient(database.sql, { rateLimitPerMinute: 3 })
    await untilMinuteHasLeft(database.sql, 10)
    for (const remaining of [2, 1, 0]) {
      const { status, headers } = await mint(url(), client)
      expect([status, headers.get('ratelimit-policy')]).toEqual([200, '"per-client";q=3;w=60'])
      expect(headers.get('ratelimit')).toMatch(
        new RegExp(`^"per-client";r=${remaining};t=([1-9]|[1-5]\\d|60)$`),
      )
      expect(headers.get('retry-after')).toBeNull()
    }
    // The first is refused by the database, the second by memory, the third by the database for another instance.
    for (const instance of [0, 0, 1]) {
      const answer = await mint(url(instance), client)
      expect([answer.status, answer.headers.get('ratelimit-policy')]).toEqual([429, '"per-client";q=3;w=60'])
      const [, reset] = /^"per-client";r=0;t=(\d+)$/.exec(answer.headers.get('ratelimit') ?? '') ?? []
      expect(Number(reset)).toBeGreaterThanOrEqual(1)
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(Number(reset))
      expect(answer.headers.get('cache-control')).toBe('no-store')
      expect(await problemOf(answer)).toMatchObject({
        type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
        error: { code: 'rate_limited' },
        'violated-policies': ['per-client'],
      })
    }
  })

  test('counts tokens: a refusal costs nothing, and another client of the owner has its own', async () => {
    const organizationId = await seedOrganization(database.sql)
    const client = await seedClient(database.sql, { organizationId, rateLimitPerMinute: 2 })
    const sibling = await seedClient(database.sql, { organizationId, rateLimitPerMinute: 1 })
    await untilMinuteHasLeft(database.sql, 10)
    for (let i = 0; i < 5; i++) {
      const body = tokenBody({ ...client, scopes: ['admin'] })
      const refused = await mint(url(), client, { body })
      expect([refused.status, refused.headers.get('ratelimit')]).toEqual([403, null])
    }
    const statuses: number[] = []
    for (const each of [client, sibling, sibling, client, client])
      statuses.push((await mint(url(), each)).status)
    expect(statuses).toEqual([200, 200, 429, 200, 429])
  })
})

describe('failed authentications', () => {
  /** A key with the lookup id of a good one, a checksum that is right, and another secret. */
  const forge = (client: SeededClient) => {
    const body = client.key.slice(0, 21) + createKeyFormat('sgt').generate('sandbox').key.slice(21, 53)
    return body + checksum(body)
  }
  const unknown = () => createKeyFormat('sgt').generate('sandbox').key
  /** Neither type nor body would pass. */
  const askBadly = (key: string, address: string, instance = 0) =>
    rawRequest(url(instance), {
      headers: [
        ['Authorization', key],
        ['X-Forwarded-For', address],
      ],
      body: '{"a":1,"a":',
    })
  const fail = async (client: SeededClient, address: string, times: number) => {
    for (let i = 0; i < times; i++) expect((await askBadly(forge(client), address)).status).toBe(401)
  }

  test('A54 are throttled by source, before the body is read; never the client that they name', async () => {
    const client = await seedClient(database.sql, { rateLimitPerMinute: 10 })
    const remembered = await seedClient(database.sql)
    expect((await mint(url(), remembered, from('192.0.2.2'))).status).toBe(200)

    await fail(client, '192.0.2.1', 5)
    const blocked = await askBadly(forge(client), '192.0.2.1')
    expect(blocked.status).toBe(429)
    expect(Number(blocked.headers['retry-after'])).toBeGreaterThanOrEqual(1)
    expect(blocked.headers.ratelimit).toBeUndefined()
    expect(blocked.headers['ratelimit-policy']).toBeUndefined()
    const problem = await problemOf(blocked)
    expect(problem.error.code).toBe('rate_limited')
    expect(problem['violated-policies']).toBeUndefined()

    // The client itself has lost nothing, and who is known already is not held up by a neighbour.
    await untilMinuteHasLeft(database.sql, 5)
    const own = await mint(url(), client, from('192.0.2.3'))
    expect([own.status, own.headers.get('ratelimit')?.split(';')[1]]).toEqual([200, 'r=9'])
    expect((await mint(url(), remembered, from('192.0.2.1'))).status).toBe(200)
  })

  test('A54 cost no read once the source is blocked', async () => {
    const client = await seedClient(database.sql)
    await fail(client, '192.0.2.10', 5)
    await database.sql`alter table keys rename to keys_away`
    try {
      for (let i = 0; i < 10; i++) expect((await askBadly(forge(client), '192.0.2.10')).status).toBe(429)
      for (let i = 0; i < 10; i++) expect((await askBadly(unknown(), '192.0.2.10')).status).toBe(429)
      expect((await askBadly(unknown(), '192.0.2.11')).status).toBe(503)
    } finally {
      await database.sql`alter table keys_away rename to keys`
    }
  })

  test('A53 an IPv6 /64 is one source; the next one is another', async () => {
    const client = await seedClient(database.sql)
    for (const last of [':1', ':2', ':ffff', ':1:2:3', 'a:b:c:d'])
      await fail(client, `2001:db8:0:5:${last}`, 1)
    expect((await askBadly(forge(client), '2001:db8:0:5:ffff::1')).status).toBe(429)
    expect((await askBadly(forge(client), '2001:0DB8:0000:0005::9')).status).toBe(429)
    expect((await askBadly(forge(client), '2001:db8:0:6::1')).status).toBe(401)
  })

  test('A53 one address is one source, however it is written', async () => {
    const client = await seedClient(database.sql)
    for (const address of [
      '192.0.2.20',
      '::ffff:192.0.2.20',
      '::ffff:c000:214',
      '192.0.2.20:4711',
      '[::ffff:192.0.2.20]:1',
    ])
      await fail(client, address, 1)
    expect((await askBadly(forge(client), '192.0.2.20')).status).toBe(429)
  })

  test('A54 a revoked key that is remembered is throttled like an unknown one, and so is a malformed one', async () => {
    const client = await seedClient(database.sql)
    expect((await mint(url(), client, from('192.0.2.40'))).status).toBe(200)
    await database.sql`update keys set revoked_at = now() where id = ${client.keyId}`
    for (let i = 0; i < 5; i++) expect((await mint(url(), client, from('192.0.2.40'))).status).toBe(401)
    expect((await mint(url(), client, from('192.0.2.40'))).status).toBe(429)
    expect((await mint(url(), { ...client, key: 'sgt_live_x' }, from('192.0.2.40'))).status).toBe(429)
    expect((await mint(url(), client, from('192.0.2.41'))).status).toBe(401)
  })

  test('A54 refusals of a key that proved itself are not failures', async () => {
    const client = await seedClient(database.sql)
    const suspended = await seedClient(database.sql, { status: 'suspended' })
    for (let i = 0; i < 8; i++) {
      const body = tokenBody({ ...client, scopes: ['admin'] })
      expect((await mint(url(), client, { body, ...from('192.0.2.30') })).status).toBe(403)
      expect((await mint(url(), suspended, from('192.0.2.30'))).status).toBe(403)
    }
    expect((await askBadly(forge(client), '192.0.2.30')).status).toBe(401)
  })
})
