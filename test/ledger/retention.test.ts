import { afterAll, beforeAll, expect, test } from 'vitest'
import { connectAsPlatform, type Database, disconnect } from '../../src/database/database.ts'
import { dropOldLedger, ensureFewDays, ensureLedgerPartitions } from '../../src/ledger/retention.ts'
import { createLedgerStore, type LedgerStore } from '../../src/ledger/store.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { mint } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'
import { startService } from '../support/service.ts'

const DAY = 86_400_000
let database: TestDatabase
let pool: Database
let store: LedgerStore
beforeAll(async () => {
  database = await createTestDatabase()
  pool = connectAsPlatform(database.target, {
    max: 1,
    statementTimeoutMilliseconds: 5000,
    settings: { lock_timeout: '200ms' },
  })
  store = createLedgerStore(pool)
})
afterAll(async () => {
  if (pool) await disconnect(pool)
  await database?.drop()
})

const isoDay = (milliseconds: number) => new Date(milliseconds).toISOString().slice(0, 10)

test('there is a partition for yesterday, today and the week ahead, and again a week later', async () => {
  for (const now of [Date.now(), Date.now() + 6 * DAY]) {
    await ensureLedgerPartitions(store, now)
    await ensureLedgerPartitions(store, now)
    const present = await store.findPartitions()
    for (let day = -1; day <= 7; day++) expect(present).toContain(isoDay(now + day * DAY))
  }
})

test('where few days are left, whoever asks makes a week again; where there are enough, nothing is touched', async () => {
  const now = Date.now() + 30 * DAY
  await ensureLedgerPartitions(store, now)
  expect(await ensureFewDays(store, now + 4 * DAY)).toBe(false)
  expect(await store.findPartitions()).not.toContain(isoDay(now + 8 * DAY))
  expect(await ensureFewDays(store, now + 5 * DAY)).toBe(true)
  expect(await store.findPartitions()).toContain(isoDay(now + 12 * DAY))
  expect(await ensureFewDays(store, now + 5 * DAY)).toBe(false)
})

test('days past retention are dropped, with what was counted then; the others stay', async () => {
  const [old, kept] = [isoDay(Date.now() - 91 * DAY), isoDay(Date.now() - 90 * DAY)]
  await store.addPartition(old, isoDay(Date.now() - 90 * DAY))
  await store.addPartition(kept, isoDay(Date.now() - 89 * DAY))
  await database.sql`insert into usage_minutes (client_id, window_start) values ('cli_x', ${`${old}T00:00:00Z`}), ('cli_x', ${`${kept}T00:00:00Z`})`
  await dropOldLedger(store, Date.now())
  const present = await store.findPartitions()
  expect(present).not.toContain(old)
  expect(present).toContain(kept)
  expect(present).toContain(isoDay(Date.now()))
  expect(await database.sql`select 1 from usage_minutes where client_id = 'cli_x'`).toHaveLength(1)
})

test('minting goes on while somebody reads the ledger for long and partitions are due', async () => {
  const service = await startService(database)
  const reader = await database.sql.reserve()
  try {
    const client = await seedClient(database.sql)
    await reader`begin`
    await reader`select count(*) from issued_tokens`
    const maintenance = Promise.allSettled([
      ensureLedgerPartitions(store, Date.now() + 20 * DAY),
      dropOldLedger(store, Date.now()),
    ])
    for (let i = 0; i < 20; i++) expect((await mint(service.url, client)).status).toBe(200)
    await maintenance
  } finally {
    await reader`commit`
    reader.release()
    await service.stop()
  }
})
