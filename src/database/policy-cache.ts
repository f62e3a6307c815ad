/**
 * Memory of policy rows. What is remembered is only a guess, for as long as it likes: the admission compares versions
 * before a token leaves, and a refusal is never based on a guess. So there is nothing to invalidate.
 */
import { LRUCache } from 'lru-cache'
import { inTime } from '../clock.ts'
import { ApiError } from '../errors.ts'

/** A read that takes longer has failed. */
const READ_DEADLINE_MILLISECONDS = 500
const MAX_PENDING_READS = 500

export type ReadOptions = {
  /** Wait until whoever is changing the rows at this moment is done (bounded by the statement's timeout). */
  settle: boolean
}

export type PolicyCache<Value extends object> = {
  /** From memory only. */
  recall(id: string): Value | undefined
  /** From memory, or else from the database; many at once cost one read. Rejects with ApiError `unavailable`. */
  find(id: string): Promise<Value | undefined>
  /** From the database, unless somebody else has replaced or is reading what `judged` was. */
  findAgain(id: string, judged: Value | undefined, options: ReadOptions): Promise<Value | undefined>
}

export function createPolicyCache<Value extends object>(options: {
  max: number
  read: (id: string, options: ReadOptions) => Promise<Value | undefined>
}): PolicyCache<Value> {
  const orUnavailable = createReads()
  const cache = new LRUCache<string, Value, ReadOptions>({
    max: options.max,
    fetchMethod: (id, _stale, { context }) => orUnavailable(() => options.read(id, context)),
    // Dropping an entry must not fail those who wait for it.
    ignoreFetchAbort: true,
  })
  return {
    recall: (id) => cache.get(id),
    find: (id) => cache.fetch(id, { context: { settle: false } }),
    findAgain(id, judged, context) {
      // Nothing is in memory where nothing was judged; but others may be waiting for a read of it, which deleting would fail.
      if (judged !== undefined && cache.peek(id) === judged) cache.delete(id)
      return cache.fetch(id, { context })
    },
  }
}

/** Without its rows a request cannot be judged: it fails closed, and the fault is ours. */
function createReads() {
  let pending = 0
  return async function orUnavailable<T>(read: () => Promise<T>): Promise<T> {
    try {
      // The driver queues without bound what a database that does not answer leaves behind.
      if (pending >= MAX_PENDING_READS) throw new Error('too many reads are waiting for the database')
      pending++
      const reading = read().finally(() => pending--)
      return await inTime(reading, READ_DEADLINE_MILLISECONDS)
    } catch (cause) {
      throw new ApiError('unavailable', 'Keys cannot be read at the moment.', {
        headers: { 'Retry-After': '1' },
        cause,
      })
    }
  }
}
