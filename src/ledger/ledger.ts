/**
 * The ledger commits in groups: while batches are in flight, the next one gathers. A token may leave only once its
 * admission says so.
 */
import type { AdmissionRequest, AdmitBatch, Verdict, Window } from './admission.ts'

export type Answer = Verdict | { outcome: 'unavailable' }

export type LedgerOptions = {
  admitBatch: AdmitBatch
  /** Batches in flight at once. */
  concurrency?: number
  /** So many tokens, or one that has waited so long, begin a batch beside those in flight. */
  quorum?: number
  quorumMilliseconds?: number
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

type Waiting = { request: AdmissionRequest; since: number; settle: (answer: Answer) => void }

const UNAVAILABLE: Answer = { outcome: 'unavailable' }

export function createLedger(options: LedgerOptions): Ledger {
  const { admitBatch, concurrency = 3, batchSize = 256, bufferSize = 2048, onFailure } = options
  const { quorum = 24, quorumMilliseconds = 10, patienceMilliseconds = 300 } = options
  // A clock that never jumps.
  const now = performance.now.bind(performance)
  const blocked = createBlockedWindows(now)
  let waiting: Waiting[] = []
  let inFlight = 0
  let isScheduled = false
  let isTimed = false
  let closed = false
  const idle: (() => void)[] = []

  /**
   * A batch costs the same whether it holds one token or ten, so the next one waits for the last, unless it is worth its cost.
   * Were it not to wait, a busy process would fall into step with the database: one token that asks first goes alone, all
   * others follow in one batch, and nothing is left to be signed meanwhile.
   */
  const mayBegin = ([first]: Waiting[]): boolean =>
    first !== undefined &&
    inFlight < concurrency &&
    (inFlight === 0 || waiting.length >= quorum || closed || now() - first.since >= quorumMilliseconds)

  function beginBatches(): void {
    while (mayBegin(waiting)) {
      const batch = waiting.slice(0, batchSize)
      waiting = waiting.slice(batchSize)
      inFlight++
      commit(batch).finally(() => {
        inFlight--
        gather()
      })
    }
    if (inFlight === 0) for (const resolve of idle.splice(0)) resolve()
  }

  function gather(): void {
    if (waiting.length >= quorum || closed) beginBatches()
    // The requests of this turn of the event loop share a batch, at no cost in time.
    else if (inFlight === 0 && !isScheduled) {
      isScheduled = true
      setImmediate(() => {
        isScheduled = false
        beginBatches()
      })
    } else if (inFlight > 0 && waiting.length > 0 && !isTimed) {
      isTimed = true
      setTimeout(() => {
        isTimed = false
        beginBatches()
        gather()
      }, quorumMilliseconds)
    }
  }

  async function commit(batch: Waiting[]): Promise<void> {
    const oldest = now() - patienceMilliseconds
    const [alive, late] = [
      batch.filter(({ since }) => since > oldest),
      batch.filter(({ since }) => since <= oldest),
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
      for (const one of alive) one.settle(UNAVAILABLE)
      onFailure?.(error, alive.length)
    }
  }

  return {
    admit(request) {
      if (closed || waiting.length >= bufferSize) return Promise.resolve(UNAVAILABLE)
      return new Promise((settle) => {
        waiting.push({ request, since: now(), settle })
        gather()
      })
    },
    blockedWindow: blocked.find,
    close() {
      closed = true
      return new Promise((resolve) => {
        idle.push(resolve)
        beginBatches()
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
