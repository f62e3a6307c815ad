/**
 * Brakes on what costs the database something and earns nobody a token. An instance counts for itself, in memory:
 * these are no limits that anybody may rely on.
 */
import { RateLimiterMemory } from 'rate-limiter-flexible'

export type Throttle = {
  /** Seconds until whoever this is may try again, or undefined while they may. */
  blockedSeconds(id: string): Promise<number | undefined>
  record(id: string): Promise<void>
}

export function createThrottle(perMinute: number): Throttle {
  const limiter = new RateLimiterMemory({ points: perMinute, duration: 60 })
  return {
    async blockedSeconds(id) {
      const recorded = await limiter.get(id)
      if (!recorded || recorded.consumedPoints < perMinute) return undefined
      return Math.max(1, Math.ceil(recorded.msBeforeNext / 1000))
    },
    async record(id) {
      await limiter.penalty(id, 1)
    },
  }
}
