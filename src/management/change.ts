/**
 * A change takes effect once per Idempotency-Key: the effect, its audit event and the answer to repeat are written in
 * one transaction, so that none of them is ever there without the others.
 */
import type { InTransaction, Transaction } from '../database/transaction.ts'
import { ApiError, ERRORS } from '../errors.ts'
import { digestOf, fingerprintOf, isLasting } from './idempotency.ts'
import type { AuditedChange, Changed, Principal } from './operation.ts'
import { enterTenant, findAnswer, type IdempotencyScope, keepAnswer, lockIdempotencyKey } from './store.ts'

export type ChangeRequest = {
  method: string
  /** The path's template; with the method, and the client, the scope of an Idempotency-Key. */
  template: string
  path: string
  /** On whose behalf, of InTransaction. */
  share: string
  /** Called once it is known who asks. The body is parsed, not yet checked; without a key, it may take effect again. */
  read: () => { idempotencyKey: string | undefined; body: unknown }
  clientAddress: string
  requestId: string
}

export type ChangeAnswer = {
  status: number
  location: string | null
  /** JSON; of a status from 400 on, a problem. */
  body: string
  isReplay: boolean
}

/** Writes an event in the transaction of the change. */
export type RecordEvent = (
  transaction: Transaction,
  event: AuditedChange & { actor: Principal; clientAddress: string; requestId: string },
) => Promise<void>

/**
 * Runs a change: `begin` says who acts, or refuses; `effect` does it, or refuses. Throws what they throw, and ApiError
 * `idempotency_mismatch` when the key was used for another request, `conflict` while one with it is still running.
 */
export type PerformChange = <Began extends { actor: Principal }>(
  request: ChangeRequest,
  steps: {
    begin: (transaction: Transaction) => Promise<Began>
    effect: (transaction: Transaction, began: Began, body: unknown) => Promise<Changed>
    /** Whether whoever acts still may, asked while no other change can commit; throws when not. */
    confirm?: (transaction: Transaction) => Promise<unknown>
    status: number
    /** What a refusal looks like, to be repeated. */
    problemOf: (refusal: ApiError) => string
  },
) => Promise<ChangeAnswer>

export function createPerformChange(options: {
  inTransaction: InTransaction
  record: RecordEvent
}): PerformChange {
  const { inTransaction, record } = options

  return async function performChange(request, { begin, effect, confirm, status, problemOf }) {
    const { method, template, path, share, clientAddress, requestId } = request
    let refused: { by: ApiError; scope: IdempotencyScope; fingerprint: Uint8Array } | undefined
    let afterwards: Changed['afterwards']

    try {
      const answer = await inTransaction(share, async (transaction): Promise<ChangeAnswer> => {
        const began = await begin(transaction)
        const { idempotencyKey, body } = request.read()
        const { clientId, organizationId } = began.actor
        const fingerprint = fingerprintOf(method, path, body)
        const key = idempotencyKey && digestOf(idempotencyKey)
        const scope = key && { clientId, organizationId, operation: `${method} ${template}`, key }
        if (scope) {
          if (!(await lockIdempotencyKey(transaction, scope))) throw stillRunning()
          const kept = await findAnswer(transaction, scope)
          if (kept && !Buffer.from(kept.fingerprint).equals(fingerprint)) throw mismatch()
          if (kept) return { ...kept, isReplay: true }
        }
        let changed: Changed
        try {
          changed = await effect(transaction, began, body)
        } catch (error) {
          if (scope && error instanceof ApiError) refused = { by: error, scope, fingerprint }
          throw error
        }
        const { change, resource, replay = resource, location = null } = changed
        if (scope) {
          const kept = { fingerprint, status, location, body: JSON.stringify(replay) }
          await keepAnswer(transaction, scope, kept)
        }
        // Last, because the event takes the lock of the audit chain until the commit. Every suspension and revocation made
        // through this API passes there too: one that was answered before is seen by what follows, one that is not seen
        // is answered after this has committed.
        if (!isNothing(change))
          await record(transaction, { ...change, actor: began.actor, clientAddress, requestId })
        await confirm?.(transaction)
        afterwards = changed.afterwards
        return { status, location, body: JSON.stringify(resource), isReplay: false }
      })
      await afterwards?.()
      return answer
    } catch (error) {
      // Rolled back: it had no effect that a record could contradict.
      if (refused && error === refused.by) await keepRefusal(share, refused, problemOf(refused.by))
      throw error
    }
  }

  async function keepRefusal(
    share: string,
    { by, scope, fingerprint }: { by: ApiError; scope: IdempotencyScope; fingerprint: Uint8Array },
    body: string,
  ): Promise<void> {
    const { status } = ERRORS[by.code]
    if (!isLasting(status)) return
    await inTransaction(share, async (transaction) => {
      await enterTenant(transaction, scope.organizationId)
      if (!(await lockIdempotencyKey(transaction, scope)) || (await findAnswer(transaction, scope))) return
      await keepAnswer(transaction, scope, { fingerprint, status, location: null, body })
    })
  }
}

/** What repeats what is so already leaves no event: else anybody could fill the trail with nothing. */
const isNothing = ({ before, after }: AuditedChange): boolean =>
  before !== undefined && Object.keys({ ...before, ...after }).length === 0

const mismatch = () =>
  new ApiError('idempotency_mismatch', 'The Idempotency-Key was used for another request.')

const stillRunning = () =>
  new ApiError('conflict', 'A request with this Idempotency-Key is still running.', {
    headers: { 'Retry-After': '1' },
  })
