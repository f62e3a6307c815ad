/** Time is passed in, so that rules can be tested at the edge of a second. Milliseconds since 1970, as Date.now(). */
export type Clock = () => number

export const systemClock: Clock = Date.now

/** Whole seconds, as JWT's NumericDate and `expiry` count them (RFC 7519 §2). */
export const toSeconds = (milliseconds: number): number => Math.floor(milliseconds / 1000)
