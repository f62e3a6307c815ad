import { describe, expect, test } from 'vitest'
import { activeSigningKey, isPublished, signingKeyState, type Timeline } from '../../src/signing/rotation.ts'

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
