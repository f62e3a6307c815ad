/**
 * Who may go next, where only so many may go at once: those that wait go by turns, one of each share. So whoever asks
 * for much waits behind their own, and others wait for one of theirs at most.
 */

export type SharesOptions = {
  /** How many may go at once; of one share one fewer, so that none ever has all of it (but the only one). */
  max: number
  /** How many may be there at once, going or waiting. A share that has none there yet finds a place beside them. */
  maxPending: number
  maxPendingPerShare: number
}

export type Place = {
  /** Resolves once it may go; stays pending for ever if it leaves before that. */
  admitted: Promise<void>
  isWaiting(): boolean
  /** It has been going for too long: the next one goes beside it. Until it leaves it is still there, and counts. */
  stepAside(): void
  /** To be called once: it is over, or nobody waits for it any more. */
  leave(): void
}

export type Shares = {
  /** A place at the end of the share's row; undefined: there is none. */
  join(name: string): Place | undefined
}

type Share = { pending: number; going: number; waiting: Set<() => void> }

export function createShares({ max, maxPending, maxPendingPerShare }: SharesOptions): Shares {
  const maxGoingPerShare = Math.max(1, max - 1)
  /** Whose turn is next stands first. */
  const shares = new Map<string, Share>()
  let going = 0
  let pending = 0

  function admit(): void {
    for (const [name, share] of shares) {
      if (going >= max) return
      const [next] = share.waiting
      if (!next || share.going >= maxGoingPerShare) continue
      share.waiting.delete(next)
      share.going++
      going++
      // To the end, where this very loop comes to it again.
      shares.delete(name)
      shares.set(name, share)
      next()
    }
  }

  return {
    join(name) {
      const share = shares.get(name) ?? { pending: 0, going: 0, waiting: new Set() }
      if (share.pending >= maxPendingPerShare) return undefined
      if (share.pending > 0 && pending >= maxPending) return undefined
      shares.set(name, share)
      share.pending++
      pending++
      const { promise: admitted, resolve } = Promise.withResolvers<void>()
      let isGoing = false
      const go = () => {
        isGoing = true
        resolve()
      }
      share.waiting.add(go)
      admit()

      function stepAside(): void {
        if (!isGoing) return
        isGoing = false
        share.going--
        going--
        admit()
      }
      return {
        admitted,
        isWaiting: () => share.waiting.has(go),
        stepAside,
        leave() {
          share.waiting.delete(go)
          share.pending--
          pending--
          if (share.pending === 0) shares.delete(name)
          stepAside()
        },
      }
    },
  }
}
