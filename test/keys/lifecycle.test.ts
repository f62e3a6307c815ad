import { describe, expect, test } from 'vitest'
import {
  isExpiryPossible,
  latestExpiryOfRenewed,
  REVOCATION_REASONS,
  type RevocationReason,
  revocationChanges,
} from '../../src/keys/lifecycle.ts'

const NOW = new Date('2027-01-01T00:00:00Z')
const at = (offset: number) => new Date(NOW.getTime() + offset)

describe('an expiry', () => {
  test.each([
    [at(-1), false],
    [at(0), false],
    [at(1), true],
    [new Date('9999-12-31T23:59:59.999Z'), true],
    [new Date('+010000-01-01T00:00:00Z'), false],
  ])('at %o: %s', (expiresAt, expected) => {
    expect(isExpiryPossible(expiresAt, NOW)).toBe(expected)
  })
})

describe('a renewed key', () => {
  test.each([
    ['has no limit where the old one had none', null, null],
    ['lives as long as the old one was made to', at(1000), at(6000)],
    ['however little is left of that', at(1), at(5001)],
    [
      'and ends before the year 10000',
      new Date('9999-12-31T23:59:59Z'),
      new Date('9999-12-31T23:59:59.999Z'),
    ],
  ])('%s', (_, expiresAt, expected) => {
    expect(latestExpiryOfRenewed({ createdAt: at(-5000), expiresAt }, NOW)).toEqual(expected)
  })
})

describe('a revocation only ever goes further', () => {
  const live = { revokedAt: null, revocationReason: null, tokensRevokedAt: null }
  const revoked = (reason: RevocationReason, tokensRevokedAt: Date | null = null) => ({
    revokedAt: at(-1),
    revocationReason: reason,
    tokensRevokedAt,
  })
  const nothing = { revokes: false, setsReason: false, revokesTokens: false }

  test.each(REVOCATION_REASONS)('%s ends a live key; compromised takes the tokens with it', (reason) => {
    for (const revokesTokens of [false, true])
      expect(revocationChanges(live, { reason, revokesTokens })).toEqual({
        revokes: true,
        setsReason: true,
        revokesTokens: revokesTokens || reason === 'compromised',
      })
  })

  test.each(REVOCATION_REASONS)('saying %s of what was revoked for it changes nothing', (reason) => {
    const was = revoked(reason, reason === 'compromised' ? at(-1) : null)
    expect(revocationChanges(was, { reason, revokesTokens: false })).toEqual(nothing)
    expect(revocationChanges(was, { reason: 'unspecified', revokesTokens: false })).toEqual(nothing)
  })

  test('what is found compromised later gets that reason and loses its tokens', () => {
    const asked = { reason: 'compromised', revokesTokens: true } as const
    expect(revocationChanges(revoked('superseded'), asked)).toEqual({
      revokes: false,
      setsReason: true,
      revokesTokens: true,
    })
    expect(revocationChanges(revoked('superseded', at(-1)), asked)).toEqual({
      revokes: false,
      setsReason: true,
      revokesTokens: false,
    })
  })

  test('tokens may follow their key later, for the reason it had; nothing is taken back', () => {
    expect(revocationChanges(revoked('superseded'), { reason: 'unspecified', revokesTokens: true })).toEqual({
      revokes: false,
      setsReason: false,
      revokesTokens: true,
    })
    expect(
      revocationChanges(revoked('compromised', at(-1)), { reason: 'superseded', revokesTokens: false }),
    ).toEqual(nothing)
  })
})
