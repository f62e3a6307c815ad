/** Whether the exchange is as fast, beside the floor, as it was: medians of rounds against what was recorded. */

export type Round = {
  product: { rps: number; serverCpu: number; otherCores: number }
  floor: { rps: number; serverCpu: number; otherCores: number }
}

export type Ratios = {
  /** Requests per second, the product's to the floor's. */
  ratio: number
  /** Processor time of the server per request, the floor's to the product's. Undefined where the system does not tell. */
  cpuRatio: number | undefined
}

/** What a ratio may have fallen by: more is no noise. */
export const MAX_FALL = 0.15
/** A round in which everything else on the machine had more cores than this says little: PostgreSQL had to wait. */
const DISTURBED_CORES = 0.3

/** The rounds that were not disturbed, where those are the most; else all, and the machine was not quiet. */
export function judgeable<R extends Round>(rounds: readonly R[]): { judged: readonly R[]; isQuiet: boolean } {
  const quiet = rounds.filter(({ product, floor }) =>
    [product, floor].every(({ otherCores }) => !(otherCores > DISTURBED_CORES)),
  )
  const isQuiet = 2 * quiet.length > rounds.length
  return { judged: isQuiet ? quiet : rounds, isQuiet }
}

export function ratiosOf(rounds: readonly Round[]): Ratios {
  const cpuRatio = median(rounds.map(({ product, floor }) => floor.serverCpu / product.serverCpu))
  return {
    ratio: median(rounds.map(({ product, floor }) => product.rps / floor.rps)),
    cpuRatio: Number.isFinite(cpuRatio) ? cpuRatio : undefined,
  }
}

/**
 * What has fallen too far, in words. On a machine that was not quiet the processor time alone decides: the exchange waits
 * for PostgreSQL, on a core that others want too, and the floor for nobody. (Beside programs that took a core and a half,
 * the ratio of requests went from 0.35 to 0.19, that of processor time from 0.39 to 0.38.)
 */
export function findFalls(found: Ratios, recorded: Ratios, isQuiet: boolean): string[] {
  return (['ratio', 'cpuRatio'] as const).flatMap((name) => {
    const [now, then] = [found[name], recorded[name]]
    if (name === 'ratio' && !isQuiet && found.cpuRatio !== undefined) return []
    if (now === undefined || then === undefined || now >= then * (1 - MAX_FALL)) return []
    const what = name === 'ratio' ? 'requests per second' : 'processor time per request'
    return [`the ratio of ${what} is ${now.toFixed(2)} and was ${then.toFixed(2)}`]
  })
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2
}
