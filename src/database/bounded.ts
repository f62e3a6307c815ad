/** Work that somebody waits for, bounded in number and time: the driver queues without bound what a dead database leaves behind. */
import { inTime, TooLateError } from '../clock.ts'
import { ApiError } from '../errors.ts'

/** Runs `work`. Rejects with ApiError `unavailable` when it fails, takes too long, or too much is under way already. */
export type Bounded = <T>(work: () => Promise<T>) => Promise<T>

export function createBounded(options: {
  maxPending: number
  deadlineMilliseconds: number
  /** For the caller: what cannot be done at the moment. */
  detail: string
}): Bounded {
  const { maxPending, deadlineMilliseconds, detail } = options
  let pending = 0
  return async function bounded(work) {
    try {
      if (pending >= maxPending) throw new TooLateError('too much waits for the database')
      pending++
      const working = work().finally(() => pending--)
      return await inTime(working, deadlineMilliseconds)
    } catch (cause) {
      throw new ApiError('unavailable', detail, { headers: { 'Retry-After': '1' }, cause })
    }
  }
}
