/** The ledger's partitions: one a day, made ahead. A day without a partition would refuse its tokens. */
import { sql } from 'drizzle-orm'
import type { Database } from '../database/database.ts'

const DAY = 86_400_000
const DAYS_AHEAD = 7

/** Makes the partitions from yesterday (a clock may lag at midnight) to a week ahead of `now`. Safe to repeat. */
export async function ensureLedgerPartitions(database: Database, now: number): Promise<void> {
  const today = Math.floor(now / DAY)
  for (let day = today - 1; day <= today + DAYS_AHEAD; day++) {
    const [from, to] = [isoDay(day), isoDay(day + 1)]
    const partition = sql.identifier(`issued_tokens_${from.replaceAll('-', '')}`)
    await database.execute(
      sql`create table if not exists ${partition} partition of issued_tokens
          for values from (${sql.raw(`'${from} 00:00:00+00'`)}) to (${sql.raw(`'${to} 00:00:00+00'`)})`,
    )
    // Row-level security of the parent does not bind who names the partition itself: there, nobody sees a row.
    await database.execute(sql`alter table ${partition} enable row level security`)
    await database.execute(sql`alter table ${partition} force row level security`)
  }
}

const isoDay = (day: number) => new Date(day * DAY).toISOString().slice(0, 10)
