/** The SQL of the ledger beside the admission: its partitions, and what is counted off the request's path. */
import { sql } from 'drizzle-orm'
import type { Database } from '../database/database.ts'

/** Refusals of one client within one minute. */
export type Refusals = { clientId: string; windowStart: string; limited: number; denied: number }
export type KeyUse = { keyId: string; at: string; ip: string }

export type LedgerStore = ReturnType<typeof createLedgerStore>

export function createLedgerStore(database: Database) {
  return {
    /** Makes the partition of one UTC day (`2026-11-21`), up to the next; safe to repeat. */
    async ensurePartition(day: string, nextDay: string) {
      const partition = sql.identifier(`issued_tokens_${day.replaceAll('-', '')}`)
      const midnight = (date: string) => sql.raw(`'${date} 00:00:00+00'`)
      await database.execute(
        sql`create table if not exists ${partition} partition of issued_tokens
            for values from (${midnight(day)}) to (${midnight(nextDay)})`,
      )
      // Row-level security of the parent does not bind who names the partition itself: there, nobody sees a row.
      await database.execute(sql`alter table ${partition} enable row level security`)
      await database.execute(sql`alter table ${partition} force row level security`)
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
