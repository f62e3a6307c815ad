/** Which members a client may have, and which changes widen it. */
import * as v from 'valibot'
import { describe, expect, test } from 'vitest'
import { ClientUpdate, NewClient, widens } from '../../src/clients/rules.ts'

const minimal = { name: 'Integration', environment: 'sandbox', scopes: ['a:read'] }

describe('a new client', () => {
  test('needs a name, an environment and a scope; scopes are a set', () => {
    const parsed = v.parse(NewClient, { ...minimal, scopes: ['b', 'a', 'b'] })
    expect(parsed).toEqual({ ...minimal, kind: 'organization', scopes: ['b', 'a'] })
  })

  test.each([
    ['an unknown member', { status: 'active' }],
    ['an approval of its own', { approved_at: '2026-01-01T00:00:00Z' }],
    ['an empty name', { name: '' }],
    ['a name with a line break', { name: 'a\r\nb' }],
    ['a name with an escape sequence', { name: 'a\u001b[31mb' }],
    ['a name with a lone surrogate', { name: 'a\ud800' }],
    ['a name of 101 characters', { name: 'x'.repeat(101) }],
    ['no scope', { scopes: [] }],
    ['a scope with a space', { scopes: ['a b'] }],
    ['101 scopes', { scopes: Array.from({ length: 101 }, (_, i) => `s${i}`) }],
    ['another environment', { environment: 'Production' }],
    ['an expiry below the floor', { max_expiry_seconds: 299 }],
    ['an expiry above the ceiling', { max_expiry_seconds: 86_401 }],
    ['a fraction of a token', { rate_limit_per_minute: 1.5 }],
    ['no token at all', { rate_limit_per_minute: 0 }],
    ['a limit as text', { rate_limit_per_minute: '60' }],
    ['a network with bits beyond its prefix', { allowed_cidrs: ['10.0.0.1/8'] }],
    ['an octal address', { allowed_cidrs: ['010.0.0.1'] }],
    ['an address with a zone', { allowed_cidrs: ['fe80::1%eth0'] }],
    ['a network without its prefix', { allowed_cidrs: ['10.0.0.0/'] }],
    ['an origin with a path', { allowed_origins: ['https://app.example.com/'] }],
    ['any origin', { allowed_origins: ['*'] }],
    ['the null origin', { allowed_origins: ['null'] }],
    ['a plain http origin', { allowed_origins: ['http://app.example.com'] }],
    ['an origin in capitals', { allowed_origins: ['https://APP.example.com'] }],
    ['an empty audience', { audience: '' }],
  ])('refuses %s', (_, member) => {
    expect(v.safeParse(NewClient, { ...minimal, ...member }).success).toBe(false)
  })

  test('keeps networks in one spelling', () => {
    const allowed_cidrs = ['10.0.0.0/8', '192.0.2.7', '2001:DB8:0::/32', '::ffff:10.1.0.0/112', '::/0']
    expect(v.parse(NewClient, { ...minimal, allowed_cidrs }).allowed_cidrs).toEqual([
      '10.0.0.0/8',
      '192.0.2.7/32',
      '2001:db8::/32',
      '10.1.0.0/16',
      '::/0',
    ])
  })
})

test('environment, kind and status are not changed by an update', () => {
  for (const member of [{ environment: 'production' }, { kind: 'partner' }, { status: 'active' }])
    expect(v.safeParse(ClientUpdate, member).success).toBe(false)
})

describe('a change widens a client', () => {
  const client = { scopes: ['a', 'b'], audience: null, allowedCidrs: ['10.0.0.0/8', '2001:db8::/32'] }
  test.each([
    ['another scope', { scopes: ['a', 'c'] }],
    ['any network', { allowedCidrs: null }],
    ['a larger network', { allowedCidrs: ['10.0.0.0/7'] }],
    ['another network', { allowedCidrs: ['10.0.0.0/8', '11.0.0.0/24'] }],
    ['the network of the other family', { allowedCidrs: ['::/0'] }],
    ['another audience', { audience: 'https://other.example' }],
  ])('by %s', (_, change) => {
    expect(widens(client, { ...client, ...change })).toBe(true)
  })
  test.each([
    ['fewer scopes', { scopes: ['b'] }],
    ['the same scopes in another order', { scopes: ['b', 'a'] }],
    ['a part of a network', { allowedCidrs: ['10.3.0.0/16', '2001:db8:1::/48'] }],
    ['no network', { allowedCidrs: [] }],
  ])('not by %s', (_, change) => {
    expect(widens(client, { ...client, ...change })).toBe(false)
  })
  test('not by a network, where any was allowed', () => {
    expect(widens({ ...client, allowedCidrs: null }, client)).toBe(false)
  })
})
