/** Whether two series of measurements are of the same thing: Welch's t, as dudect takes it. */

/** Which share of the slowest samples is left out. */
const CROPS = [0, 0.01, 0.05, 0.1, 0.25, 0.5]

/** Of both together, the slowest are cropped: what disturbs a machine is slow, and tells nothing. */
export function largestT(a: Float64Array, b: Float64Array): number {
  const pooled = new Float64Array(a.length + b.length)
  pooled.set(a)
  pooled.set(b, a.length)
  pooled.sort()
  let largest = 0
  for (const crop of CROPS) {
    const limit = pooled[Math.ceil((1 - crop) * pooled.length) - 1] ?? Number.POSITIVE_INFINITY
    const t = welch(
      a.filter((each) => each <= limit),
      b.filter((each) => each <= limit),
    )
    if (Math.abs(t) > Math.abs(largest)) largest = t
  }
  return largest
}

function welch(a: Float64Array, b: Float64Array): number {
  const [x, y] = [moments(a), moments(b)]
  return (x.mean - y.mean) / Math.sqrt(x.variance / a.length + y.variance / b.length)
}

function moments(samples: Float64Array): { mean: number; variance: number } {
  const mean = samples.reduce((sum, each) => sum + each, 0) / samples.length
  return { mean, variance: samples.reduce((sum, each) => sum + (each - mean) ** 2, 0) / (samples.length - 1) }
}
