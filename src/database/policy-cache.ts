/**
 * Memory of policy rows. What is remembered is only a guess, for as long as it likes: the admission compares versions
 * before a token leaves, and a refusal is never based on a guess. So there is nothing to invalidate.
 */
import { LRUCache } from 'lru-cache'
import { createBounded } from './bounded.ts'

/** Without its rows a request cannot be judged: it fails closed, and the fault is ours. */
const READS = { maxPending: 500, deadlineMilliseconds: 500, detail: 'Keys cannot be read at the moment.' }

export type ReadOptions = {
  /** Wait until whoever is changing the rows at this moment is done (bounded by the statement's timeout). */
  settle: boolean
  /** Let no read count that began before the call: for what no admission checks again. */
  own?: boolean
}

export type PolicyCache<Value extends object> = {
  /** From memory only. */
  recall(id: string): Value | undefined
  /** From memory, or else from the database; many at once cost one read. Rejects with ApiError `unavailable`. */
  find(id: string): Promise<Value | undefined>
  /** From the database; without `own`, unless somebody else has replaced or is reading what `judged` was. */
  findAgain(id: string, judged: Value | undefined, options: ReadOptions): Promise<Value | undefined>
}

export function createPolicyCache<Value extends object>(options: {
  max: number
  read: (id: string, options: ReadOptions) => Promise<Value | undefined>
}): PolicyCache<Value> {
  const bounded = createBounded(READS)
  /** Of each read, what it was asked for with: so whoever asked knows whether it was theirs. */
  const begun = new WeakSet<ReadOptions>()
  const cache = new LRUCache<string, Value, ReadOptions>({
    max: options.max,
    fetchMethod(id, _stale, { context }) {
      begun.add(context)
      return bounded(() => options.read(id, context))
    },
    // Dropping an entry must not fail those who wait for it.
    ignoreFetchAbort: true,
  })
  function readAgain(
    id: string,
    judged: Value | undefined,
    context: ReadOptions,
  ): Promise<Value | undefined> {
    // Nothing is in memory where nothing was judged; but others may be waiting for a read of it, which deleting would fail.
    if (judged !== undefined && cache.peek(id) === judged) cache.delete(id)
    return cache.fetch(id, { context })
  }

  return {
    recall: (id) => cache.get(id),
    find: (id) => cache.fetch(id, { context: { settle: false } }),
    async findAgain(id, judged, { settle, own = false }) {
      const context = { settle }
      const found = await readAgain(id, judged, context)
      if (!own || begun.has(context)) return found
      // It was somebody else's, perhaps from before. The next one is not.
      return readAgain(id, found, { settle })
    },
  }
}
