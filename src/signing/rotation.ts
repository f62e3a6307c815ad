/**
 * The life of a signing key, derived from its timestamps: nothing stores a state that could contradict them.
 *
 *   published → active → retiring → removed        (and revoked, from anywhere)
 *
 * A key is published before it signs, so that every verifier has had time to fetch it, and stays published until the
 * last token it signed has expired.
 */
export type Timeline = {
  publishedAt: Date
  activatesAt: Date
  retiresAt: Date | null
  removesAt: Date | null
  revokedAt: Date | null
}

export type SigningKeyState = 'unpublished' | 'published' | 'active' | 'retiring' | 'removed' | 'revoked'

/** The state at `now` (milliseconds). Each timestamp is the first moment of what it names. */
export function signingKeyState(timeline: Timeline, now: number): SigningKeyState {
  const past = (moment: Date | null) => moment !== null && moment.getTime() <= now
  if (past(timeline.revokedAt)) return 'revoked'
  if (past(timeline.removesAt)) return 'removed'
  if (past(timeline.retiresAt)) return 'retiring'
  if (past(timeline.activatesAt)) return 'active'
  if (past(timeline.publishedAt)) return 'published'
  return 'unpublished'
}

/** Those that verifiers must know. */
export const isPublished = (timeline: Timeline, now: number): boolean =>
  ['published', 'active', 'retiring'].includes(signingKeyState(timeline, now))

/** The one that signs: of several active ones, the youngest. */
export function activeSigningKey<T extends Timeline & { kid: string }>(
  keys: readonly T[],
  now: number,
): T | undefined {
  return keys
    .filter((key) => signingKeyState(key, now) === 'active')
    .sort((a, b) => b.activatesAt.getTime() - a.activatesAt.getTime() || (a.kid < b.kid ? -1 : 1))[0]
}
