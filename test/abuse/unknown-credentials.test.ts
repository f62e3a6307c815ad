/** A39: what nobody can have costs no read of the database, however often it is sent, and nobody else anything. */
import { afterAll, expect, test } from 'vitest'
import { createTestDatabase } from '../support/database.ts'
import { mint, tokenBody } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'
import { ISSUER, startService } from '../support/service.ts'
import {
  from,
  inParallel,
  keyThatNames,
  statusOf,
  tokenOfNobody,
  transactionsOf,
  unknownKey,
  withWrongChecksum,
} from './credentials.ts'

const FAILURES = 40
const REQUESTS = 400
const AT_ONCE = 16
/** What the service does by itself meanwhile: reads of the feed, jobs, measurements of the clock; and the stirring. */
const OWN = 150

const database = await createTestDatabase()
const service = await startService(database, {
  logLevel: 'warn',
  config: { failedAuthenticationsPerMinute: FAILURES, trustedProxies: ['127.0.0.1'] },
})
const client = await seedClient(database.sql)
afterAll(async () => {
  await service.stop()
  await database.drop()
})

const exchange = (key: string, headers: Record<string, string>) =>
  statusOf(`${service.url}/v2/auth/token`, {
    method: 'POST',
    headers: { Authorization: key, 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(tokenBody(client)),
  })

let stirred = 0
const stir = () => inParallel(4 * AT_ONCE, () => exchange(unknownKey(), from(20_000 + stirred++)))
const costOf = (work: () => Promise<unknown>) => transactionsOf(database.target.database, stir, work)

test('A39 tokens with an unknown kid and keys that are no keys cost no read; unknown keys as many as a source may fail', {
  timeout: 60_000,
}, async () => {
  const transactions = await costOf(async () => {
    const tokens = await inParallel(REQUESTS, (i) =>
      statusOf(`${service.url}/v2/organizations`, {
        headers: { Authorization: `Bearer ${tokenOfNobody(ISSUER, i)}`, ...from(i) },
      }),
    )
    expect(tokens).toEqual(new Map([[401, REQUESTS]]))
    const malformed = await inParallel(REQUESTS, (i) => exchange(withWrongChecksum(unknownKey()), from(i)))
    expect(malformed).toEqual(new Map([[401, REQUESTS]]))
    const ofOneSource = await inParallel(REQUESTS, () =>
      exchange(unknownKey(), { 'X-Forwarded-For': '203.0.113.1' }),
    )
    expect([...ofOneSource.keys()].sort()).toEqual([401, 429])
    expect(ofOneSource.get(401)).toBeGreaterThanOrEqual(FAILURES)
    // Those that were under way when the last one was counted are read too.
    expect(ofOneSource.get(401)).toBeLessThan(FAILURES + AT_ONCE)
    // One subscriber has a /64: its addresses are one source.
    const ofOneNetwork = await inParallel(REQUESTS, (i) =>
      exchange(unknownKey(), { 'X-Forwarded-For': `2001:db8::${(i + 1).toString(16)}` }),
    )
    expect(ofOneNetwork.get(401)).toBeLessThan(FAILURES + AT_ONCE)
  })
  expect(transactions).toBeGreaterThan(FAILURES)
  expect(transactions).toBeLessThan(2 * (FAILURES + AT_ONCE) + OWN)
})

test('A39 whoever is held up holds up nobody else, and not the key that was named', async () => {
  const blocked = { 'X-Forwarded-For': '203.0.113.9' }
  await inParallel(2 * FAILURES, () => exchange(keyThatNames(client.key), blocked))
  expect(await exchange(unknownKey(), blocked)).toBe(429)
  expect(await exchange(client.key, blocked)).toBe(200)
  expect(await exchange(client.key, { 'X-Forwarded-For': '203.0.113.10' })).toBe(200)
})

test('A61 a key with somebody’s lookup id costs the read that an unknown one costs', async () => {
  await mint(service.url, client)
  const transactions = await costOf(async () => {
    for (let i = 0; i < 3 * OWN; i++)
      expect(await exchange(keyThatNames(client.key), from(i + 1000))).toBe(401)
  })
  expect(transactions).toBeGreaterThanOrEqual(2 * OWN)
})
