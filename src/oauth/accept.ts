/** Which of two media types a request would rather have (RFC 9110 §12.5.1). */

/** Nobody has more to say; of what is longer, the rest is not read. */
const MAX_LENGTH = 1000

type Range = { type: string; quality: number }

/**
 * Whether `wanted` is to be sent and not `usual`: it is named, and `usual` is not liked as much. That anything is welcome is
 * no word for it. Who accepts neither gets what is usual.
 */
export function isPreferred(accept: string | undefined, wanted: string, usual: string): boolean {
  const ranges = (accept ?? '').slice(0, MAX_LENGTH).split(',').map(parseRange)
  const named = ranges.find(({ type }) => type === wanted)
  if (!named || named.quality === 0) return false
  const usualNamed = ranges.find(({ type }) => type === usual)
  // Named side by side, either will do.
  return usualNamed ? named.quality > usualNamed.quality : named.quality >= qualityByWildcard(ranges, usual)
}

/** The more specific range counts. */
function qualityByWildcard(ranges: readonly Range[], type: string): number {
  const ofKind = ranges.find((range) => range.type === `${type.split('/')[0]}/*`)
  return (ofKind ?? ranges.find((range) => range.type === '*/*'))?.quality ?? 0
}

/** What is malformed counts for nothing. */
function parseRange(text: string): Range {
  const [type = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase())
  const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2)
  if (weight === undefined) return { type, quality: 1 }
  return { type, quality: /^(0(\.\d{0,3})?|1(\.0{0,3})?)$/.test(weight) ? Number(weight) : 0 }
}
