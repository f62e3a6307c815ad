/** F5, A63: management is stuck with all of its connections. What it takes for that to end by itself is in long/. */
import { expect, test } from 'vitest'
import { connectTo } from '../support/database.ts'
import { apiOfOperator } from '../support/management.ts'
import { mint } from '../support/mint.ts'
import { waitFor } from '../support/process.ts'
import { seedClient } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'

const SLOW = 200
const { database, service } = await setUpService()

test('F5 A63 two hundred slow changes: minting goes on, waits are bounded, and once they may, they are done', async () => {
  const operator = await apiOfOperator(service)
  const known = await seedClient(database.sql)
  expect((await mint(service.url, known)).status).toBe(200)
  const blocker = connectTo(database.target)
  const held = Promise.withResolvers<void>()
  const locked = Promise.withResolvers<void>()
  // No change can write its audit event.
  const blocking = blocker.begin(async (sql) => {
    await sql`lock table audit_events in access exclusive mode`
    locked.resolve()
    await held.promise
  })
  try {
    await Promise.race([locked.promise, blocking])
    const slow = Promise.all(
      Array.from({ length: SLOW }, (_, n) => operator.post('/v2/organizations', { name: `Slow ${n}` })),
    )
    await waitFor('all connections of management', async () => {
      const [row] = await database.sql`
        select count(*)::integer as n from pg_stat_activity
        where wait_event_type = 'Lock' and datname = ${database.target.database}`
      return row?.n >= 3
    })
    for (let n = 0; n < 10; n++) {
      expect((await mint(service.url, known)).status).toBe(200)
      // Whose rows have to be read.
      expect((await mint(service.url, await seedClient(database.sql))).status).toBe(200)
    }
    expect((await fetch(`${service.url}/readyz`)).status).toBe(200)
    held.resolve()
    await blocking
    const statuses = (await slow).map(({ status }) => status)
    expect(new Set([201, 503, ...statuses])).toEqual(new Set([201, 503]))
    // Of one share, a hundred may wait.
    expect(statuses.filter((status) => status === 503).length).toBeGreaterThanOrEqual(SLOW / 2)
    expect((await operator.post('/v2/organizations', { name: 'Quick' })).status).toBe(201)
  } finally {
    held.resolve()
    await blocker.end({ timeout: 1 })
  }
})
