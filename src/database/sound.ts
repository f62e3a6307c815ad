/**
 * Rows that are not what the schema says: somebody dropped a constraint, a restore went wrong. Whoever they belong to is
 * refused, loudly and alone; what is judged by them would be judged by accident.
 */
import { type Column, getTableColumns } from 'drizzle-orm'
import type { PgTable } from 'drizzle-orm/pg-core'

export class BrokenRowError extends Error {
  override name = 'BrokenRowError'
  readonly code = 'BROKEN_ROW'
}

/** Throws BrokenRowError, which names the row and its first column that is not sound, but never a value. */
export type Check<Row> = (row: Row) => void

/** For rows of `table` as drizzle reads them. `except`: columns whose reader knows what to do. */
export function createCheck<Table extends PgTable>(
  table: Table,
  named: { name: string; id: string },
  except: readonly string[] = [],
): Check<Table['$inferSelect']> {
  const columns = Object.entries<Column>(getTableColumns(table)).filter(([key]) => !except.includes(key))
  return function check(row) {
    for (const [key, column] of columns) {
      const fault = faultOf(column, row[key])
      if (fault) throw new BrokenRowError(`${named.name} ${String(row[named.id])}: ${column.name} ${fault}`)
    }
  }
}

function faultOf(column: Column, value: unknown): string | undefined {
  if (value === null || value === undefined) return column.notNull ? 'is missing' : undefined
  if (column.enumValues?.length && !column.enumValues.includes(String(value))) return 'is no word of ours'
  if (value instanceof Date && !Number.isFinite(value.getTime())) return 'is no moment'
  if (typeof value === 'number' && !Number.isFinite(value)) return 'is no number'
  return undefined
}
