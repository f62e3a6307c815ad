/**
 * A process that runs transactions without pause until something comes in on its standard input, whatever happens to
 * its connections. Then it says what became of each, and ends. Not a test: transactions.test.ts starts it.
 */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import { connectAsNobody } from '../../../src/database/database.ts'
import { createTransactions, type Transaction } from '../../../src/database/transaction.ts'
import { ApiError } from '../../../src/errors.ts'

export type Report = {
  /** Of those pairs of rows the caller knows that they are there. */
  committed: string[]
  /** Of those that they are not. */
  rolledBack: string[]
  unavailable: number
  /** Outcomes that there should not be. */
  surprises: string[]
  /** The longest wait for an outcome, milliseconds. */
  slowest: number
}

const PARALLEL = 12
const database = connectAsNobody(process.argv[2] ?? '', { max: 8, statementTimeoutMilliseconds: 1_000 })
const inTransaction = createTransactions(database, {
  deadlineMilliseconds: 2_000,
  maxPending: 100,
  maxPendingPerShare: 100,
})
const report: Report = { committed: [], rolledBack: [], unavailable: 0, surprises: [], slowest: 0 }

class OwnError extends Error {}

const insert = (transaction: Transaction, id: string, part: number) =>
  transaction.execute(sql`insert into pairs (id, part) values (${id}, ${part})`)
const pause = (transaction: Transaction) => transaction.execute(sql`select pg_sleep(${Math.random() / 100})`)

/** What works may look like; the last two do what they should not, and must not end the process either. */
const WORKS: ((transaction: Transaction, id: string) => Promise<void>)[] = [
  async (transaction, id) => {
    await insert(transaction, id, 1)
    await insert(transaction, id, 2)
  },
  async (transaction, id) => {
    await insert(transaction, id, 1)
    await pause(transaction)
    await insert(transaction, id, 2)
  },
  async (transaction, id) => {
    await Promise.all([insert(transaction, id, 1), insert(transaction, id, 2), pause(transaction)])
  },
  async (transaction, id) => {
    await insert(transaction, id, 1)
    await pause(transaction)
    throw new OwnError()
  },
  async (transaction, id) => {
    await insert(transaction, id, 1)
    await insert(transaction, id, 1).catch(() => {
      throw new OwnError()
    })
  },
  async (transaction, id) => {
    await insert(transaction, id, 1)
    await sleep(Math.random() * 10)
    await insert(transaction, id, 2)
  },
  async (transaction, id) => {
    await insert(transaction, id, 1)
    await pause(transaction).catch(() => {})
    await insert(transaction, id, 2)
  },
]

let count = 0
async function runOne(): Promise<void> {
  const id = `pair-${process.pid}-${count++}`
  const kind = count % WORKS.length
  const work = WORKS[kind]
  const began = performance.now()
  try {
    await inTransaction(`share ${count % 3}`, (transaction) => work?.(transaction, id) ?? Promise.resolve())
    report.committed.push(id)
  } catch (error) {
    if (error instanceof OwnError) report.rolledBack.push(id)
    else if (error instanceof ApiError && error.code === 'unavailable') report.unavailable++
    else report.surprises.push(`work ${kind}: ${error}`)
  }
  report.slowest = Math.max(report.slowest, Math.round(performance.now() - began))
}

let isStopped = false
async function runOn(): Promise<void> {
  while (!isStopped) await runOne()
}
const loops = Array.from({ length: PARALLEL }, runOn)
process.stdout.write('running\n')
await once(process.stdin, 'data')
isStopped = true
await Promise.all(loops)
process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0))
