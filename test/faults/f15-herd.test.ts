/** F15: the database is back, and everybody asks at once for keys that nobody remembers. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createPolicyCache } from '../../src/database/policy-cache.ts'
import { type ProxiedService, startBehindProxy } from '../support/behind-proxy.ts'
import { mint } from '../support/mint.ts'
import { waitFor } from '../support/process.ts'
import { type SeededClient, seedClient } from '../support/seed.ts'

/** Of the pool that reads keys. */
const LOOKUP_CONNECTIONS = 4
const STRANGERS = 150
const KEYS = 10_000

let one: ProxiedService
beforeAll(async () => {
  one = await startBehindProxy()
})
afterAll(() => one?.end())

test('F15 ten thousand cold keys, each asked for three times: one read for each that is let in, never more at once than are bounded', async () => {
  let running = 0
  let most = 0
  const reads = new Map<string, number>()
  const cache = createPolicyCache<{ id: string }>({
    max: 20_000,
    async read(id) {
      reads.set(id, (reads.get(id) ?? 0) + 1)
      most = Math.max(most, ++running)
      await sleep(1)
      running--
      return { id }
    },
  })
  const outcomes = await Promise.allSettled(
    Array.from({ length: 3 * KEYS }, (_, n) => cache.find(`key ${Math.floor(n / 3)}`)),
  )
  const found = outcomes.filter(({ status }) => status === 'fulfilled').length
  expect(found).toBeGreaterThan(0)
  expect(most).toBeLessThanOrEqual(500)
  expect(Math.max(...reads.values())).toBe(1)
  // What was let in serves all who asked for it; the rest was refused at once, as unavailable.
  expect(found).toBe(3 * reads.size)
  for (const outcome of outcomes)
    if (outcome.status === 'rejected')
      expect(outcome.reason).toMatchObject({ code: 'unavailable', headers: { 'Retry-After': '1' } })
})

test('F15 after an outage, with nothing in memory: reads stay within their connections, and everybody has a token within seconds', async () => {
  const { service, database, proxy } = one
  const { sql } = database
  const strangers: SeededClient[] = []
  for (let n = 0; n < STRANGERS; n++) strangers.push(await seedClient(sql))
  proxy.filter(() => () => false)
  proxy.cutAll()
  const during = await Promise.all(strangers.slice(0, 20).map((client) => mint(service.url, client)))
  expect(during.map(({ status }) => status)).toEqual(Array(20).fill(503))

  let most = 0
  let isOver = false
  const watching = (async () => {
    while (!isOver) {
      const [row] = await sql<{ n: number }[]>`
        select count(*)::integer as n from pg_stat_activity
        where datname = current_database() and state = 'active' and query ilike '%lookup_id%' and pid <> pg_backend_pid()`
      most = Math.max(most, row?.n ?? 0)
      await sleep(5)
    }
  })()
  proxy.filter(undefined)
  proxy.cutAll()
  const began = performance.now()
  await Promise.all(
    strangers.map((client) =>
      waitFor('a token', async () => {
        const { status } = await mint(service.url, client)
        expect([200, 503]).toContain(status)
        if (status !== 200) await sleep(100 + Math.random() * 400)
        return status === 200
      }),
    ),
  )
  isOver = true
  await watching
  console.log(
    `F15: ${STRANGERS} cold keys have a token ${Math.round(performance.now() - began)} ms after the return; at most ${most} lookups at once`,
  )
  expect(most).toBeLessThanOrEqual(LOOKUP_CONNECTIONS)
  expect(performance.now() - began).toBeLessThan(10_000)
})
