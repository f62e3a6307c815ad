/** The rotation of an environment's signing key: when somebody asks for it, and when its time has come. */
import { insertEvents } from '../audit/audit.ts'
import type { SigningAlgorithm } from '../config.ts'
import { ENVIRONMENTS, type Environment } from '../database/schema.ts'
import type { InTransaction, Transaction } from '../database/transaction.ts'
import { newId } from '../ids.ts'
import { enterPlatform } from '../management/store.ts'
import { isoOf } from '../management/wire.ts'
import { isRotationDue, planRotation } from './rotation.ts'
import type { Sealing } from './sealing.ts'
import type { Signer } from './signer.ts'
import { makeSigningKey } from './signing-key.ts'
import { createManagedSigningKeys, type SigningKeyRow } from './store.ts'

export type Rotation =
  | { ok: true; key: SigningKeyRow; now: Date; change: RotationChange }
  | { ok: false; nextActivatesAt: Date }

/** As the audit trail has it. */
type RotationChange = { action: 'signing_key.rotate'; targetId: string; after: Record<string, unknown> }

/**
 * Publishes `key`, made for this, as the next one of its environment and ends the present one's signing: in the
 * caller's transaction, which must be the platform's. Of several at once, one does; the others are told when its key
 * activates.
 */
export async function rotate(
  transaction: Transaction,
  environment: Environment,
  key: Awaited<ReturnType<typeof makeSigningKey>>,
): Promise<Rotation> {
  const store = createManagedSigningKeys(transaction)
  const now = await store.lock()
  const plan = planRotation(await store.findCurrent(environment), now.getTime())
  if (!plan.ok) return plan
  const retired: SigningKeyRow[] = []
  for (const { kid, changes } of plan.updates) retired.push(await store.update(kid, changes))
  const row = await store.insert({ ...key, environment, ...plan.insert })
  return {
    ok: true,
    key: row,
    now,
    change: {
      action: 'signing_key.rotate',
      targetId: row.kid,
      after: {
        environment,
        alg: row.alg,
        ...timelineOf(row),
        retired: retired.map((each) => ({ kid: each.kid, ...timelineOf(each) })),
      },
    },
  }
}

export const timelineOf = (row: SigningKeyRow) => ({
  published_at: isoOf(row.publishedAt),
  activates_at: isoOf(row.activatesAt),
  retires_at: isoOf(row.retiresAt),
  removes_at: isoOf(row.removesAt),
  revoked_at: isoOf(row.revokedAt),
})

/** Whose transactions these are: nobody's who could ask for many. */
const SHARE = 'signing-key-rotation'

/**
 * Rotates, in each environment, the key that has been active for `afterSeconds`; 0: never. To be called now and then by
 * any instance, or by all of them. Throws when a rotation failed, once all have been tried.
 */
export function createScheduledRotation(options: {
  inTransaction: InTransaction
  sealing: Sealing
  alg: SigningAlgorithm
  afterSeconds: number
  signer: Pick<Signer, 'isReady' | 'reload'>
}): () => Promise<void> {
  const { inTransaction, sealing, alg, afterSeconds, signer } = options

  const asPlatform = <T>(work: (transaction: Transaction) => Promise<T>) =>
    inTransaction(SHARE, async (transaction) => {
      await enterPlatform(transaction)
      return work(transaction)
    })

  async function isDue(transaction: Transaction, environment: Environment): Promise<boolean> {
    const store = createManagedSigningKeys(transaction)
    const now = await store.lock()
    return isRotationDue(await store.findCurrent(environment), now.getTime(), afterSeconds)
  }

  async function rotateWhereDue(environment: Environment): Promise<void> {
    if (!(await asPlatform((transaction) => isDue(transaction, environment)))) return
    // Between two transactions: one waits for nothing but its own statements.
    const key = await makeSigningKey(alg, sealing)
    await asPlatform(async (transaction) => {
      // Again: another instance may have been faster.
      if (!(await isDue(transaction, environment))) return
      const rotation = await rotate(transaction, environment, key)
      if (!rotation.ok) return
      const { action, targetId, after } = rotation.change
      await insertEvents(transaction, [
        {
          id: newId('auditEvent'),
          organizationId: null,
          actorClientId: null,
          actorKeyId: null,
          actorOrganizationId: null,
          action,
          targetId,
          clientIp: null,
          requestId: null,
          details: { after },
        },
      ])
    })
    await signer.reload()
  }

  return async function rotateWhatIsDue() {
    if (afterSeconds === 0) return
    // What cannot open the present keys would seal the next one so that the others cannot open it.
    if (!signer.isReady()) throw new Error('this instance has no signing key that opens: it makes no new one')
    const failures: unknown[] = []
    for (const environment of ENVIRONMENTS)
      await rotateWhereDue(environment).catch((error) => failures.push(error))
    if (failures.length > 0) throw failures.length === 1 ? failures[0] : new AggregateError(failures)
  }
}
