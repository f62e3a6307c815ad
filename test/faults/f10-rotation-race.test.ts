/** F10: several instances rotate at once. */
import { expect, onTestFinished, test } from 'vitest'
import { activeCounts, activeKid, age, DAY_SECONDS, keysOf, ROTATION_DAYS } from '../signing/rotators.ts'
import { createTestDatabase } from '../support/database.ts'
import { apiOfOperator } from '../support/management.ts'
import { waitFor } from '../support/process.ts'
import { startService, type TestService } from '../support/service.ts'
import { INSTANCES, raceRotations } from './rotation-race.ts'

test(`F10 20 in parallel, on ${INSTANCES} instances and over the management API: one new key, which the others take`, () =>
  raceRotations(5))

test('F10 the scheduled job, on three instances: one rotation of what is due, and its record', async () => {
  const database = await createTestDatabase()
  const { sql } = database
  const options = { logLevel: 'warn', jobTimings: { delayMilliseconds: 0, pollSeconds: 1 } }
  const services: TestService[] = []
  for (let i = 0; i < 3; i++) services.push(await startService(database, options))
  onTestFinished(async () => {
    await Promise.all(services.map((service) => service.stop()))
    await database.drop()
  })
  const scheduled = async () =>
    (await sql`select name from pgboss.schedule order by 1`).map(({ name }) => name)
  await waitFor('the schedule', async () => (await scheduled()).length >= 5)
  expect(await scheduled()).toEqual([
    'assertion-expiry',
    'idempotency-expiry',
    'ledger-partitions',
    'ledger-retention',
    'signing-key-rotation',
  ])
  await age(sql, ROTATION_DAYS * DAY_SECONDS, 'production')
  const first = await activeKid(sql, 'production')
  await sql`insert into pgboss.job (name) values ('signing-key-rotation')`
  await waitFor('the rotation', async () => (await keysOf(sql, 'production')).length > 1)
  await waitFor('its end', async () => {
    const [job] = await sql`select state from pgboss.job where name = 'signing-key-rotation'`
    return job?.state === 'completed'
  })
  // Again, for whoever comes late: nothing is due any more.
  await sql`insert into pgboss.job (name) values ('signing-key-rotation')`
  await waitFor('another look', async () => {
    const [row] =
      await sql`select count(*)::int as n from pgboss.job where name = 'signing-key-rotation' and state = 'completed'`
    return row?.n === 2
  })
  expect([(await keysOf(sql, 'production')).length, (await keysOf(sql, 'sandbox')).length]).toEqual([2, 1])
  expect(await activeKid(sql, 'production')).toBe(first)
  expect(await activeCounts(sql, 'production')).toEqual([1])

  const [operated] = services.filter((service) => service.operator)
  if (!operated) throw new Error('nobody was first')
  const api = await apiOfOperator(operated)
  const { body } = await api.get<{ data: object[] }>('/v2/audit-events?action=signing_key.rotate')
  expect(body.data).toHaveLength(1)
  expect(body.data[0]).toMatchObject({
    organization_id: null,
    actor: null,
    client_ip: null,
    request_id: null,
    target_id: (await keysOf(sql, 'production')).at(-1)?.kid,
    details: { after: { environment: 'production', retired: [{ kid: first }] } },
  })
  // The instance that made it publishes it at once.
  const published = await Promise.all(
    services.map(async ({ url }) => {
      const set = (await (await fetch(`${url}/.well-known/jwks.json`)).json()) as { keys: object[] }
      return set.keys.length
    }),
  )
  expect(published).toContain(2)
  expect(services.flatMap(({ logs }) => logs).filter((line) => line.includes('a job failed'))).toEqual([])
})
