/** No token leaves that bears a time which is not the database's: its life would begin or end when nobody expects it. */
import { type Clock, toSeconds } from '../clock.ts'
import type { AdmitBatch } from './admission.ts'

/** Between its signature and its batch a token waits for less than a second. */
const WAIT_SECONDS = 5

/** As `admitBatch`, but rejects a batch while the clock is wrong, or when it was for one of its tokens. */
export function punctual(
  admitBatch: AdmitBatch,
  { clock, now }: { clock: { isRight(): boolean }; now: Clock },
): AdmitBatch {
  return async function admitPunctually(requests) {
    const seconds = toSeconds(now())
    if (!clock.isRight() || requests.some(({ issuedAt }) => Math.abs(issuedAt - seconds) > WAIT_SECONDS))
      throw new Error('the clock is not the database’s')
    return admitBatch(requests)
  }
}
