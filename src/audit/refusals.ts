/**
 * Refusals, for the audit trail. A flood of them must neither fill the disk nor slow down who is served: like ones are
 * counted together in memory, and what is written is rationed. However coarse it gets, nothing goes uncounted:
 *
 * 1. Like refusals (operation, code, client, key, target, source) of about two seconds make one row.
 * 2. Past a minute's ration, and for whoever exceeds a rate limit (which usage tells, too), they are counted per code
 *    and client, and written when the next minute begins;
 * 3. past a number of those, per code alone.
 *
 * While the database is down, what does not fit in memory is counted in ever coarser rows. A killed process loses the
 * last two seconds, and of the coarse rows those of the running minute.
 */
import { newId } from '../ids.ts'
import type { ManagementRefusal } from '../management/routes.ts'
import type { AuditEvent } from './audit.ts'

type RefusedActor = { clientId: string; keyId: string; organizationId: string }

export type Refused = {
  action: 'request.refused' | 'token.refused'
  operation: string
  /** Why. One of a few: never what a caller sent. */
  code: string
  /** Undefined: nobody proved to be anybody. */
  actor: RefusedActor | undefined
  targetId: string | undefined
  clientAddress: string
  requestId: string
}

export type Refusals = {
  record(refused: Refused): void
  /** Of a request of the management API. */
  recordRequest(refused: ManagementRefusal): void
  /** Writes what has gathered, for the last time. */
  close(): Promise<void>
}

const FLUSH_MILLISECONDS = 2000
const MINUTE = 60_000
/** Rows per minute and instance. One client may have no more than its part of them, nor all that are nobody together. */
const ROWS_PER_MINUTE = 120
const ROWS_PER_CLIENT = 20
const ROWS_OF_NOBODY = 40
/** Of the second kind, in a minute. Those of the third are as many as there are codes: a few dozen. */
const MAX_COARSE = 40
/** Rows that wait to be written. Past it, the database has been down for long, and no finer ones are made. */
const MAX_WAITING = 300
const BATCH_SIZE = 100

/** What a limit refuses is expected, and endless. */
const EXPECTED = ['limited', 'too_many_refusals', 'rate_limited']

type Tally = Omit<Refused, 'operation'> & {
  id: string
  /** Null: several. */
  operation: string | null
  address: string | null
  count: number
  firstAt: number
  lastAt: number
}

export function createRefusals(options: {
  /** Writes them, or rejects and has written none or all: it must be harmless to repeat. */
  write: (events: readonly AuditEvent[]) => Promise<void>
  /** What counts as one source: an address, or the network of one subscriber. */
  sourceOf: (clientAddress: string) => string
  now: () => number
  onFailure?: (error: unknown) => void
}): Refusals {
  const { write, sourceOf, now, onFailure } = options
  const fine = new Map<string, Tally>()
  const perClient = new Map<string, Tally>()
  const perCode = new Map<string, Tally>()
  /** They do not change any more: one of them may be in the database already, its confirmation lost. */
  let waiting: AuditEvent[] = []
  let minute = 0
  let ration = ROWS_PER_MINUTE
  const used = new Map<string, number>()

  function record(refused: Refused): void {
    const at = now()
    beginMinute(at)
    const isExpected = EXPECTED.includes(refused.code)
    const tally = (isExpected ? undefined : fineTally(refused, at)) ?? coarseTally(refused, at)
    tally.count++
    tally.lastAt = at
  }

  /** Undefined: there is no row left for it. */
  function fineTally(refused: Refused, at: number): Tally | undefined {
    const { operation, code, actor, targetId, clientAddress } = refused
    const who = actor ? `${actor.clientId} ${actor.keyId}` : ''
    const like = `${operation} ${code} ${who} ${targetId ?? ''} ${sourceOf(clientAddress)}`
    const tally = fine.get(like)
    if (tally || !takeRation(actor)) return tally
    return startTally(fine, like, { ...refused, address: clientAddress }, at)
  }

  function coarseTally(refused: Refused, at: number): Tally {
    const ofCode = `${refused.action} ${refused.code}`
    const ofClient = `${ofCode} ${refused.actor?.clientId ?? ''}`
    const tally = perClient.get(ofClient) ?? perCode.get(ofCode)
    if (tally) return tally
    const coarse = { ...refused, operation: null, targetId: undefined, address: null }
    return perClient.size < MAX_COARSE
      ? startTally(perClient, ofClient, coarse, at)
      : startTally(perCode, ofCode, { ...coarse, actor: undefined }, at)
  }

  function takeRation(actor: RefusedActor | undefined): boolean {
    const name = actor?.clientId ?? ''
    const taken = used.get(name) ?? 0
    if (taken >= (actor ? ROWS_PER_CLIENT : ROWS_OF_NOBODY) || ration <= 0) return false
    if (waiting.length + fine.size >= MAX_WAITING) return false
    ration--
    used.set(name, taken + 1)
    return true
  }

  /** The coarse rows of the last minute come out of this one's ration. */
  function beginMinute(at: number): void {
    const current = Math.floor(at / MINUTE)
    if (current === minute) return
    minute = current
    used.clear()
    const coarse = perClient.size + perCode.size
    ration = ROWS_PER_MINUTE
    // What cannot be written yet goes on being counted.
    if (waiting.length + coarse > MAX_WAITING) return
    ration -= coarse
    settle(perClient)
    settle(perCode)
  }

  function settle(tallies: Map<string, Tally>): void {
    for (const tally of tallies.values()) waiting.push(toEvent(tally))
    tallies.clear()
  }

  async function flush(): Promise<void> {
    beginMinute(now())
    settle(fine)
    while (waiting.length > 0) {
      const batch = waiting.slice(0, BATCH_SIZE)
      await write(batch)
      waiting = waiting.slice(batch.length)
    }
  }

  let flushing = Promise.resolve()
  /** One after the other; while one is under way, others need not queue. */
  let isFlushing = false
  function flushInTurn(): Promise<void> {
    isFlushing = true
    flushing = flushing
      .then(flush)
      .catch((error) => onFailure?.(error))
      .finally(() => {
        isFlushing = false
      })
    return flushing
  }
  const timer = setInterval(() => {
    if (!isFlushing) flushInTurn()
  }, FLUSH_MILLISECONDS).unref()

  return {
    record,
    recordRequest: ({ bearer, ...refused }) =>
      record({ ...refused, action: 'request.refused', actor: bearer }),
    async close() {
      clearInterval(timer)
      settle(perClient)
      settle(perCode)
      await flushInTurn()
    },
  }
}

function startTally(
  tallies: Map<string, Tally>,
  name: string,
  what: Omit<Tally, 'id' | 'count' | 'firstAt' | 'lastAt'>,
  at: number,
): Tally {
  const tally = { ...what, id: newId('auditEvent'), count: 0, firstAt: at, lastAt: at }
  tallies.set(name, tally)
  return tally
}

function toEvent(tally: Tally): AuditEvent {
  const { id, action, operation, code, actor, targetId, address, requestId, count } = tally
  return {
    id,
    organizationId: actor?.organizationId ?? null,
    actorClientId: actor?.clientId ?? null,
    actorKeyId: operation === null ? null : (actor?.keyId ?? null),
    actorOrganizationId: actor?.organizationId ?? null,
    action,
    targetId: targetId ?? null,
    clientIp: address,
    requestId,
    details: {
      operation,
      code,
      count,
      first_at: new Date(tally.firstAt).toISOString(),
      last_at: new Date(tally.lastAt).toISOString(),
    },
  }
}
