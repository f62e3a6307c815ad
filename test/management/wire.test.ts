/** What values look like on the wire. */
import * as v from 'valibot'
import { expect, test } from 'vitest'
import { displayName, moment } from '../../src/management/wire.ts'

test.each([
  ['2026-11-22T01:02:03Z', '2026-11-22T01:02:03.000Z'],
  ['2026-11-22t01:02:03.123456z', '2026-11-22T01:02:03.123Z'],
  ['2026-11-22T01:02:03+02:00', '2026-11-21T23:02:03.000Z'],
  ['2028-02-29T00:00:00-00:30', '2028-02-29T00:30:00.000Z'],
])('%s is a moment', (text, iso) => {
  expect(v.parse(moment(), text).toISOString()).toBe(iso)
})

test.each([
  '2026-11-22',
  '2026-11-22T01:02:03',
  '2026-11-22 01:02:03Z',
  '2026-02-30T00:00:00Z',
  '2026-13-01T00:00:00Z',
  '2026-00-10T00:00:00Z',
  '2026-01-01T25:00:00Z',
  '9999-12-31T23:59:59-14:00',
  '0000-01-01T00:00:00Z',
  ' 2026-11-22T01:02:03Z',
  '1795305600',
])('%j is none', (text) => {
  expect(v.safeParse(moment(), text).success).toBe(false)
})

test.each(['', ' Acme', 'Acme\n', 'a\u0000b', 'a\u001b[31mb', 'a\u009bb', 'a\ud800', 'x'.repeat(101)])(
  '%j is no name',
  (text) => {
    expect(v.safeParse(displayName(), text).success).toBe(false)
  },
)

test.each(['Acme', 'Ünïcödé 株式会社', '<img src=x onerror=alert(1)>', "Robert'); DROP TABLE clients;--"])(
  '%j is one, kept as it is',
  (text) => {
    expect(v.parse(displayName(), text)).toBe(text)
  },
)
