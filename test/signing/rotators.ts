/** Instances that rotate when it is time, as the scheduled job does, and what must be true of the keys whatever happened. */
import type { Sql } from 'postgres'
import { connectAsNobody, type DatabaseTarget, disconnect } from '../../src/database/database.ts'
import { createTransactions } from '../../src/database/transaction.ts'
import { createScheduledRotation } from '../../src/signing/rotate.ts'
import { activeSigningKey, signingKeyState, type Timeline } from '../../src/signing/rotation.ts'
import { createSealing } from '../../src/signing/sealing.ts'
import { KEY_ENCRYPTION_KEY } from '../support/service.ts'

export const DAY_SECONDS = 86_400
export const ROTATION_DAYS = 30

/** Lets the keys of an environment, or of both, be so much older: their timestamps are all that time changes. */
export const age = (sql: Sql, seconds: number, environment: string | null = null) =>
  sql`update signing_keys set published_at = published_at - ${seconds} * interval '1 s',
    activates_at = activates_at - ${seconds} * interval '1 s', retires_at = retires_at - ${seconds} * interval '1 s',
    removes_at = removes_at - ${seconds} * interval '1 s'
    where environment = coalesce(${environment}, environment)`

export function createRotator(target: DatabaseTarget, options: { isReady?: boolean; days?: number } = {}) {
  const database = connectAsNobody(target, { max: 4, statementTimeoutMilliseconds: 2000 })
  const rotateWhatIsDue = createScheduledRotation({
    inTransaction: createTransactions(database, {
      deadlineMilliseconds: 4000,
      maxPending: 1000,
      maxPendingPerShare: 1000,
    }),
    sealing: createSealing([KEY_ENCRYPTION_KEY]),
    alg: 'ES256',
    afterSeconds: (options.days ?? ROTATION_DAYS) * DAY_SECONDS,
    signer: { isReady: () => options.isReady ?? true, reload: async () => true },
  })
  return {
    rotateWhatIsDue,
    close: () => disconnect(database),
    /** Without waiting for anything. */
    kill: () => database.$client.end({ timeout: 0 }),
  }
}

type Row = Timeline & { kid: string; environment: string }

export const keysOf = (sql: Sql, environment: string) => sql<Row[]>`
  select kid, environment, published_at as "publishedAt", activates_at as "activatesAt", retires_at as "retiresAt",
    removes_at as "removesAt", revoked_at as "revokedAt" from signing_keys where environment = ${environment}
  order by activates_at`

/** How many keys are active now and at every later moment at which any of them changes; [1] when all is well. */
export async function activeCounts(sql: Sql, environment: string): Promise<number[]> {
  const keys = await keysOf(sql, environment)
  const now = Date.now()
  const changes = keys
    .flatMap((key) => [key.activatesAt, key.retiresAt, key.removesAt])
    .flatMap((moment) => (moment ? [moment.getTime() - 1, moment.getTime()] : []))
    .filter((moment) => moment > now)
  const counts = [now, ...changes].map(
    (moment) => keys.filter((key) => signingKeyState(key, moment) === 'active').length,
  )
  return [...new Set(counts)]
}

export async function activeKid(sql: Sql, environment: string): Promise<string | undefined> {
  return activeSigningKey(await keysOf(sql, environment), Date.now())?.kid
}
