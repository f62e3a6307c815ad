/** Which keys a client may register: the rules of one JWK. */
import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { evaluateJwk, materialOf } from '../../src/keys/public-jwk.ts'
import { type Algorithm, type Jwk, makePair } from './assertions.ts'

const pairs = { ES256: makePair('ES256'), ES384: makePair('ES384'), RS256: makePair('RS256') }
const ec = pairs.ES256.jwk
const rsa = pairs.RS256.jwk
/** RFC 8037 appendix A.2, A.3. */
const okp: Jwk = { kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' }
const RFC_8037_THUMBPRINT = 'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k'

const without = (jwk: Jwk, ...names: string[]) =>
  Object.fromEntries(Object.entries(jwk).filter(([name]) => !names.includes(name)))
const verdictOf = (jwk: Jwk) => {
  const verdict = evaluateJwk(jwk)
  return verdict.ok ? verdict.jwk : verdict.member
}
const ruleOf = (jwk: Jwk) => {
  const verdict = evaluateJwk(jwk)
  return verdict.ok ? undefined : verdict.rule
}

describe('the algorithm', () => {
  test.each([
    [ec, 'ES256'],
    [pairs.ES384.jwk, 'ES384'],
    [rsa, 'RS256'],
    [okp, 'Ed25519'],
  ] as const)('follows from the key where it does not say (%#)', (jwk, alg) => {
    expect(verdictOf(without(jwk, 'alg'))).toMatchObject({ alg })
  })

  test.each([
    [rsa, 'PS256'],
    [okp, 'EdDSA'],
  ] as const)('may be another that fits (%#)', (jwk, alg) => {
    expect(verdictOf({ ...jwk, alg })).toMatchObject({ alg })
  })

  test.each([
    [ec, ['ES384', 'RS256', 'Ed25519', 'HS256', 'none', 'es256', '', null, 7, ['ES256']]],
    [pairs.ES384.jwk, ['ES256', 'ES512']],
    [rsa, ['RS384', 'RS512', 'PS512', 'RSA-OAEP', 'HS256', 'ES256']],
    [okp, ['ES256', 'Ed448', 'eddsa']],
  ] as const)('A28 is one that fits the key (%#)', (jwk, algorithms) => {
    for (const alg of algorithms) expect(verdictOf({ ...jwk, alg }), String(alg)).toBe('alg')
  })
})

describe('the kid', () => {
  test('RFC 7638 §3 is the thumbprint where there is none', () => {
    expect(verdictOf(okp)).toMatchObject({ kid: RFC_8037_THUMBPRINT })
    // RFC 7638 §3.1, with the key of RFC 7515 appendix A.2.
    const n =
      '0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw'
    expect(verdictOf({ kty: 'RSA', n, e: 'AQAB', alg: 'RS256' })).toMatchObject({
      kid: 'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs',
    })
  })

  test.each(['k', '2026-11', '~!#', 'x'.repeat(128)])('may be %s', (kid) => {
    expect(verdictOf({ ...ec, kid })).toMatchObject({ kid })
  })

  test.each(['', 'x'.repeat(129), 'a b', 'é', 'a\u0000', 'a\n', 7, null, ['a']])('is not %j', (kid) => {
    expect(verdictOf({ ...ec, kid })).toBe('kid')
  })
})

describe('a key is public', () => {
  const secret = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' })

  test.each(['d', 'p', 'q', 'dp', 'dq', 'qi'])('and has no %s', (name) => {
    const jwk = { ...rsa, [name]: secret[name as keyof typeof secret] }
    expect(verdictOf(jwk)).toBe(name)
    expect(ruleOf(jwk)).toContain('must be public')
    expect(ruleOf(jwk)).not.toContain(String(jwk[name]))
  })

  test.each([
    ['d', pairs.ES256.privateKey.export({ format: 'jwk' })],
    ['d', { ...okp, d: '' }],
    ['k', { kty: 'oct', k: 'c2VjcmV0' }],
    ['k', { ...ec, k: 'c2VjcmV0' }],
    ['oth', { ...rsa, oth: [] }],
    ['priv', { kty: 'AKP', alg: 'ML-DSA-44', pub: 'x', priv: 'x' }],
  ] as const)('nor, of any kind, %s', (name, jwk) => {
    expect(verdictOf(jwk as Jwk)).toBe(name)
  })
})

test('RFC 7517 §4.2, §4.3 a key for anything but signatures is refused', () => {
  for (const use of ['enc', '', null, 1, ['sig']]) expect(verdictOf({ ...ec, use })).toBe('use')
  for (const key_ops of [['sign'], [], 'verify', null, {}])
    expect(verdictOf({ ...ec, key_ops })).toBe('key_ops')
  expect(verdictOf({ ...ec, use: 'sig', key_ops: ['verify'] })).toMatchObject({ kty: 'EC' })
})

test.each([
  [{ kty: 'oct' }, 'kty'],
  [{ ...ec, kty: 'ec' }, 'kty'],
  [{ ...ec, kty: 'RSA' }, 'alg'],
  [without({ ...ec, kty: 'RSA' }, 'alg'), 'e'],
  [{ ...ec, kty: ['EC'] }, 'kty'],
  [without(ec, 'kty'), 'kty'],
  [without(ec, 'crv'), 'crv'],
  [{ ...ec, crv: 'P-521' }, 'crv'],
  [{ ...ec, crv: 'secp256k1' }, 'crv'],
  [{ ...okp, crv: 'X25519' }, 'crv'],
  [{ ...okp, crv: 'Ed448' }, 'crv'],
  [{ ...ec, crv: 'constructor' }, 'crv'],
  [without(ec, 'x'), 'x'],
  [without(ec, 'y'), 'y'],
  [{ ...ec, x: 7 }, 'x'],
  [without(rsa, 'n'), 'n'],
  [without(rsa, 'e'), 'e'],
])('a key of another kind, or without a member: %#', (jwk, member) => {
  expect(verdictOf(jwk as Jwk)).toBe(member)
})

describe('the members make a key', () => {
  const flipped = (text: unknown) => {
    const bytes = Buffer.from(String(text), 'base64url')
    bytes[20] = (bytes[20] ?? 0) ^ 1
    return bytes.toString('base64url')
  }
  const grown = (text: unknown) =>
    Buffer.concat([Buffer.from([0]), Buffer.from(String(text), 'base64url')]).toString('base64url')
  const rsaOf = (modulusLength: number, publicExponent = 65_537) =>
    createPublicKey(generateKeyPairSync('rsa', { modulusLength, publicExponent }).privateKey).export({
      format: 'jwk',
    }) as Jwk

  test('a point is on its curve', () => {
    for (const { jwk } of [pairs.ES256, pairs.ES384]) {
      expect(evaluateJwk({ ...jwk, x: flipped(jwk.x) })).toMatchObject({ ok: false })
      expect(evaluateJwk({ ...jwk, x: jwk.y, y: jwk.x })).toMatchObject({ ok: false })
    }
    expect(evaluateJwk({ ...pairs.ES384.jwk, crv: 'P-256', alg: 'ES256' })).toMatchObject({ ok: false })
  })

  test.each([
    ['x', { ...ec, x: `${ec.x}=` }],
    ['x', { ...ec, x: grown(ec.x) }],
    ['n', { ...rsa, n: grown(rsa.n) }],
    ['e', { ...rsa, e: 'AAEAAQ' }],
    ['e', { ...rsa, e: 'AQAB\n' }],
    ['x', { ...okp, x: `${String(okp.x).slice(0, -1)}p` }],
  ])('%s has one spelling (%#)', (member, jwk) => {
    const verdict = verdictOf(jwk)
    // What is too long for a coordinate makes no key at all.
    expect([member, undefined]).toContain(verdict)
  })

  test('RFC 7518 §3.3 RSA has 2048 bits or more, and not without end', () => {
    expect(verdictOf(rsaOf(2048))).toMatchObject({ kty: 'RSA' })
    expect(verdictOf(rsaOf(2047))).toBe('n')
    expect(verdictOf(rsaOf(1024))).toBe('n')
    const huge = Buffer.alloc(1025, 0xff).toString('base64url')
    expect(verdictOf({ ...rsa, n: huge })).toBe('n')
    const even = Buffer.from(String(rsa.n), 'base64url')
    even[255] = 0x10
    expect(verdictOf({ ...rsa, n: even.toString('base64url') })).toBe('n')
  })

  test('an RSA exponent is odd, and small enough to be verified with', () => {
    expect(verdictOf(rsaOf(2048, 3))).toMatchObject({ e: 'Aw' })
    for (const e of ['AQ', 'Ag', 'AQAA', 'AQAAAAE', String(rsa.n)])
      expect(verdictOf({ ...rsa, e }), e).toBe('e')
  })
})

test('what is kept is what makes the key, its kid and its alg', () => {
  const more = { use: 'sig', key_ops: ['verify'], x5c: ['…'], ext: true, iat: 7, ['__proto__']: { d: 'x' } }
  for (const jwk of [ec, rsa, okp]) {
    const verdict = evaluateJwk({ ...jwk, ...more, kid: 'k' })
    const alg = (jwk.alg ?? 'Ed25519') as Algorithm
    expect(verdict).toEqual({ ok: true, jwk: { ...without(jwk, 'alg'), kid: 'k', alg } })
    if (verdict.ok) expect(materialOf(verdict.jwk)).toEqual(without(jwk, 'alg'))
  }
})
