import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { canonicalAddress, canonicalNetwork, compileNetworks, sourceOf } from '../../src/network/address.ts'

describe('A25 an address has one spelling, or is none', () => {
  test.each([
    ['10.0.0.1', '10.0.0.1'],
    ['::ffff:10.0.0.1', '10.0.0.1'],
    ['::ffff:0a00:0001', '10.0.0.1'],
    ['::FFFF:a00:1', '10.0.0.1'],
    ['0:0:0:0:0:ffff:10.0.0.1', '10.0.0.1'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['0000:0000:0000:0000:0000:0000:0000:0001', '::1'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8::', '2001:db8::'],
    ['::', '::'],
  ])('A25 %s -> %s', (text, expected) => {
    expect(canonicalAddress(text)).toBe(expected)
  })

  test.each([
    ...[
      '',
      ' ',
      '10.0.0',
      '10.1',
      '167772161',
      '0x0a000001',
      '010.0.0.1',
      '10.0.0.01',
      '256.1.1.1',
      '1.2.3.4.5',
    ],
    ...[
      '10.0.0.1 ',
      ' 10.0.0.1',
      '10.0.0.1\n',
      '10.0.0.1\0',
      '10.0.0.1/8',
      '1.2.3.4:80',
      '١.2.3.4',
      'localhost',
    ],
    ...[
      'fe80::1%eth0',
      '::1%',
      '::ffff:256.0.0.1',
      '::ffff:010.0.0.1',
      ':::',
      '1::2::3',
      '[::1]',
      '2001:db8::g',
    ],
    ...['12345::', 'unknown', '_hidden', '"1.2.3.4"'],
  ])('A25 %j is none', (text) => {
    expect(canonicalAddress(text)).toBeUndefined()
  })

  test('A25 an IPv4-compatible address is no IPv4 address', () => {
    expect(canonicalAddress('::127.0.0.1')).toBe('::7f00:1')
    expect(canonicalAddress('1:2:3:4:5:6:192.0.2.1')).toBe('1:2:3:4:5:6:c000:201')
    expect(canonicalNetwork('::127.0.0.1')).toBe('::7f00:1/128')
    expect(compileNetworks(['::127.0.0.1'])('127.0.0.1')).toBe(false)
  })

  test('A25 what is canonical stays as it is', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
        const canonical = canonicalAddress(text)
        expect(canonical).toBeDefined()
        expect(canonicalAddress(canonical ?? '')).toBe(canonical)
      }),
    )
  })
})

describe('A26 networks', () => {
  test.each([
    ['10.0.0.0/8', '10.255.255.255', true],
    ['10.0.0.0/8', '11.0.0.0', false],
    ['192.0.2.1', '192.0.2.1', true],
    ['192.0.2.1', '192.0.2.2', false],
    ['192.0.2.128/25', '192.0.2.127', false],
    ['0.0.0.0/0', '203.0.113.1', true],
    ['0.0.0.0/0', '2001:db8::1', false],
    ['::/0', '203.0.113.1', false],
    ['::/0', '2001:db8::1', true],
    ['2001:db8::/32', '2001:db8:ffff::1', true],
    ['2001:db8::/32', '2001:db9::1', false],
    ['::ffff:10.0.0.0/104', '10.1.2.3', true],
    ['::ffff:10.0.0.0/104', '11.1.2.3', false],
    ['::ffff:192.0.2.1', '192.0.2.1', true],
    ['::1', '::1', true],
  ])('A26 %s holds %s: %s', (network, address, expected) => {
    expect(compileNetworks([network])(address)).toBe(expected)
  })

  test('A26 none of them holds nobody, any of them is enough', () => {
    expect(compileNetworks([])('127.0.0.1')).toBe(false)
    expect(compileNetworks(['10.0.0.0/8', '192.0.2.0/24'])('192.0.2.9')).toBe(true)
  })

  test.each([
    ...[
      '',
      '/',
      '/8',
      '10.0.0.0/',
      '10.0.0.0/ ',
      '10.0.0.0/33',
      '10.0.0.0/-1',
      '10.0.0.0/8.5',
      '10.0.0.0/0x8',
    ],
    ...[
      '10.0.0.0/1e1',
      '10.0.0.0/8/9',
      '10.0.0.0/ 8',
      '10.0.0.0/255.0.0.0',
      '10.0.0/8',
      '010.0.0.0/8',
      '10.0.0.0 /8',
    ],
    ...[
      '::/129',
      '::/',
      '::1%eth0',
      'fe80::%1/64',
      '256.0.0.0/8',
      '*',
      'localhost',
      '10.*',
      '10.0.0.1-10.0.0.9',
    ],
  ])('A26 %j cannot come into being', (entry) => {
    expect(() => compileNetworks([entry])).toThrow(TypeError)
    expect(() => compileNetworks(['10.0.0.0/8', entry])).toThrow(TypeError)
  })
})

describe('A53 one source of failures', () => {
  test.each([
    ['2001:db8:1:2::1', '2001:db8:1:2:ffff:ffff:ffff:ffff', true],
    ['2001:db8:1:2::1', '2001:db8:1:3::1', false],
    ['2001:db8::', '2001:db8::1', true],
    ['192.0.2.1', '192.0.2.2', false],
  ])('A53 %s and %s: %s', (one, other, same) => {
    expect(sourceOf(one) === sourceOf(other)).toBe(same)
  })
})
