/**
 * Failed authentications are counted by where they come from, never against the key they name: else whoever knows a
 * key's first characters could use up its quota. An instance counts for itself; this is a brake, not a limit.
 */
import { RateLimiterMemory } from 'rate-limiter-flexible'
import { sourceOf } from './address.ts'

export type FailureThrottle = {
  /** Seconds until this source may try again, or undefined while it may. */
  blockedSeconds(clientAddress: string): Promise<number | undefined>
  recordFailure(clientAddress: string): Promise<void>
}

export function createFailureThrottle(failuresPerMinute: number): FailureThrottle {
  const limiter = new RateLimiterMemory({ points: failuresPerMinute, duration: 60 })
  return {
    async blockedSeconds(clientAddress) {
      const failures = await limiter.get(sourceOf(clientAddress))
      if (!failures || failures.consumedPoints < failuresPerMinute) return undefined
      return Math.max(1, Math.ceil(failures.msBeforeNext / 1000))
    },
    async recordFailure(clientAddress) {
      await limiter.penalty(sourceOf(clientAddress), 1)
    },
  }
}
