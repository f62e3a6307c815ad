/** F10: 20 requests for a rotation in parallel, by the scheduled job of several instances and over the management API. */
import { expect } from 'vitest'
import {
  activeCounts,
  activeKid,
  age,
  createRotator,
  DAY_SECONDS,
  keysOf,
  ROTATION_DAYS,
} from '../signing/rotators.ts'
import { createTestDatabase } from '../support/database.ts'
import { apiOfOperator } from '../support/management.ts'
import { startService } from '../support/service.ts'

export const INSTANCES = 5
const ENVIRONMENTS = ['sandbox', 'production'] as const

/** Each round, one key more in each environment, with one record of it; and it is the one that comes next. */
export async function raceRotations(rounds: number): Promise<void> {
  const database = await createTestDatabase()
  const { sql } = database
  const service = await startService(database, { logLevel: 'warn' })
  const rotators = Array.from({ length: INSTANCES }, () => createRotator(database.target))
  try {
    const api = await apiOfOperator(service)
    const rotateOverApi = async () =>
      (await api.post('/v2/signing-keys/rotate', { environment: 'sandbox' })).status
    for (let round = 1; round <= rounds; round++) {
      // What was published last becomes active, and then old enough. Not in production: its keys sign the operator's token.
      await age(sql, ROTATION_DAYS * DAY_SECONDS + 3600, 'sandbox')
      const present = await activeKid(sql, 'sandbox')
      const [statuses] = await Promise.all([
        Promise.all(Array.from({ length: 4 }, rotateOverApi)),
        Promise.all(Array.from({ length: 16 }, (_, i) => rotators[i % INSTANCES]?.rotateWhatIsDue())),
      ])
      const made = statuses.filter((status) => status === 201)
      expect([made.length <= 1, statuses.filter((status) => status !== 201)]).toEqual([
        true,
        Array(4 - made.length).fill(409),
      ])
      const keys = await keysOf(sql, 'sandbox')
      expect(keys).toHaveLength(round + 1)
      expect(keys.at(-1)?.activatesAt).toEqual(keys.at(-2)?.retiresAt)
      expect(await activeKid(sql, 'sandbox')).toBe(present)
      for (const environment of ENVIRONMENTS) expect(await activeCounts(sql, environment)).toEqual([1])
      const events = await sql`select from audit_events where action = 'signing_key.rotate'`
      expect(events.count).toBe(round)
    }
    expect(await keysOf(sql, 'production')).toHaveLength(1)
  } finally {
    await Promise.all(rotators.map((rotator) => rotator.close()))
    await service.stop()
    await database.drop()
  }
}
