/** What an assertion must look like and say, before anybody asks who signed it. */
import { describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { evaluateAssertion } from '../../src/keys/assertion-claims.ts'
import { parseAssertion } from '../../src/keys/assertion-form.ts'
import { makePair, sign } from './assertions.ts'

const clientId = newId('client')
const ISSUER = 'https://signet.test'
const NOW = 1_795_305_600
const policy = { issuer: ISSUER, tokenEndpoint: undefined, clientId: undefined, nowSeconds: NOW }
const claims = { iss: clientId, sub: clientId, aud: ISSUER, jti: 'one', iat: NOW, exp: NOW + 60 }
const isGood = (more: object, policyChanges: object = {}) =>
  evaluateAssertion({ ...claims, ...more }, { ...policy, ...policyChanges }) !== undefined

describe('the claims', () => {
  test('of a good assertion', () => {
    expect(evaluateAssertion(claims, policy)).toEqual({
      clientId,
      jti: 'one',
      expiresAt: new Date((NOW + 60) * 1000),
      audience: 'issuer',
    })
  })

  test.each([
    ['exp', NOW - 10, false],
    ['exp', NOW - 9.999, true],
    ['exp', NOW + 310, true],
    ['exp', NOW + 310.001, false],
    ['exp', undefined, false],
    ['nbf', NOW + 10, true],
    ['nbf', NOW + 10.001, false],
    ['nbf', 0, true],
    ['iat', NOW + 10, true],
    ['iat', NOW + 10.001, false],
    ['iat', undefined, true],
    ['iat', NOW - 86_400, true],
  ])('A34 %s = %s', (name, value, good) => {
    expect(isGood({ [name]: value })).toBe(good)
  })

  test.each(['exp', 'nbf', 'iat'])('A34 %s is a number of seconds', (name) => {
    for (const value of [String(NOW), null, true, [NOW], {}, -1, 2 ** 53, Number.NaN, Infinity])
      expect(isGood({ [name]: value }), String(value)).toBe(false)
  })

  test('a clock that answers nothing validates nothing', () => {
    expect(isGood({}, { nowSeconds: Number.NaN })).toBe(false)
  })

  test('jti has 1 to 255 characters, none of them a control character', () => {
    for (const jti of ['x', 'é'.repeat(255), '😀', "' OR 1=1--"]) expect(isGood({ jti }), jti).toBe(true)
    for (const jti of [undefined, '', 'x'.repeat(256), 'a\u0000', 'a\n', '\ud800', 7, ['x'], null])
      expect(isGood({ jti }), String(jti)).toBe(false)
  })

  test('A33 iss and sub are the client, each a string', () => {
    const other = newId('client')
    for (const more of [
      { iss: undefined },
      { sub: undefined },
      { iss: other },
      { sub: other },
      { iss: [clientId] },
      { iss: [clientId], sub: [clientId] },
      { iss: 'cli_x', sub: 'cli_x' },
      { iss: `${clientId} `, sub: `${clientId} ` },
      { iss: `${clientId}\u0000`, sub: `${clientId}\u0000` },
      { iss: ISSUER },
    ])
      expect(isGood(more), JSON.stringify(more)).toBe(false)
    expect(isGood({}, { clientId })).toBe(true)
    expect(isGood({}, { clientId: other })).toBe(false)
  })

  test('A33 aud is the issuer and nothing else', () => {
    const endpoint = `${ISSUER}/oauth2/token`
    expect(isGood({ aud: [ISSUER] })).toBe(true)
    const refused = [
      undefined,
      [],
      [[ISSUER]],
      [ISSUER, ISSUER],
      [ISSUER, 'https://other.test'],
      [ISSUER, endpoint],
      endpoint,
      [endpoint],
      `${ISSUER}/`,
      'https://SIGNET.test',
      `${ISSUER}/sandbox`,
      { 0: ISSUER, length: 1 },
      null,
    ]
    for (const aud of refused) expect(isGood({ aud }), JSON.stringify(aud)).toBe(false)

    const old = { tokenEndpoint: endpoint }
    for (const aud of [endpoint, [endpoint]]) {
      expect(evaluateAssertion({ ...claims, aud }, { ...policy, ...old })?.audience).toBe('token_endpoint')
    }
    for (const aud of refused.filter((each) => String(each) !== endpoint))
      expect(isGood({ aud }, old), JSON.stringify(aud)).toBe(false)
  })
})

describe('the form', () => {
  const pair = makePair('ES256', 'k')
  const header = { alg: 'ES256', kid: 'k', typ: 'JWT' }
  const good = sign(pair, header, claims)
  const [h = '', p = '', s = ''] = good.split('.')
  const form = (more: object) => parseAssertion(sign(pair, { ...header, ...more }, claims))

  test('of a good assertion', () => {
    expect(parseAssertion(good)).toEqual({ algorithm: 'ES256', kid: 'k', payload: claims })
    expect(form({ kid: undefined })).toMatchObject({ kid: undefined })
  })

  test.each([
    undefined,
    'JWT',
    'jwt',
    'application/jwt',
    'client-authentication+jwt',
    'Client-Authentication+JWT',
    'application/client-authentication+jwt',
  ])('RFC 10070 §4 typ may be %s', (typ) => {
    expect(form({ typ })).toBeDefined()
  })

  test.each([
    'at+jwt',
    'dpop+jwt',
    'logout+jwt',
    'revocations+jwt',
    'JOSE',
    '',
    'text/jwt',
    'jwt+jwt',
    null,
    7,
    ['JWT'],
  ])('A32 typ is not %j', (typ) => {
    expect(form({ typ })).toBeUndefined()
  })

  test.each([
    'none',
    'None',
    'nOnE',
    'HS256',
    'HS512',
    'es256',
    'ES512',
    'RS512',
    '',
    undefined,
    null,
    1,
    ['ES256'],
    { ES256: 1 },
  ])('A27 A28 alg is not %j', (alg) => {
    expect(form({ alg })).toBeUndefined()
  })

  test('A27 nor is there one without a signature', () => {
    const none = Buffer.from(JSON.stringify({ alg: 'none' })).toString('base64url')
    for (const text of [`${none}.${p}.`, `${none}.${p}`, `${h}.${p}.`, `${none}.${p}.${s}`])
      expect(parseAssertion(text)).toBeUndefined()
  })

  test.each(['crit', 'b64', 'jwk', 'jku', 'x5u', 'x5c'])(
    'A30 A31 %s is refused, whatever it says',
    (name) => {
      const values = {
        crit: [name],
        b64: false,
        jwk: pair.jwk,
        jku: 'http://127.0.0.1:1/',
        x5u: 'x',
        x5c: [],
      }
      expect(form({ [name]: values[name as keyof typeof values] })).toBeUndefined()
      expect(form({ [name]: null })).toBeUndefined()
    },
  )

  test.each(['', 'x'.repeat(129), 'x'.repeat(10_000), 'a b', '\u0000', 7, null, ['k']])(
    'A29 kid is not %j',
    (kid) => {
      expect(form({ kid })).toBeUndefined()
    },
  )

  test('A33 a name that stands twice, in header or payload', () => {
    const twice = (json: object, name: string) => JSON.stringify(json).replace('{', `{"${name}":"other",`)
    expect(parseAssertion(sign(pair, twice(header, 'alg'), claims))).toBeUndefined()
    expect(parseAssertion(sign(pair, header, twice(claims, 'aud')))).toBeUndefined()
    expect(
      parseAssertion(sign(pair, header, JSON.stringify(claims).replace('{', '{"\\u0061ud":"x",'))),
    ).toBeUndefined()
  })

  test.each([
    ['A35 dots', '.'.repeat(100_000)],
    ['A35 a huge one', `${h}.${'A'.repeat(8_000_000)}.${s}`],
    ['A35 one character too many', `${h}.${'A'.repeat(16 * 1024 - h.length - s.length - 1)}.${s}`],
    ['A35 a JWE', `${h}.${p}.${s}.${s}.${s}`],
    ['A36 padding', `${h}.${p}.${s}=`],
    ['A36 white space', `${h}.${p}.${s} `],
    ['A36 a line break', `${h}.${p}\n.${s}`],
    ['A36 base64', `${h}.${p}.${`+/${s.slice(2)}`}`],
    ['A36 other bits that encode nothing', `${h}.${p}.${s.slice(0, -1)}${s.endsWith('B') ? 'C' : 'B'}`],
    ['A36 a signature that is too short', `${h}.${p}.${s.slice(0, -4)}`],
    ['no header', `.${p}.${s}`],
    ['a header that is no object', `${Buffer.from('[1]').toString('base64url')}.${p}.${s}`],
    ['a payload that is no object', `${h}.${Buffer.from('"x"').toString('base64url')}.${s}`],
    ['a payload that is no UTF-8', `${h}.${Buffer.from([0x7b, 0xff, 0x7d]).toString('base64url')}.${s}`],
    ['nothing', ''],
  ])('%s', (_, text) => {
    const began = performance.now()
    expect(parseAssertion(text)).toBeUndefined()
    expect(performance.now() - began).toBeLessThan(500)
  })

  test('A36 DER in place of r and s', () => {
    const der = Buffer.concat([
      Buffer.from('3045022100', 'hex'),
      Buffer.alloc(32, 1),
      Buffer.from('0220', 'hex'),
      Buffer.alloc(32, 1),
    ])
    expect(parseAssertion(`${h}.${p}.${der.toString('base64url')}`)).toBeUndefined()
  })
})
