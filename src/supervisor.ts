/**
 * Several processes that serve one port (WORKERS). The supervisor holds the port and deals connections out in turn; it
 * starts another worker for each that dies, and tells them when to end. It serves nothing itself: what is promised is
 * kept by each worker, with PostgreSQL between them, as by instances on several machines.
 */
import cluster, { type Worker } from 'node:cluster'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { StartRefusedError } from './errors.ts'
import type { Foundation, StopSignals } from './serve.ts'

/** A worker that was not ready for so long when it ended has failed: the next one waits, longer each time. */
const EARLY_MILLISECONDS = 10_000
const MAX_PAUSE_MILLISECONDS = 10_000
const LAST_WORDS_MILLISECONDS = 200

/** What a worker needs that its environment does not tell. */
export type Assignment = {
  foundation: Foundation
  /** Nobody else serves: then /livez is answered from the beginning. Where others do, they answer until it is ready. */
  listensAtOnce: boolean
}

type FromWorker =
  | { type: 'asks' }
  | { type: 'ready' }
  /** Another start would end in the same way. */
  | { type: 'refuses'; reason: string }

export type SuperviseOptions = {
  workers: number
  foundation: Foundation
  /** Called once, when all workers are ready. */
  onReady: () => void
  stop: StopSignals
  /** What workers get to end in, before they are killed. */
  patienceMilliseconds: number
  log: Logger
}

/** `outcome`: its exit code, or the signal that ended it. */
type WorkerEnd = {
  pid: number | undefined
  outcome: number | string
  reason: string | undefined
  readyMilliseconds: number
}

/** `readySince`: by the monotonic clock. */
type Slot = { worker?: Worker; readySince: number | undefined }

/**
 * Resolves once all workers have ended, after `stop`. Rejects with StartRefusedError when a worker refuses to start
 * while no other one serves.
 */
export async function supervise(options: SuperviseOptions): Promise<void> {
  const { stop, log } = options
  // In turn, so that connections that stay, a gateway's, are spread evenly; advanced: bytes stay bytes.
  cluster.schedulingPolicy = cluster.SCHED_RR
  cluster.setupPrimary({ serialization: 'advanced' })
  const slots: Slot[] = Array.from({ length: options.workers }, () => ({ readySince: undefined }))
  const ending = new AbortController()
  let wasReady = false

  async function keepUp(slot: Slot): Promise<void> {
    for (let earlyEnds = 0; ; ) {
      const { pid, outcome, reason, readyMilliseconds } = await runWorker(slot)
      if (ending.signal.aborted) return
      if (reason !== undefined && !slots.some(isReady)) throw new StartRefusedError(reason)
      earlyEnds = readyMilliseconds < EARLY_MILLISECONDS ? earlyEnds + 1 : 0
      const pauseMilliseconds = pauseAfter(earlyEnds)
      log.error({ worker: pid, outcome, reason, pauseMilliseconds }, 'a worker ended; another one follows')
      await sleep(pauseMilliseconds, undefined, { signal: ending.signal }).catch(() => {})
      if (ending.signal.aborted) return
    }
  }

  /** Undefined where the machine has no room for another process. */
  function fork(): Worker | undefined {
    const onError = (error: unknown) =>
      log.error({ err: error }, 'a worker does not start, or does not listen')
    try {
      const worker = cluster.fork()
      // It may have no room either; or a message does not reach one that is dying.
      worker.on('error', onError)
      return worker
    } catch (error) {
      onError(error)
      return undefined
    }
  }

  /** Resolves with its end. */
  function runWorker(slot: Slot): Promise<WorkerEnd> {
    const worker = fork()
    if (!worker)
      return Promise.resolve({
        pid: undefined,
        outcome: 'not started',
        reason: undefined,
        readyMilliseconds: 0,
      })
    const { process: child } = worker
    const { pid } = child
    closeWhatItDidNotTake(worker)
    slot.worker = worker
    let reason: string | undefined
    worker.on('message', (message: FromWorker) => {
      if (message.type === 'asks') {
        const listensAtOnce = !slots.some(isReady)
        worker.send({ foundation: options.foundation, listensAtOnce } satisfies Assignment)
      } else if (message.type === 'ready') {
        slot.readySince = performance.now()
        log.info({ worker: pid }, 'a worker is ready')
        if (wasReady || !slots.every(isReady)) return
        wasReady = true
        options.onReady()
      } else reason = message.reason
    })
    return new Promise((resolve) => {
      const end = (outcome: number | string) => {
        const readyMilliseconds = performance.now() - (slot.readySince ?? performance.now())
        slot.readySince = undefined
        delete slot.worker
        resolve({ pid, outcome, reason, readyMilliseconds })
      }
      if (pid === undefined) end('not started')
      // What it said last is read by the time that its channel closes. Node (26.10) does not tell of that when a connection
      // was on its way, so that node:cluster would go on counting with the worker: then it is told here.
      const closed = new Promise<boolean>((done) => worker.once('disconnect', () => done(true)))
      worker.once('exit', async (code, signal) => {
        if (!(await Promise.race([closed, sleep(LAST_WORDS_MILLISECONDS, false)]))) child.emit('disconnect')
        end(signal ?? code)
      })
    })
  }

  const signalAll = (signal: 'SIGTERM' | 'SIGINT' | 'SIGKILL') => {
    for (const { worker } of slots) worker?.kill(signal)
  }
  let overdue: NodeJS.Timeout | undefined
  function endAll(signal: 'SIGTERM' | 'SIGINT'): void {
    ending.abort()
    signalAll(signal)
    overdue ??= setTimeout(() => {
      log.error('workers did not end in time and are killed')
      signalAll('SIGKILL')
    }, options.patienceMilliseconds)
  }
  stop.requested.addEventListener('abort', () => endAll(stop.hurried.aborted ? 'SIGINT' : 'SIGTERM'))
  stop.hurried.addEventListener('abort', () => endAll('SIGINT'))
  if (stop.requested.aborted) return

  const running = slots.map(keepUp)
  try {
    await Promise.all(running)
  } catch (error) {
    endAll('SIGINT')
    await Promise.allSettled(running)
    throw error
  } finally {
    clearTimeout(overdue)
  }
}

