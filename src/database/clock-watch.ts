/**
 * Whether this instance's clock is the database's, give or take. Between two questions the monotonic clock carries the
 * database's time on, so a jump of ours is seen in the moment in which it happens, and not at the next question.
 */
import { sql } from 'drizzle-orm'
import type { Clock } from '../clock.ts'
import type { Database } from './database.ts'

/** Past it, tokens would begin or end at a time that verifiers do not share. */
export const CLOCK_LIMIT_MILLISECONDS = 5_000
/** Between two questions that a wrong clock asks by itself. */
const AGAIN_MILLISECONDS = 500

export type ClockWatch = {
  /** Asks the database for its time. Rejects when it does not answer. */
  measure(): Promise<void>
  /** Milliseconds by which our clock is ahead, by the last answer. Undefined: there was none yet. */
  aheadMilliseconds(): number | undefined
  /** Whether both agree; not before they were compared. */
  isRight(): boolean
}

export function createClockWatch(options: {
  database: Pick<Database, 'execute'>
  now: Clock
  /** Called when they begin to differ, and when they agree again. */
  onChange: (isRight: boolean, aheadMilliseconds: number) => void
  /** Milliseconds that go on whatever is done to the clock. */
  elapsed?: () => number
}): ClockWatch {
  const { database, now, onChange, elapsed = performance.now.bind(performance) } = options
  /** The database's time where `elapsed` is 0. */
  let origin: number | undefined
  let wasRight = true
  let measuring: Promise<void> | undefined
  let measuredAt = Number.NEGATIVE_INFINITY

  async function ask(): Promise<void> {
    const asked = elapsed()
    measuredAt = asked
    const [row] = await database.execute<{ milliseconds: number }>(
      sql`select extract(epoch from clock_timestamp())::float8 * 1000 as milliseconds`,
    )
    if (row) origin = row.milliseconds - (asked + elapsed()) / 2
    isRight()
  }

  function measure(): Promise<void> {
    measuring ??= ask().finally(() => {
      measuring = undefined
    })
    return measuring
  }

  const aheadMilliseconds = () => (origin === undefined ? undefined : now() - origin - elapsed())

  function isRight(): boolean {
    const ahead = aheadMilliseconds()
    if (ahead === undefined) return false
    const right = Math.abs(ahead) <= CLOCK_LIMIT_MILLISECONDS
    if (right !== wasRight) onChange(right, ahead)
    wasRight = right
    // A machine that slept has a monotonic clock that did too: then the database knows better.
    if (!right && elapsed() - measuredAt > AGAIN_MILLISECONDS) measure().catch(() => {})
    return right
  }

  return { measure, aheadMilliseconds, isRight }
}
