import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  activeSigningKey,
  CLOCK_MARGIN_SECONDS,
  isPublished,
  isRotationDue,
  PUBLISHED_AFTER_SECONDS,
  PUBLISHED_AHEAD_SECONDS,
  planRevocation,
  planRotation,
  type RevocationPlan,
  signingKeyState,
  signingKeyStatus,
  type Timeline,
} from '../../src/signing/rotation.ts'

const at = (milliseconds: number) => new Date(milliseconds)
const timeline: Timeline = {
  publishedAt: at(100),
  activatesAt: at(200),
  retiresAt: at(300),
  removesAt: at(400),
  revokedAt: null,
}

describe('the life of a signing key', () => {
  test.each([
    [99, 'unpublished', false],
    [100, 'published', true],
    [199, 'published', true],
    [200, 'active', true],
    [299, 'active', true],
    [300, 'retiring', true],
    [399, 'retiring', true],
    [400, 'removed', false],
  ] as const)('at %i it is %s', (now, state, published) => {
    expect(signingKeyState(timeline, now)).toBe(state)
    expect(isPublished(timeline, now)).toBe(published)
  })

  test('without an end it stays active', () => {
    expect(signingKeyState({ ...timeline, retiresAt: null, removesAt: null }, 1e12)).toBe('active')
  })

  test('revoked counts before everything, from its moment on', () => {
    for (const now of [150, 250, 350, 450])
      expect(signingKeyState({ ...timeline, revokedAt: at(150) }, now)).toBe('revoked')
    expect(signingKeyState({ ...timeline, revokedAt: at(250) }, 249)).toBe('active')
    expect(isPublished({ ...timeline, revokedAt: at(250) }, 250)).toBe(false)
  })

  test('of several active keys the youngest signs, and every instance chooses the same', () => {
    const older = { ...timeline, retiresAt: null, removesAt: null, kid: 'a' }
    const younger = { ...older, activatesAt: at(210), kid: 'b' }
    const twin = { ...younger, kid: 'c' }
    const later = { ...older, activatesAt: at(500), kid: 'd' }
    expect(activeSigningKey([older, younger, later], 250)?.kid).toBe('b')
    expect(activeSigningKey([twin, older, younger], 250)?.kid).toBe('b')
    expect(activeSigningKey([younger, twin, older], 250)?.kid).toBe('b')
    expect(activeSigningKey([older, younger, later], 205)?.kid).toBe('a')
    expect(activeSigningKey([later], 250)).toBeUndefined()
  })
})

const TOKEN_SECONDS = 86_400
const AHEAD = PUBLISHED_AHEAD_SECONDS * 1000
const AFTER = PUBLISHED_AFTER_SECONDS * 1000
const MARGIN = CLOCK_MARGIN_SECONDS * 1000

type Key = Timeline & { kid: string }
const newKey = (kid: string, publishedAt: number, activatesAt = publishedAt): Key => ({
  kid,
  publishedAt: at(publishedAt),
  activatesAt: at(activatesAt),
  retiresAt: null,
  removesAt: null,
  revokedAt: null,
})

/** As the transaction would write it. */
function applied(keys: readonly Key[], plan: RevocationPlan, kid: string): Key[] {
  const updated = keys.map((key) => ({
    ...key,
    ...plan.updates.find((each) => each.kid === key.kid)?.changes,
  }))
  return plan.insert ? [...updated, { ...newKey(kid, 0), ...plan.insert }] : updated
}

const rotated = (keys: readonly Key[], now: number, kid: string): Key[] => {
  const plan = planRotation(keys, now)
  if (!plan.ok) throw new Error(`the next one activates at ${plan.nextActivatesAt.getTime()}`)
  return applied(keys, plan, kid)
}
const revoked = (keys: readonly Key[], now: number, of: string, kid = 'successor'): Key[] =>
  applied(keys, planRevocation(keys, of, now), kid)

