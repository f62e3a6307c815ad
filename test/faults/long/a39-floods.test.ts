/** A39 as load: thousands of credentials that nobody has, and the transactions that they cost. */
import { afterAll, expect, test } from 'vitest'
import {
  from,
  inParallel,
  statusOf,
  tokenOfNobody,
  transactionsOf,
  unknownKey,
} from '../../abuse/credentials.ts'
import { createTestDatabase } from '../../support/database.ts'
import { mint, tokenBody, tokenOf } from '../../support/mint.ts'
import { seedClient } from '../../support/seed.ts'
import { ISSUER, SANDBOX_ISSUER, startService } from '../../support/service.ts'

const REQUESTS = 5000
const database = await createTestDatabase()
const service = await startService(database, {
  logLevel: 'warn',
  config: { trustedProxies: ['127.0.0.1'] },
})
const client = await seedClient(database.sql)
afterAll(async () => {
  await service.stop()
  await database.drop()
})
const { token } = await tokenOf(await mint(service.url, client))
const introspect = (asked: string) => {
  const form = { client_id: client.clientId, client_secret: client.key, token: asked }
  return statusOf(`${service.url}/sandbox/oauth2/introspect`, {
    method: 'POST',
    body: new URLSearchParams(form),
  })
}
const exchange = (key: string, source: number) =>
  statusOf(`${service.url}/v2/auth/token`, {
    method: 'POST',
    headers: { Authorization: key, 'Content-Type': 'application/json', ...from(source) },
    body: JSON.stringify(tokenBody(client)),
  })
let stirred = 0
const stir = () =>
  Promise.all([
    inParallel(64, () => exchange(unknownKey(), 50_000 + stirred++)),
    inParallel(64, () => introspect(token)),
  ])
const costOf = (work: () => Promise<unknown>) => transactionsOf(database.target.database, stir, work)

test('A39 5,000 tokens with as many unknown kids at the management API: no read for any', {
  timeout: 120_000,
}, async () => {
  const tokens = Array.from({ length: REQUESTS }, (_, i) => tokenOfNobody(ISSUER, i))
  const transactions = await costOf(async () => {
    const statuses = await inParallel(REQUESTS, (i) =>
      statusOf(`${service.url}/v2/organizations`, {
        headers: { Authorization: `Bearer ${tokens[i]}`, ...from(i) },
      }),
    )
    expect(statuses).toEqual(new Map([[401, REQUESTS]]))
  })
  console.log(`${transactions} transactions for ${REQUESTS} tokens, the service’s own among them`)
  expect(transactions).toBeLessThan(REQUESTS / 20)
})

test('A39 at introspection, the client is read and the token is not', { timeout: 120_000 }, async () => {
  const ASKED = 1000
  const askEach = (which: (i: number) => string) =>
    costOf(async () => {
      // One by one: many at once share reads.
      for (let i = 0; i < ASKED; i++) expect(await introspect(which(i))).toBe(200)
    })
  const ofUnknown = await askEach((i) => tokenOfNobody(SANDBOX_ISSUER, i))
  const ofOurs = await askEach(() => token)
  expect(ofUnknown).toBeLessThan(1.3 * ASKED)
  expect(ofOurs).toBeGreaterThan(1.8 * ASKED)
})

test('A39 unknown keys of many sources cost one read each, and keep nobody from minting', {
  timeout: 120_000,
}, async () => {
  const transactions = await costOf(async () => {
    const flood = inParallel(REQUESTS, (i) => exchange(unknownKey(), i))
    for (let i = 0; i < 20; i++) expect((await mint(service.url, client)).status).toBe(200)
    expect(await flood).toEqual(new Map([[401, REQUESTS]]))
  })
  expect(transactions).toBeLessThan(1.2 * REQUESTS)
})
