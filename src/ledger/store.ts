/** The SQL of the ledger beside the admission: its partitions, and what is counted off the request's path. */
import { sql } from 'drizzle-orm'
import type { Database } from '../database/database.ts'
import type { Transaction } from '../database/transaction.ts'

/** Refusals of one client within one minute. */
export type Refusals = { clientId: string; windowStart: string; limited: number; denied: number }
export type KeyUse = { keyId: string; at: string; ip: string }

/** A client's counts, one in each array per bucket, the oldest first. */
export type ClientUsage = {
  id: string
  name: string
  organizationId: string
  admitted: number[]
  limited: number[]
  denied: number[]
}

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
      // Verifiers allow for clocks that differ: what has expired here may not have there.
      await database.execute(
        sql`delete from revoked_tokens where expires_at < ${now.toISOString()}::timestamptz - interval '1 day'`,
      )
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

/**
 * What was counted per client, in buckets of `stepSeconds` from `from` up to `to`: the clients that the transaction's
 * tenant sees, the newest first.
 */
export async function readUsage(
  transaction: Pick<Transaction, 'execute'>,
  options: {
    clientId: string | undefined
    organizationId: string | undefined
    /** The id after which the page goes on. */
    after: string | undefined
    take: number
    from: Date
    to: Date
    stepSeconds: number
  },
): Promise<ClientUsage[]> {
  const { clientId, organizationId, after, take, from, to, stepSeconds } = options
  const step = sql`make_interval(secs => ${stepSeconds})`
  const [begin, end] = [from, to].map((date) => sql`${date.toISOString()}::timestamptz`)
  return transaction.execute<ClientUsage>(sql`
    with page as materialized (
      select id, name, organization_id from clients
      where true
        ${clientId === undefined ? sql`` : sql`and id = ${clientId}`}
        ${organizationId === undefined ? sql`` : sql`and organization_id = ${organizationId}`}
        ${after === undefined ? sql`` : sql`and id < ${after}`}
      order by id desc limit ${take}
    ),
    -- A client at a time, by the index: for all of them at once, the planner would rather read the table.
    counted as materialized (
      select page.id as client_id, summed.* from page cross join lateral (
        select date_bin(${step}, window_start, ${begin}) as start,
          sum(admitted) as admitted, sum(limited) as limited, sum(denied) as denied
        from usage_minutes
        where client_id = page.id and window_start >= ${begin} and window_start < ${end}
        group by start
      ) as summed
    )
    select page.id, page.name, page.organization_id as "organizationId",
      jsonb_agg(coalesce(admitted, 0) order by series.start) as admitted,
      jsonb_agg(coalesce(limited, 0) order by series.start) as limited,
      jsonb_agg(coalesce(denied, 0) order by series.start) as denied
    from page cross join generate_series(${begin}, ${end} - ${step}, ${step}) as series (start)
      left join counted on counted.client_id = page.id and counted.start = series.start
    group by page.id, page.name, page.organization_id order by page.id desc`)
}
