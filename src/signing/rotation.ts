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

/**
 * How long a key is published before it signs. A verifier's set may be old by what our answers allow (max-age 300 s and
 * stale-while-revalidate 60 s, routes.ts) and by what it keeps for itself (600 s in the SDK and the common libraries),
 * and another instance learns of a key up to 30 s late: 990 s, and room for clocks that differ.
 */
export const PUBLISHED_AHEAD_SECONDS = 1200

/** How long a key stays published once it has retired: the longest life of a token, and room for clocks that differ. */
export const PUBLISHED_AFTER_SECONDS = 86_400 + 900

/** A key that must sign at once has done so for this long already, for instances whose clock is behind the database's. */
export const CLOCK_MARGIN_SECONDS = 60

type PlannedKey = Timeline & { kid: string }

type NewTimeline = Pick<Timeline, 'publishedAt' | 'activatesAt'>
/** Of keys that are there already. */
type Updates = readonly { kid: string; changes: Partial<Timeline> }[]

/** What to write, in one transaction: at each moment before and after it, one key of the environment is active. */
export type RotationPlan =
  | { ok: true; insert: NewTimeline; updates: Updates }
  | { ok: false; nextActivatesAt: Date }
export type RevocationPlan = { insert?: NewTimeline; updates: Updates }

/** The next key of an environment and the end of the present one's signing; `keys` are the environment's. */
export function planRotation(keys: readonly PlannedKey[], now: number): RotationPlan {
  const live = keys.filter(isNotRevoked)
  const next = nextSigningKey(live, now)
  if (next) return { ok: false, nextActivatesAt: next.activatesAt }
  const active = live.filter((key) => signingKeyState(key, now) === 'active')
  // Nothing signs: there is nothing to wait for.
  if (active.length === 0) return { ok: true, insert: atOnce(now), updates: [] }
  const activatesAt = later(now, PUBLISHED_AHEAD_SECONDS)
  const changes = { retiresAt: activatesAt, removesAt: later(activatesAt.getTime(), PUBLISHED_AFTER_SECONDS) }
  return {
    ok: true,
    insert: { publishedAt: new Date(now), activatesAt },
    updates: active.map(({ kid }) => ({ kid, changes })),
  }
}

/** Whether an environment's key has signed for as long as it should, and nothing is on its way to take its place. */
export function isRotationDue(keys: readonly PlannedKey[], now: number, afterSeconds: number): boolean {
  const live = keys.filter(isNotRevoked)
  if (nextSigningKey(live, now)) return false
  const active = activeSigningKey(live, now)
  return !active || active.activatesAt.getTime() + afterSeconds * 1000 <= now
}

/**
 * The end of a key, now: and whatever it takes for another one to sign. That is the one that is published already, or
 * a new one; verifiers that do not have it yet must fetch it, which is what an emergency costs. `keys` are the
 * environment's, `kid` one of them. Of a key that is revoked already: nothing.
 */
export function planRevocation(keys: readonly PlannedKey[], kid: string, now: number): RevocationPlan {
  const target = keys.find((key) => key.kid === kid)
  if (!target || target.revokedAt !== null) return { updates: [] }
  const revoked = { kid, changes: { revokedAt: new Date(now) } }
  const others = keys.filter((key) => key !== target && isNotRevoked(key))
  const next = nextSigningKey(others, now)
  const active = activeSigningKey(others, now)
  if (!active && !next) return { insert: atOnce(now), updates: [revoked] }
  if (!active && next) return { updates: [revoked, { kid: next.kid, changes: startingAtOnce(now) }] }
  // It was to retire in favour of the key that is revoked: now nobody takes its place.
  if (active && !next && active.retiresAt !== null)
    return { updates: [revoked, { kid: active.kid, changes: { retiresAt: null, removesAt: null } }] }
  return { updates: [revoked] }
}

export const SIGNING_KEY_STATUSES = ['published', 'active', 'retiring', 'removed', 'revoked'] as const
export type SigningKeyStatus = (typeof SIGNING_KEY_STATUSES)[number]

/** The state as it is shown: `active` is only the one that signs, whose `kid` is given. */
export function signingKeyStatus(
  key: PlannedKey,
  activeKid: string | undefined,
  now: number,
): SigningKeyStatus {
  // A revocation counts from when it is known, whatever a clock says.
  const state = key.revokedAt === null ? signingKeyState(key, now) : 'revoked'
  if (state === 'active') return key.kid === activeKid ? 'active' : 'retiring'
  return state === 'unpublished' ? 'published' : state
}

/** The first of those that are still to sign. */
const nextSigningKey = (keys: readonly PlannedKey[], now: number): PlannedKey | undefined =>
  keys
    .filter((key) => ['unpublished', 'published'].includes(signingKeyState(key, now)))
    .sort((a, b) => a.activatesAt.getTime() - b.activatesAt.getTime())[0]

const isNotRevoked = ({ revokedAt }: Timeline) => revokedAt === null
const later = (moment: number, seconds: number) => new Date(moment + seconds * 1000)
const startingAtOnce = (now: number) => ({ activatesAt: later(now, -CLOCK_MARGIN_SECONDS) })

/** Of a new key, where none signs that it could wait for. */
export const atOnce = (now: number) => ({
  publishedAt: later(now, -CLOCK_MARGIN_SECONDS),
  ...startingAtOnce(now),
})
