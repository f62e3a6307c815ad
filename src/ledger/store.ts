/** The SQL of the ledger beside the admission: its partitions, and what is counted off the request's path. */
import { sql } from 'drizzle-orm'
import type { Database } from '../database/database.ts'

/** Refusals of one client within one minute. */
export type Refusals = { clientId: string; windowStart: string; limited: number; denied: number }
export type KeyUse = { keyId: string; at: string; ip: string }

export type LedgerStore = ReturnType<typeof createLedgerStore>

const partitionOf = (day: string) => sql.identifier(`issued_tokens_${day.replaceAll('-', '')}`)

export function createLedgerStore(database: Database) {
  return {
    /** The days (`2026-11-21`) that have a partition. */
    async findPartitions(): Promise<string[]> {
      const rows = await database.execute<{ name: string }>(
        sql`select inhrelid::regclass::text as name from pg_inherits where inhparent = 'issued_tokens'::regclass`,
      )
      return rows.map(({ name }) => name.replace(/^issued_tokens_(\d{4})(\d\d)(\d\d)$/, '$1-$2-$3'))
    },

    /**
     * Makes the partition of one UTC day, up to the next. It is made apart and attached: admissions go on meanwhile,
     * where making it in its place would lock them out. What a killed process left half done is taken up.
     */
    async addPartition(day: string, nextDay: string) {
      const partition = partitionOf(day)
      const midnight = (date: string) => sql.raw(`'${date} 00:00:00+00'`)
      await database.execute(
        sql`create table if not exists ${partition} (like issued_tokens including defaults)`,
      )
      // Row-level security of the parent does not bind who names the partition itself: there, nobody sees a row.
      await database.execute(sql`alter table ${partition} enable row level security`)
      await database.execute(sql`alter table ${partition} force row level security`)
      await database.execute(
        sql`alter table issued_tokens attach partition ${partition}
            for values from (${midnight(day)}) to (${midnight(nextDay)})`,
      )
    },

    /** Locks everybody out for a moment: to be run with a short lock_timeout, else they queue behind whoever reads. */
    async dropPartition(day: string) {
      await database.execute(sql`drop table ${partitionOf(day)}`)
    },

    /** What is counted, and single revocations, have no use past these moments. */
    async forgetBefore(oldest: Date, now: Date) {
      await database.execute(sql`delete from usage_minutes where window_start < ${oldest.toISOString()}`)
      await database.execute(sql`delete from revoked_tokens where expires_at < ${now.toISOString()}`)
    },

    /** Adds up. Callers pass them in the order of client and minute, as the admission locks them. */
    async addRefusals(refusals: readonly Refusals[]) {
      await database.execute(
        sql`insert into usage_minutes as u (client_id, window_start, limited, denied)
            select r."clientId", r."windowStart", r.limited, r.denied
            from jsonb_to_recordset(${JSON.stringify(refusals)}::text::jsonb)
              as r ("clientId" text, "windowStart" timestamptz, limited integer, denied integer)
            on conflict (client_id, window_start) do update
            set limited = u.limited + excluded.limited, denied = u.denied + excluded.denied`,
      )
    },

    /** Keeps the latest. Callers pass them in the order of the key. */
    async recordUses(uses: readonly KeyUse[]) {
      await database.execute(
        sql`insert into key_usage as k (key_id, last_used_at, last_used_ip)
            select r."keyId", r.at, r.ip
            from jsonb_to_recordset(${JSON.stringify(uses)}::text::jsonb) as r ("keyId" text, at timestamptz, ip inet)
            on conflict (key_id) do update
            set last_used_at = excluded.last_used_at, last_used_ip = excluded.last_used_ip
            where k.last_used_at < excluded.last_used_at`,
      )
    },
  }
}