const statusesOf = (keys: readonly Key[], now: number) =>
  Object.fromEntries(
    keys.map((key) => [key.kid, signingKeyStatus(key, activeSigningKey(keys, now)?.kid, now)]),
  )

describe('the plan of a rotation', () => {
  const before = [newKey('a', 0)]
  const keys = rotated(before, 1_000, 'b')

  test.each([
    [1_000, { a: 'active', b: 'published' }],
    [1_000 + AHEAD - 1, { a: 'active', b: 'published' }],
    [1_000 + AHEAD, { a: 'retiring', b: 'active' }],
    [1_000 + AHEAD + AFTER - 1, { a: 'retiring', b: 'active' }],
    [1_000 + AHEAD + AFTER, { a: 'removed', b: 'active' }],
  ])('at %i', (now, statuses) => {
    expect(statusesOf(keys, now)).toEqual(statuses)
  })

  test('a key is published for as long as a verifier may keep a set, and until its last token has expired', () => {
    // max-age, stale-while-revalidate, the verifier's own cache, and the refresh of another instance.
    expect(PUBLISHED_AHEAD_SECONDS).toBeGreaterThanOrEqual(300 + 60 + 600 + 30)
    expect(PUBLISHED_AFTER_SECONDS).toBeGreaterThan(TOKEN_SECONDS)
  })

  test('while the next one waits, there is no other', () => {
    expect(planRotation(keys, 1_000 + AHEAD - 1)).toEqual({ ok: false, nextActivatesAt: at(1_000 + AHEAD) })
    expect(planRotation(keys, 1_000 + AHEAD).ok).toBe(true)
  })

  test('where nothing signs, the new key does at once', () => {
    for (const dead of [[], [{ ...newKey('a', 0), revokedAt: at(500) }]])
      expect(statusesOf(rotated(dead, 1_000, 'b'), 1_000)).toMatchObject({ b: 'active' })
  })
})

describe('whether a rotation is due', () => {
  const keys = [newKey('a', 1_000, 2_000)]
  const due = (rows: readonly Key[], now: number) => isRotationDue(rows, now, 60)

  test('when the active key has been active for that long', () => {
    expect([due(keys, 2_000), due(keys, 61_999), due(keys, 62_000), due(keys, 1e12)]).toEqual([
      false,
      false,
      true,
      true,
    ])
  })

  test('not while the next one waits, and from its own activation on it is that one’s time', () => {
    const next = rotated(keys, 62_000, 'b')
    const activates = 62_000 + AHEAD
    for (const now of [62_000, activates - 1, activates, activates + 59_999])
      expect([now, due(next, now)]).toEqual([now, false])
    expect(due(next, activates + 60_000)).toBe(true)
  })

  test('a revocation counts: of the next one, and of the only one', () => {
    expect(due(revoked(rotated(keys, 62_000, 'b'), 63_000, 'b'), 63_000)).toBe(true)
    expect(due([], 1_000)).toBe(true)
    expect(due([{ ...newKey('a', 0), revokedAt: at(500) }], 1_000)).toBe(true)
    // The successor is new.
    expect(isRotationDue(revoked(keys, 3_000, 'a'), 3_000, 3_600)).toBe(false)
  })
})

