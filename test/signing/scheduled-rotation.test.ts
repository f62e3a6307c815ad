/** The rotation that comes by itself. What happens in the midst of it, and at once in several places: test/faults. */
import { expect, onTestFinished, test } from 'vitest'
import { createTestDatabase } from '../support/database.ts'
import { startService } from '../support/service.ts'
import { activeKid, age, createRotator, DAY_SECONDS, keysOf, ROTATION_DAYS } from './rotators.ts'

async function setUp(options: Parameters<typeof createRotator>[1] = {}) {
  const database = await createTestDatabase()
  // The first start makes the first keys.
  await (await startService(database, { logLevel: 'silent' })).stop()
  const rotator = createRotator(database.target, options)
  onTestFinished(async () => {
    await rotator.close()
    await database.drop()
  })
  const { sql } = database
  const counts = async () =>
    Promise.all(['sandbox', 'production'].map(async (environment) => (await keysOf(sql, environment)).length))
  return { sql, counts, ...rotator }
}

test('a key that has signed for its days is rotated, in each environment by itself, and not before', async () => {
  const { sql, counts, rotateWhatIsDue } = await setUp()
  await age(sql, ROTATION_DAYS * DAY_SECONDS - 120, 'sandbox')
  await rotateWhatIsDue()
  expect(await counts()).toEqual([1, 1])
  await age(sql, 120, 'sandbox')
  const first = await activeKid(sql, 'sandbox')
  await rotateWhatIsDue()
  await rotateWhatIsDue()
  expect(await counts()).toEqual([2, 1])
  expect(await activeKid(sql, 'sandbox')).toBe(first)
  // Nobody ran for two months: one rotation makes up for it.
  await age(sql, 60 * DAY_SECONDS)
  await rotateWhatIsDue()
  await rotateWhatIsDue()
  expect(await counts()).toEqual([3, 2])
  const events = await sql`
    select organization_id, actor_client_id, actor_organization_id, target_id, details->'after'->>'environment' as environment
    from audit_events where action = 'signing_key.rotate' order by sequence`
  expect(events.map(({ environment }) => environment)).toEqual(['sandbox', 'sandbox', 'production'])
  for (const event of events)
    expect([event.organization_id, event.actor_client_id, event.actor_organization_id]).toEqual([
      null,
      null,
      null,
    ])
})

test('0 days: never', async () => {
  const { sql, counts, rotateWhatIsDue } = await setUp({ days: 0 })
  await age(sql, 1000 * DAY_SECONDS)
  await rotateWhatIsDue()
  expect(await counts()).toEqual([1, 1])
})

test('F17 an instance that cannot open the present keys makes no new one', async () => {
  const { sql, counts, rotateWhatIsDue } = await setUp({ isReady: false })
  await age(sql, ROTATION_DAYS * DAY_SECONDS)
  await expect(rotateWhatIsDue()).rejects.toThrow('makes no new one')
  expect(await counts()).toEqual([1, 1])
})
