import type { Sql } from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { mint } from '../support/mint.ts'
import { type SeededClient, seedClient, seedKey } from '../support/seed.ts'
import { startService, type TestService } from '../support/service.ts'

let database: TestDatabase
let instances: TestService[]
beforeAll(async () => {
  database = await createTestDatabase()
  instances = []
  for (let i = 0; i < 3; i++) instances.push(await startService(database, { logLevel: 'fatal' }))
})
afterAll(async () => {
  for (const instance of instances ?? []) await instance.stop()
  await database?.drop()
})

/** A window is a minute of the database's clock: begin where enough of one is left. */
async function awaitRoomInWindow(sql: Sql, seconds = 12) {
  for (;;) {
    const [row] = await sql`select 60 - extract(second from clock_timestamp())::float as left`
    if (row?.left >= seconds) return
    await new Promise((resolve) => setTimeout(resolve, row?.left * 1000 + 50))
  }
}

const mintOn = (client: SeededClient, count: number) =>
  Promise.all(
    Array.from({ length: count }, async (_, n) => {
      const instance = instances[n % instances.length]
      const response = await mint(instance?.url ?? '', client)
      await response.body?.cancel()
      return response
    }),
  )
const countOf = (responses: Response[], status: number) =>
  responses.filter((each) => each.status === status).length

test('a limit of N admits exactly N of 5 N parallel requests through three instances', async () => {
  for (const limit of [1, 7, 40]) {
    const client = await seedClient(database.sql, { rateLimitPerMinute: limit })
    await awaitRoomInWindow(database.sql)
    const responses = await mintOn(client, 5 * limit)
    expect(countOf(responses, 200)).toBe(limit)
    expect(countOf(responses, 429)).toBe(4 * limit)
    const [ledger] =
      await database.sql`select count(*)::integer as n from issued_tokens where client_id = ${client.clientId}`
    expect(ledger?.n).toBe(limit)
    const [usage] =
      await database.sql`select admitted, rate_limit from usage_minutes where client_id = ${client.clientId}`
    expect(usage).toMatchObject({ admitted: limit, rate_limit: limit })
  }
}, 180_000)

test('what remains is counted down without a gap, and a refusal says when to come back', async () => {
  const client = await seedClient(database.sql, { rateLimitPerMinute: 20 })
  await awaitRoomInWindow(database.sql)
  const responses = await mintOn(client, 21)
  const remaining = responses
    .filter((each) => each.status === 200)
    .map((each) => Number(/^"per-client";r=(\d+);t=\d+$/.exec(each.headers.get('ratelimit') ?? '')?.[1]))
  expect(remaining.sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, n) => n))
  const [refused] = responses.filter((each) => each.status === 429)
  const retryAfter = Number(refused?.headers.get('retry-after'))
  expect(retryAfter).toBeGreaterThanOrEqual(1)
  expect(retryAfter).toBeLessThanOrEqual(60)
  expect(refused?.headers.get('ratelimit')).toBe(`"per-client";r=0;t=${retryAfter}`)
  expect(refused?.headers.get('ratelimit-policy')).toBe('"per-client";q=20;w=60')
}, 90_000)

test('a limit counts the client, not the key: a second key brings no second quota', async () => {
  const client = await seedClient(database.sql, { rateLimitPerMinute: 10 })
  const second = { ...client, ...(await seedKey(database.sql, client.clientId, 'sandbox')) }
  await awaitRoomInWindow(database.sql)
  const both = (await Promise.all([mintOn(client, 15), mintOn(second, 15)])).flat()
  expect(countOf(both, 200)).toBe(10)
}, 90_000)

test('a limit of zero admits nothing', async () => {
  const client = await seedClient(database.sql, { rateLimitPerMinute: 0 })
  const responses = await mintOn(client, 3)
  expect(countOf(responses, 429)).toBe(3)
})

test('a limit raised within the minute admits the difference, and no more', async () => {
  const client = await seedClient(database.sql, { rateLimitPerMinute: 5 })
  await awaitRoomInWindow(database.sql)
  expect(countOf(await mintOn(client, 5), 200)).toBe(5)
  await database.sql`update clients set rate_limit_per_minute = 8 where id = ${client.clientId}`
  expect(countOf(await mintOn(client, 9), 200)).toBe(3)
}, 90_000)

test('refusals and uses are counted beside the ledger, off the request path', async () => {
  const client = await seedClient(database.sql, { rateLimitPerMinute: 2 })
  await awaitRoomInWindow(database.sql)
  // First: who has used up the window learns nothing but that.
  await mint(instances[0]?.url ?? '', client, {
    body: { scopes: { organization_id: client.organizationId, scopes: ['not:granted'] } },
  })
  await mintOn(client, 10)
  await expect
    .poll(
      async () =>
        (
          await database.sql`select admitted, limited, denied from usage_minutes where client_id = ${client.clientId}`
        )[0],
      { timeout: 8000 },
    )
    .toMatchObject({ admitted: 2, limited: 8, denied: 1 })
  await expect
    .poll(
      async () =>
        (
          await database.sql`select last_used_ip::text, last_used_at > now() - interval '1 minute' as recent
            from key_usage where key_id = ${client.keyId}`
        )[0],
      { timeout: 8000 },
    )
    .toMatchObject({ last_used_ip: '127.0.0.1/32', recent: true })
}, 90_000)