/**
 * node:cluster (26.10) forgets the connection that it was handing to a worker when that one died: open and unanswered
 * for as long as the client has patience. Closed, the client knows at once.
 */
function closeWhatItDidNotTake(worker: Worker): void {
  const { process: child } = worker
  // It was not started.
  if (!child.send) return
  const handed = new Map<unknown, { close(): void }>()
  const send = child.send.bind(child) as (...sent: unknown[]) => boolean
  child.send = (...sent: unknown[]) => {
    const [message, handle] = sent as [{ act?: unknown; seq?: unknown }, { close(): void } | undefined]
    if (message.act === 'newconn' && handle) {
      if (worker.isDead()) handle.close()
      else handed.set(message.seq, handle)
    }
    return worker.isDead() ? false : send(...sent)
  }
  child.on('internalMessage', ({ ack }: { ack?: unknown }) => handed.delete(ack))
  worker.once('exit', () => {
    for (const handle of handed.values()) handle.close()
  })
}

const isReady = ({ readySince }: Slot): boolean => readySince !== undefined

/** Milliseconds: none after a long life; then growing, with jitter, so that workers do not come back as a herd. */
function pauseAfter(earlyEnds: number): number {
  const longest = earlyEnds === 0 ? 0 : Math.min(100 * 2 ** earlyEnds, MAX_PAUSE_MILLISECONDS)
  return Math.round(longest * (0.5 + Math.random() / 2))
}

/** The worker's side. Without its supervisor a worker is ended at once, by node:cluster. */
export type Supervised = {
  assignment: Promise<Assignment>
  reportReady(): void
  /** Resolves once the supervisor has it. */
  refuse(reason: string): Promise<void>
}

/** Undefined in a process that no supervisor has started. */
export function joinSupervisor(): Supervised | undefined {
  const { worker } = cluster
  if (!worker) return undefined
  const { process: channel } = worker
  const tell = (message: FromWorker) =>
    new Promise<void>((resolve) => void channel.send?.(message, () => resolve()))
  const assignment = new Promise<Assignment>((resolve) => worker.once('message', resolve))
  void tell({ type: 'asks' })
  return {
    assignment,
    reportReady: () => void tell({ type: 'ready' }),
    refuse: (reason) => tell({ type: 'refuses', reason }),
  }
}
