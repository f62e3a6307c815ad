/** Whether this instance can mint, and why not: what /readyz says, so that nobody sends requests where they fail. */
import type { Logger } from 'pino'
import { systemClock } from './clock.ts'
import { type ClockWatch, createClockWatch } from './database/clock-watch.ts'
import { answers, type Database } from './database/database.ts'

/** Slower than this, the exchange would not get its answers in time either. */
const ANSWER_MILLISECONDS = 500

export const UNREADY = ['draining', 'starting', 'clock', 'signing_keys', 'database'] as const
export type Unreadiness = (typeof UNREADY)[number]

export function createFindUnreadiness(options: {
  isDraining: () => boolean
  isStarted: () => boolean
  clock: Pick<ClockWatch, 'isRight' | 'aheadMilliseconds'>
  signer: { isReady(): boolean }
  /** Many who ask at once cost it one question. */
  database: Database
}): () => Promise<Unreadiness | undefined> {
  const { isDraining, isStarted, clock, signer, database } = options
  let asking: Promise<boolean> | undefined
  return async function findUnreadiness() {
    if (isDraining()) return 'draining'
    // Before it has started: with a clock that is off, it never does.
    if (clock.aheadMilliseconds() !== undefined && !clock.isRight()) return 'clock'
    if (!isStarted()) return 'starting'
    if (!signer.isReady()) return 'signing_keys'
    asking ??= answers(database, ANSWER_MILLISECONDS).finally(() => {
      asking = undefined
    })
    return (await asking) ? undefined : 'database'
  }
}

/** The instance's clock against the database's, and what the log says of it. */
export const watchClock = (database: Database, log: Logger): ClockWatch =>
  createClockWatch({
    database,
    // Not one that a test moves: that moves the whole world's time.
    now: systemClock,
    onChange: (isRight, aheadMilliseconds) =>
      isRight
        ? log.warn('the clock agrees with the database’s again')
        : log.error(
            { ahead_seconds: Math.round(aheadMilliseconds / 1000) },
            'the clock is not the database’s: nothing is minted until they agree; look at NTP on both machines',
          ),
  })
