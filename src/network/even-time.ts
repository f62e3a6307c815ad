/**
 * Failed authentications are answered by a clock that all of them share: at a tick, and not before a time in which each of
 * them is done. So the time tells nobody whether there is such a key: what is remembered takes no read of the database,
 * what is unknown takes one, what is malformed takes nothing at all.
 */

/** From the request to its refusal, at least. Reads take a fraction of it; one that takes longer has the double. */
export const FAILURE_MILLISECONDS = 20
const TICK_MILLISECONDS = 5
/** Without anybody waiting: the ticks must not begin with the one who waits for them. */
const IDLE_TICKS = 2000

export type Evenly = <Request, Outcome>(
  work: (request: Request) => Promise<Outcome>,
  /** Of what `work` rejects with, `outcome` is undefined. */
  isFailure: (outcome: Outcome | undefined, error: unknown) => boolean,
) => (request: Request) => Promise<Outcome>

/** Makes of `work` the same, but for the moment in which a failure is told. `milliseconds` 0: at once. */
export function createEvenly(milliseconds = FAILURE_MILLISECONDS): Evenly {
  let waiting: { due: number; go: () => void }[] = []
  let timer: NodeJS.Timeout | undefined
  let idleTicks = 0

  function tick(): void {
    const now = performance.now()
    // In the order in which they came: in that of being done, the quickest would be told first.
    const due = waiting.filter((each) => each.due <= now).sort((a, b) => a.due - b.due)
    waiting = waiting.filter((each) => each.due > now)
    for (const { go } of due) go()
    idleTicks = due.length + waiting.length > 0 ? 0 : idleTicks + 1
    if (idleTicks < IDLE_TICKS) return
    clearInterval(timer)
    timer = undefined
  }

  function wait(began: number): Promise<void> {
    timer ??= setInterval(tick, TICK_MILLISECONDS).unref()
    const turns = Math.ceil((performance.now() - began) / milliseconds)
    const due = began + Math.max(1, turns) * milliseconds
    return new Promise((resolve) => waiting.push({ due, go: resolve }))
  }

  return (work, isFailure) => {
    if (milliseconds === 0) return work
    return async (request) => {
      const began = performance.now()
      try {
        const outcome = await work(request)
        if (isFailure(outcome, undefined)) await wait(began)
        return outcome
      } catch (error) {
        if (isFailure(undefined, error)) await wait(began)
        throw error
      }
    }
  }
}
