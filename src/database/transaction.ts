/**
 * Transactions of several statements, bounded in number and time.
 *
 * The driver (postgres.js 3.4.9) answers a failure inside a transaction with ROLLBACK, even where the failure is that
 * the connection is gone; and what is written to a socket that is not there ends the process. So a lost connection is
 * kept from it: what waits for the transaction is told by the connection's own end, and no statement follows.
 */
import postgres from 'postgres'
import { inTime, TooLateError } from '../clock.ts'
import { ApiError } from '../errors.ts'
import { connectionClosed, type Database } from './database.ts'
import { createShares, type SharesOptions } from './shares.ts'

export type Transaction = Parameters<Parameters<Database['transaction']>[0]>[0]

/**
 * Runs `work` and commits, or rolls back when it throws. `work` waits for nothing but its own statements, so that a
 * lost connection cannot go unnoticed in between. `share` is on whose behalf: what one asks for too much or too slowly,
 * the others do not wait for. Rejects with ApiError `unavailable` when the database cannot be reached, is too slow, or
 * too busy with the share's own transactions; whether a commit under way then took place is not known.
 */
export type InTransaction = <T>(share: string, work: (transaction: Transaction) => Promise<T>) => Promise<T>

export function createTransactions(
  database: Database,
  options: Omit<SharesOptions, 'max'> & {
    /** From being asked for to its end, so waiting for its turn is part of it. */
    deadlineMilliseconds: number
  },
): InTransaction {
  // The driver gets no more than it has connections: it would queue them without regard to shares, and without end.
  const shares = createShares({ ...options, max: database.$client.options.max })

  return async function inTransaction(share, work) {
    const place = shares.join(share)
    if (!place) throw unavailable(new Error('too many transactions are waiting'))
    const connection = { isLost: false }
    let hasBegun = false
    let isLate = false
    const begin = () =>
      database.transaction(async (transaction) => {
        hasBegun = true
        try {
          if (isLate) throw new TooLateError('nobody waits for this transaction any more')
          watch(transaction, connection)
          const result = await work(transaction)
          if (isLate) throw new TooLateError('nobody waits for this transaction any more')
          return connection.isLost ? await never() : result
        } catch (error) {
          return connection.isLost || isConnectionLoss(error) ? await never() : Promise.reject(error)
        }
      })
    const running = place.admitted.then(begin)
    // Rejects while `work` still runs only when the connection has closed. One that nobody waits for any more is with
    // the driver until then, and counts.
    running
      .catch(() => {
        connection.isLost = true
      })
      .finally(place.leave)
    try {
      return await inTime(running, options.deadlineMilliseconds)
    } catch (error) {
      isLate = true
      if (place.isWaiting()) place.leave()
      // The driver may have lost its BEGIN with the connection, and learns of that from the next one only.
      else if (!hasBegun) place.stepAside()
      // A connection may answer BEGIN with the error that it was lost in the midst of: another transaction's.
      throw !hasBegun || isOutage(error) ? unavailable(error) : error
    }
  }
}

/** A new one each time: who waits for it is then forgotten with it. */
const never = () => new Promise<never>(() => {})

/** Learns from the transaction's own statements that the connection is lost, before `work` does, and lets none follow. */
function watch(transaction: Transaction, connection: { isLost: boolean }): void {
  const { client } = transaction._.session as unknown as { client: Pick<postgres.Sql, 'unsafe'> }
  const { unsafe } = client
  client.unsafe = ((...statement: Parameters<typeof unsafe>) => {
    if (connection.isLost) throw connectionClosed()
    const sent = unsafe(...statement)
    sent.catch((error) => {
      if (isConnectionLoss(error)) connection.isLost = true
    })
    return sent
  }) as typeof unsafe
}

/** What the driver or the server said, from under drizzle's wrapping. */
function causeOf(error: unknown): unknown {
  return error instanceof Error && 'query' in error && error.cause !== undefined ? error.cause : error
}

/** A statement that failed for another reason than what the server thinks of it; or the server's last words. */
function isConnectionLoss(error: unknown): boolean {
  const cause = causeOf(error)
  if (cause instanceof postgres.PostgresError) return /^(FATAL|PANIC)$/.test(cause.severity)
  return isDriverError(cause)
}

/** Of the driver, the operating system, or TLS; not of a value that could not be written (ERR_INVALID_ARG_TYPE). */
const DRIVER_ERROR = /^(CONNECT|E[A-Z]{3,}|ERR_(SSL|OSSL|TLS|SOCKET|STREAM)_)/

const isDriverError = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && DRIVER_ERROR.test(String(error.code))

/** Nothing that the caller did: connections, resources, time limits, fail-over, deadlocks. */
const OUTAGE = /^(08|53|57|58|25006|25P0[34]|40001|40P01|55P03)/

function isOutage(error: unknown): boolean {
  const cause = causeOf(error)
  if (cause instanceof postgres.PostgresError) return OUTAGE.test(cause.code)
  return cause instanceof TooLateError || isDriverError(cause)
}

const unavailable = (cause: unknown) =>
  new ApiError('unavailable', 'The database cannot be reached at the moment, or is too busy.', {
    headers: { 'Retry-After': '1' },
    cause,
  })

/** The name of the constraint that a statement broke, if that is why it failed. */
export function brokenConstraint(error: unknown): string | undefined {
  const cause = causeOf(error)
  return cause instanceof postgres.PostgresError && cause.code.startsWith('23')
    ? cause.constraint_name
    : undefined
}