describe('the plan of a revocation', () => {
  test('of the only key: a new one signs at once, also on instances whose clock is behind', () => {
    const keys = revoked([newKey('a', 0)], 1_000_000, 'a')
    for (const now of [1_000_000 - MARGIN, 1_000_000])
      expect(signingKeyState(keys[1] as Key, now)).toBe('active')
    expect(statusesOf(keys, 1_000_000)).toEqual({ a: 'revoked', successor: 'active' })
  })

  test('of the active key, with the next one published: that one signs at once', () => {
    const keys = revoked(rotated([newKey('a', 0)], 1_000, 'b'), 100_000, 'a')
    expect(statusesOf(keys, 100_000)).toEqual({ a: 'revoked', b: 'active' })
    expect(statusesOf(keys, 1_000 + AHEAD + AFTER)).toEqual({ a: 'revoked', b: 'active' })
  })

  test('of the next key: the active one goes on, without end', () => {
    const keys = revoked(rotated([newKey('a', 0)], 1_000, 'b'), 2_000, 'b')
    for (const now of [2_000, 1_000 + AHEAD, 1_000 + AHEAD + AFTER])
      expect(statusesOf(keys, now)).toEqual({ a: 'active', b: 'revoked' })
  })

  test('of one that has retired, or was removed: nothing else changes', () => {
    const keys = rotated([newKey('a', 0)], 1_000, 'b')
    for (const now of [1_000 + AHEAD, 1_000 + AHEAD + AFTER])
      expect(planRevocation(keys, 'a', now)).toEqual({
        updates: [{ kid: 'a', changes: { revokedAt: at(now) } }],
      })
  })

  test('of one that is revoked already: nothing', () => {
    const keys = revoked([newKey('a', 0)], 1_000, 'a')
    expect(planRevocation(keys, 'a', 900)).toEqual({ updates: [] })
  })
})

test('F9 A38 whatever is rotated and revoked when, one key is active at each moment, and every token verifies', () => {
  const step = fc.record({
    seconds: fc.oneof(
      fc.integer({ min: 0, max: 10 }),
      fc.integer({ min: 0, max: 2 * PUBLISHED_AHEAD_SECONDS }),
      fc.integer({ min: 0, max: 2 * PUBLISHED_AFTER_SECONDS }),
    ),
    // Mostly rotations; the number picks what is revoked.
    revoke: fc.option(fc.nat(), { freq: 3 }),
  })
  let total = 0
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 40 }), (steps) => {
      let now = 10 * MARGIN
      let keys = [newKey('0', now)]
      const tokens: { kid: string; lastMoment: number }[] = []
      /** What signs from now on; and whether verifiers that asked a while ago have it. */
      let previous: { kid: string; isEmergency: boolean } = { kid: '0', isEmergency: true }
      for (const [n, { seconds, revoke }] of steps.entries()) {
        // Every moment at which anything changes, and the last before each.
        const end = now + seconds * 1000
        const moments = keys
          .flatMap((key) => [key.activatesAt, key.retiresAt, key.removesAt])
          .flatMap((moment) => (moment ? [moment.getTime() - 1, moment.getTime()] : []))
          .filter((moment) => moment > now && moment < end)
        for (const moment of [...moments, end].sort((a, b) => a - b)) {
          const actives = keys.filter((key) => signingKeyState(key, moment) === 'active')
          expect(actives).toHaveLength(1)
          const active = actives[0] as Key
          if (active.kid !== previous.kid) previous = { kid: active.kid, isEmergency: false }
          if (!previous.isEmergency)
            expect(active.activatesAt.getTime() - active.publishedAt.getTime()).toBeGreaterThanOrEqual(AHEAD)
          tokens.push({ kid: active.kid, lastMoment: moment + TOKEN_SECONDS * 1000 - 1 })
        }
        now = end
        const of = revoke === null ? undefined : keys[revoke % keys.length]
        if (of) keys = revoked(keys, now, of.kid, String(n + 1))
        else if (planRotation(keys, now).ok) keys = rotated(keys, now, String(n + 1))
        const active = activeSigningKey(keys, now)
        if (active && active.kid !== previous.kid) previous = { kid: active.kid, isEmergency: true }
        // To the last moment of a token, its key is published, unless it is revoked: whatever was decided meanwhile.
        for (const { kid, lastMoment } of tokens.filter((token) => token.lastMoment >= now)) {
          const key = keys.find((each) => each.kid === kid) as Key
          expect(key.revokedAt !== null || (isPublished(key, now) && isPublished(key, lastMoment))).toBe(true)
        }
      }
      total += tokens.length
    }),
    { numRuns: 100 },
  )
  expect(total).toBeGreaterThan(3_000)
})
