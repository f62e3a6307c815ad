import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { checksum, createKeyFormat, sameHash } from '../../src/keys/key-format.ts'

const format = createKeyFormat('sgt')
const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

describe('the format of a key', () => {
  test('what is generated has the documented shape and parses to what is stored', () => {
    for (const [environment, shape] of [
      ['production', /^sgt_live_[0-9A-Za-z]{50}$/],
      ['sandbox', /^sgt_test_[0-9A-Za-z]{50}$/],
    ] as const) {
      for (let i = 0; i < 200; i++) {
        const { key, prefix, ...stored } = format.generate(environment)
        expect(key).toMatch(shape)
        expect(prefix).toBe(key.slice(0, 15))
        expect(format.parse(key)).toEqual(stored)
        expect(stored.lookupId).toBe(key.slice(9, 21))
      }
    }
  })

  test('any single changed character is refused', () => {
    const changed = fc.record({
      environment: fc.constantFrom('production' as const, 'sandbox' as const),
      at: fc.nat(58),
      character: fc.oneof(
        fc.constantFrom(...BASE62, '_', '-', ' ', '.'),
        fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
      ),
    })
    fc.assert(
      fc.property(changed, ({ environment, at, character }) => {
        const { key } = format.generate(environment)
        fc.pre(at < key.length && key[at] !== character)
        expect(format.parse(key.slice(0, at) + character + key.slice(at + 1))).toBeUndefined()
      }),
      { numRuns: 5000 },
    )
  })

  test('every character of the alphabet in every place of one key is refused but its own', () => {
    const { key } = format.generate('sandbox')
    for (let at = 0; at < key.length; at++)
      for (const character of BASE62)
        if (character !== key[at])
          expect(format.parse(key.slice(0, at) + character + key.slice(at + 1))).toBeUndefined()
  })

  test('a character more, less or moved is refused', () => {
    const { key } = format.generate('production')
    for (let at = 0; at <= key.length; at++) {
      expect(format.parse(`${key.slice(0, at)}0${key.slice(at)}`)).toBeUndefined()
      if (at < key.length) expect(format.parse(key.slice(0, at) + key.slice(at + 1))).toBeUndefined()
    }
    for (const text of [`${key}\n`, ` ${key}`, `${key} `, `${key}\0`, key.toUpperCase(), `\ufeff${key}`])
      expect(format.parse(text)).toBeUndefined()
  })

  test('no input throws', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.string().map((s) => `sgt_live_${s}`),
        ),
        (text) => {
          expect(format.parse(text)).toBeUndefined()
        },
      ),
      { numRuns: 5000 },
    )
  })

  test('A7 names of JavaScript are no keys', () => {
    for (const text of ['__proto__', 'constructor', 'sgt_live___proto__', 'toString'])
      expect(format.parse(text)).toBeUndefined()
  })

  test('the alphabet is used uniformly', () => {
    const counts = new Map<string, number>()
    const KEYS = 4000
    for (let i = 0; i < KEYS; i++)
      for (const character of format.generate('sandbox').key.slice(9, 53))
        counts.set(character, (counts.get(character) ?? 0) + 1)
    expect([...counts.keys()].sort().join('')).toBe(BASE62)
    // Chi-square with 61 degrees of freedom: above 140 once in 10^7 runs. `byte % 62` would give about 2,800.
    const expected = (KEYS * 44) / 62
    const chiSquare = [...counts.values()].reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0)
    expect(chiSquare).toBeLessThan(140)
  })

  test('the checksum is CRC-32 in base62 (standards §13.2)', () => {
    expect(checksum('0'.repeat(30))).toBe('2C8GjS')
    expect(checksum('')).toBe('000000')
  })

  test('the vendor is configurable, and keys of another vendor are none', () => {
    const other = createKeyFormat('acme')
    const { key } = other.generate('production')
    expect(key).toMatch(/^acme_live_/)
    expect(other.parse(key)).toBeDefined()
    expect(format.parse(key)).toBeUndefined()
  })

  test('hashes are equal in all bytes or not at all', () => {
    const { key, hash } = format.generate('sandbox')
    const again = format.parse(key)?.hash ?? new Uint8Array()
    expect(sameHash(hash, again)).toBe(true)
    for (let i = 0; i < 32; i++) {
      const changed = Uint8Array.from(again)
      changed[i] = (changed[i] ?? 0) ^ 1
      expect(sameHash(hash, changed)).toBe(false)
    }
    expect(sameHash(hash, again.subarray(0, 31))).toBe(false)
  })
})
