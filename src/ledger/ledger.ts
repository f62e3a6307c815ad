/**
 * The ledger commits in groups: while batches are in flight, the next one gathers. A token may leave only once its
 * admission says so.
 */
import type { AdmissionRequest, AdmitBatch, Verdict, Window } from './admission.ts'

export type Answer = Verdict | { outcome: 'unavailable' }

export type LedgerOptions = {
  admitBatch: AdmitBatch
  /** Batches in flight at once: with two, one gathers and signs while the other is in the database. */
  concurrency?: number
  /** Tokens in one transaction. */
  batchSize?: number
  /** Tokens that may wait for theirs; one more is refused at once. */
  bufferSize?: number
  /** How long a token may wait for its batch to begin; the batch itself has its own deadline. */
  patienceMilliseconds?: number
  onFailure?: (error: unknown, tokens: number) => void
}

export type Ledger = {
  /** Asks for one token to be let out. Never rejects: what goes wrong is `unavailable`. */
  admit(request: AdmissionRequest): Promise<Answer>
  /** The client's window if it is known to be used up: then asking again would only cost the database a batch. */
  blockedWindow(clientId: string): Window | undefined
  /** Waits for what was asked so far; what is asked afterwards is refused. */
  close(): Promise<void>
}

type Waiting = { request: AdmissionRequest; deadline: number; settle: (answer: Answer) => void }

const UNAVAILABLE: Answer = { outcome: 'unavailable' }

export function createLedger(options: LedgerOptions): Ledger {
  const { admitBatch, concurrency = 2, batchSize = 256, bufferSize = 2048, onFailure } = options
  const { patienceMilliseconds = 300 } = options
  // A clock that never jumps.
  const now = performance.now.bind(performance)
  const blocked = createBlockedWindows(now)
  let waiting: Waiting[] = []
  let inFlight = 0
  let isScheduled = false
  let closed = false
  const idle: (() => void)[] = []

  function commitWaiting(): void {
    isScheduled = false
    while (waiting.length > 0 && inFlight < concurrency) {
      const batch = waiting.slice(0, batchSize)
      waiting = waiting.slice(batchSize)
      inFlight++
      commit(batch).finally(() => {
        inFlight--
        commitWaiting()
      })
    }
    if (inFlight === 0) for (const resolve of idle.splice(0)) resolve()
  }

  async function commit(batch: Waiting[]): Promise<void> {
    const begins = now()
    const [alive, late] = [
      batch.filter((one) => one.deadline > begins),
      batch.filter((one) => one.deadline <= begins),
    ]
    for (const one of late) one.settle(UNAVAILABLE)
    if (alive.length === 0) return
    try {
      const verdicts = await admitBatch(alive.map((one) => one.request))
      alive.forEach((one, i) => {
        const verdict = verdicts[i] ?? UNAVAILABLE
        if (verdict.outcome === 'limited') blocked.add(one.request.client.id, verdict.window)
        one.settle(verdict)
      })
    } catch (error) {
      // Fail closed: perhaps the rows are there and perhaps not, so none of these tokens leaves.
      onFailure?.(error, alive.length)
      for (const one of alive) one.settle(UNAVAILABLE)
    }
  }

  return {
    admit(request) {
      if (closed || waiting.length >= bufferSize) return Promise.resolve(UNAVAILABLE)
      return new Promise((settle) => {
        waiting.push({ request, deadline: now() + patienceMilliseconds, settle })
        // The requests of this turn of the event loop share a batch, at no cost in time.
        if (!isScheduled && inFlight < concurrency) {
          isScheduled = true
          setImmediate(commitWaiting)
        }
      })
    },
    blockedWindow: blocked.find,
    close() {
      closed = true
      return new Promise((resolve) => {
        idle.push(resolve)
        commitWaiting()
      })
    },
  }
}

/** Clients whose window is used up, until it ends: a flood of theirs stays in memory. */
function createBlockedWindows(now: () => number) {
  const MAX_CLIENTS = 10_000
  const windows = new Map<string, { limit: number; endsAt: number }>()
  return {
    add(clientId: string, window: Window) {
      if (windows.size >= MAX_CLIENTS) windows.clear()
      windows.set(clientId, { limit: window.limit, endsAt: now() + window.resetSeconds * 1000 })
    },
    find(clientId: string): Window | undefined {
      const window = windows.get(clientId)
      if (!window) return undefined
      const left = window.endsAt - now()
      if (left > 0) return { limit: window.limit, remaining: 0, resetSeconds: Math.ceil(left / 1000) }
      windows.delete(clientId)
      return undefined
    },
  }
}
