/**
 * What is counted beside the admissions: refusals per client and minute, and when and from where a key was last
 * used. Gathered in memory and written every few seconds, off every request's path; the ledger itself is exact, these
 * may lose the last seconds of a killed process.
 */
import { sql } from 'drizzle-orm'
import type { Database } from '../database/database.ts'

export type Usage = {
  countLimited(clientId: string): void
  countDenied(clientId: string): void
  keyUsed(keyId: string, clientIp: string): void
  /** Writes what has gathered. Rejects when it could not; then it is kept for the next time, up to a bound. */
  flush(): Promise<void>
  close(): Promise<void>
}

type Counts = { clientId: string; windowStart: string; limited: number; denied: number }

const MAX_PENDING = 10_000

export function createUsage(options: {
  database: Database
  now: () => number
  intervalMilliseconds?: number
  onFailure?: (error: unknown) => void
}): Usage {
  const { database, now, intervalMilliseconds = 2000, onFailure } = options
  const refusals = new Map<string, Counts>()
  const uses = new Map<string, { keyId: string; at: string; ip: string }>()

  function count(clientId: string, what: 'limited' | 'denied') {
    const windowStart = new Date(now() - (now() % 60_000)).toISOString()
    const id = clientId + windowStart
    let counts = refusals.get(id)
    if (!counts) {
      if (refusals.size >= MAX_PENDING) return
      counts = { clientId, windowStart, limited: 0, denied: 0 }
      refusals.set(id, counts)
    }
    counts[what] += 1
  }

  async function flush(): Promise<void> {
    if (refusals.size > 0) {
      // The same order of locks as the admission's: by client_id, then by time.
      const batch = [...refusals.values()].sort(
        (a, b) => compare(a.clientId, b.clientId) || compare(a.windowStart, b.windowStart),
      )
      refusals.clear()
      await database
        .execute(
          sql`insert into usage_minutes as u (client_id, window_start, limited, denied)
              select r."clientId", r."windowStart", r.limited, r.denied
              from jsonb_to_recordset(${JSON.stringify(batch)}::text::jsonb)
                as r ("clientId" text, "windowStart" timestamptz, limited integer, denied integer)
              on conflict (client_id, window_start) do update
              set limited = u.limited + excluded.limited, denied = u.denied + excluded.denied`,
        )
        .catch((error) => {
          for (const counts of batch) keep(counts)
          throw error
        })
    }
    if (uses.size > 0) {
      const batch = [...uses.values()].sort((a, b) => compare(a.keyId, b.keyId))
      uses.clear()
      await database.execute(
        sql`insert into key_usage as k (key_id, last_used_at, last_used_ip)
            select r."keyId", r.at, r.ip
            from jsonb_to_recordset(${JSON.stringify(batch)}::text::jsonb) as r ("keyId" text, at timestamptz, ip inet)
            on conflict (key_id) do update
            set last_used_at = excluded.last_used_at, last_used_ip = excluded.last_used_ip
            where k.last_used_at < excluded.last_used_at`,
      )
    }
  }

  function keep(counts: Counts) {
    const id = counts.clientId + counts.windowStart
    const later = refusals.get(id)
    if (later) {
      later.limited += counts.limited
      later.denied += counts.denied
    } else if (refusals.size < MAX_PENDING) refusals.set(id, counts)
  }

  // One at a time, and never two flushes at once.
  let flushing = Promise.resolve()
  const flushInTurn = () => {
    const turn = flushing.then(flush)
    flushing = turn.catch(() => {})
    return turn
  }
  const timer = setInterval(() => flushInTurn().catch((error) => onFailure?.(error)), intervalMilliseconds)
  timer.unref()

  return {
    countLimited: (clientId) => count(clientId, 'limited'),
    countDenied: (clientId) => count(clientId, 'denied'),
    keyUsed(keyId, clientIp) {
      if (uses.has(keyId) || uses.size < MAX_PENDING)
        uses.set(keyId, { keyId, at: new Date(now()).toISOString(), ip: clientIp })
    },
    flush: flushInTurn,
    async close() {
      clearInterval(timer)
      await flushInTurn()
    },
  }
}

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
