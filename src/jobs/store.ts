/** The connection of the job queue: pg-boss writes its own SQL, and this sends it. */
import type { Row, RowList } from 'postgres'
import { arrayLiteral } from '../database/array-literal.ts'
import { connectAsNobody, type DatabaseTarget } from '../database/database.ts'

/** A migration of pg-boss's own schema may take so long; nothing else does. */
const STATEMENT_MILLISECONDS = 30_000

export type JobConnection = {
  executeSql(text: string, values?: readonly unknown[]): Promise<{ rows: Row[] }>
  /** At once; what is under way is refused. */
  close(): Promise<void>
}

/** One connection. It sees no tenant: what is queued here is when to do something, never for whom. */
export function connectJobs(target: DatabaseTarget): JobConnection {
  // Not more: pg-boss sends whole transactions as one text, which the driver takes only where there is one connection.
  const { $client: client } = connectAsNobody(target, {
    max: 1,
    statementTimeoutMilliseconds: STATEMENT_MILLISECONDS,
  })
  let last: Promise<unknown> = Promise.resolve()

  async function run(text: string, values: readonly unknown[]) {
    try {
      return { rows: rowsOf(await client.unsafe(text, values.map(asParameter))) }
    } catch (error) {
      // A transaction in one text stays open where it failed, and would refuse all that follows. Where it was lost with
      // its connection, there is nothing to end.
      if (error instanceof Error && 'severity' in error) await client.unsafe('rollback').catch(() => {})
      throw error
    }
  }

  return {
    /** One after the other, so that none comes between a transaction that failed and its end. */
    executeSql(text, values = []) {
      const running = last.then(() => run(text, values))
      last = running.catch(() => {})
      return running
    },
    close: () => client.end({ timeout: 0 }),
  }
}

/** As the server reads the type that it infers itself: the driver's own writing depends on types that it is not told. */
function asParameter(value: unknown): string | boolean | null {
  if (value === null || value === undefined) return null
  if (typeof value === 'boolean') return value
  if (value instanceof Date) return value.toISOString()
  if (Array.isArray(value)) return arrayLiteral(value.map(asParameter))
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

/** Of a text of several statements: the rows of all that answered with some. */
function rowsOf(result: RowList<Row[]>): Row[] {
  return 'command' in result ? [...result] : (result as Row[][]).flat()
}
