/** Time is passed in, so that rules can be tested at the edge of a second. Milliseconds since 1970, as Date.now(). */
export type Clock = () => number

export const systemClock: Clock = Date.now

/** Whole seconds, as JWT's NumericDate and `expiry` count them (RFC 7519 §2). */
export const toSeconds = (milliseconds: number): number => Math.floor(milliseconds / 1000)

/** Resolves in the second that begins next. */
export const untilNextSecond = (now: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, 1000 - (now % 1000)))

export class TooLateError extends Error {
  override name = 'TooLateError'
}

/**
 * The promise's outcome, or a rejection with TooLateError once the time is over. Whatever the promise does afterwards is nobody's concern.
 */
export async function inTime<T>(promise: Promise<T>, milliseconds: number): Promise<T> {
  const expired = Promise.withResolvers<never>()
  const timer = setTimeout(() => expired.reject(new TooLateError('no answer in time')), milliseconds)
  try {
    return await Promise.race([promise, expired.promise])
  } finally {
    clearTimeout(timer)
    promise.catch(() => {})
  }
}
