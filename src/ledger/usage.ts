/**
 * What is counted beside the admissions: refusals per client and minute, and when and from where a key was last
 * used. Gathered in memory and written every few seconds, off every request's path; the ledger itself is exact, these
 * may lose the last seconds of a killed process.
 */
import type { KeyUse, LedgerStore, Refusals } from './store.ts'

export type Usage = {
  countLimited(clientId: string): void
  countDenied(clientId: string): void
  keyUsed(keyId: string, clientIp: string): void
  /** Writes what has gathered, for the last time. */
  close(): Promise<void>
}

/** What cannot be written for long is forgotten rather than kept without bound. */
const MAX_PENDING = 10_000
const FLUSH_MILLISECONDS = 2000

export function createUsage(options: {
  store: Pick<LedgerStore, 'addRefusals' | 'recordUses'>
  now: () => number
  onFailure?: (error: unknown) => void
}): Usage {
  const { store, now, onFailure } = options
  const refusals = new Map<string, Refusals>()
  /** When in milliseconds: every exchange notes one, only a flush writes it out. */
  const uses = new Map<string, { keyId: string; at: number; ip: string }>()

  function count({ clientId, windowStart, limited, denied }: Refusals) {
    const id = `${clientId} ${windowStart}`
    const counted = refusals.get(id)
    if (counted) {
      counted.limited += limited
      counted.denied += denied
    } else if (refusals.size < MAX_PENDING) refusals.set(id, { clientId, windowStart, limited, denied })
  }

  const thisMinute = () => new Date(now() - (now() % 60_000)).toISOString()

  async function flush(): Promise<void> {
    const counted = inOrder(refusals)
    if (counted.length > 0)
      await store.addRefusals(counted).catch((error) => {
        counted.forEach(count)
        throw error
      })
    const used: KeyUse[] = inOrder(uses).map((use) => ({ ...use, at: new Date(use.at).toISOString() }))
    if (used.length > 0) await store.recordUses(used)
  }

  let flushing = Promise.resolve()
  /** One after the other: two at once would wait for each other's rows. */
  function flushInTurn(): Promise<void> {
    flushing = flushing.then(flush).catch((error) => onFailure?.(error))
    return flushing
  }
  const timer = setInterval(flushInTurn, FLUSH_MILLISECONDS).unref()

  return {
    countLimited: (clientId) => count({ clientId, windowStart: thisMinute(), limited: 1, denied: 0 }),
    countDenied: (clientId) => count({ clientId, windowStart: thisMinute(), limited: 0, denied: 1 }),
    keyUsed(keyId, ip) {
      if (uses.has(keyId) || uses.size < MAX_PENDING) uses.set(keyId, { keyId, at: now(), ip })
    },
    async close() {
      clearInterval(timer)
      await flushInTurn()
    },
  }
}

/** Empties the map, in the order of its keys: every writer locks rows in the same order. */
function inOrder<T>(map: Map<string, T>): T[] {
  const entries = [...map].sort(([a], [b]) => (a < b ? -1 : 1))
  map.clear()
  return entries.map(([, value]) => value)
}
