/** F6: all connections to the database go on without a byte and without an end. Nothing but their own silence tells. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { basic } from '../oauth/calls.ts'
import { type ProxiedService, startBehindProxy, timed } from '../support/behind-proxy.ts'
import { apiOfOperator } from '../support/management.ts'
import { mint, tokenOf } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'

/** Of a request that mints, and of one that changes something. With as much again for a busy machine. */
const MINT_MS = 1_000 + 500
const MANAGE_MS = 4_000 + 1_000

let one: ProxiedService
beforeAll(async () => {
  one = await startBehindProxy()
})
afterAll(() => one?.end())

test('F6 whatever is asked for has its answer within its deadline, and every pool finds new connections by itself', async () => {
  const { service, database, proxy } = one
  const { sql } = database
  const client = await seedClient(sql, { environment: 'production' })
  const operator = await apiOfOperator(service)
  const { token } = await tokenOf(await mint(service.url, client))
  const asKey = { headers: { Authorization: `Bearer ${client.key}` } }
  const withBasic = new Headers([basic(client) as [string, string]])

  /** By what it needs: the admission, lookups of keys, introspection, management, key self-service, the feed. */
  const kinds: Record<string, { limit: number; ask: () => Promise<{ status: number; headers: Headers }> }> = {
    known: { limit: MINT_MS, ask: () => mint(service.url, client) },
    // Its reads end first; it never gets as far as the admission's silence.
    unknown: { limit: MINT_MS, ask: async () => mint(service.url, await cold()) },
    introspection: {
      limit: MINT_MS,
      ask: () =>
        fetch(`${service.url}/oauth2/introspect`, {
          method: 'POST',
          headers: withBasic,
          body: new URLSearchParams({ token }),
        }),
    },
    management: { limit: MANAGE_MS, ask: () => operator.get('/v2/organizations') },
    selfService: { limit: MANAGE_MS, ask: () => fetch(`${service.url}/v2/auth/validate`, asKey) },
    readiness: { limit: MINT_MS, ask: () => fetch(`${service.url}/readyz`) },
  }
  const strangers = await Promise.all(
    Array.from({ length: 60 }, () => seedClient(sql, { environment: 'production' })),
  )
  const cold = async () => strangers.pop() ?? client
  // All connections that each pool may have.
  for (const { ask } of Object.values(kinds))
    for (const { status } of await Promise.all(Array.from({ length: 6 }, ask))) expect(status).toBe(200)

  proxy.silence()
  const began = performance.now()
  const report = await Promise.all(
    Object.entries(kinds).map(async ([name, { limit, ask }]) => {
      let slowest = 0
      let refusals = 0
      for (;;) {
        const { status, milliseconds, retryAfter } = await timed(ask)
        slowest = Math.max(slowest, milliseconds)
        expect(milliseconds, name).toBeLessThan(limit)
        if (status === 200) break
        refusals++
        expect([name, status, retryAfter]).toEqual([name, 503, '1'])
        await sleep(50)
      }
      return { name, refusals, slowest, back: Math.round(performance.now() - began) }
    }),
  )
  for (const { name, refusals, slowest, back } of report)
    console.log(`F6: ${name}: ${refusals} refusals, the slowest after ${slowest} ms; back after ${back} ms`)
  for (const { name, back } of report) expect(back, name).toBeLessThan(6_000)
  // Of those that nobody asks: what gathered is written, the feed is read.
  const since = await sql`select clock_timestamp() as now`
  const key = await seedClient(sql, { environment: 'production' })
  expect((await mint(service.url, key)).status).toBe(200)
  await expect
    .poll(
      async () =>
        (await sql`select from key_usage where last_used_at >= ${since[0]?.now} and key_id = ${key.keyId}`)
          .count,
      {
        timeout: 15_000,
        interval: 200,
      },
    )
    .toBe(1)
  await expect
    .poll(async () => Number((await fetch(`${service.url}/oauth2/revocations`)).headers.get('age')), {
      timeout: 15_000,
      interval: 200,
    })
    .toBeLessThanOrEqual(3)
})
