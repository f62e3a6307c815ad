import { beforeAll, describe, expect, it } from 'vitest'
import type { Verifier } from '#sdk'
import {
  AUDIENCE,
  claims,
  createSigningKey,
  header,
  ISSUER,
  type Json,
  mint,
  NOW,
  outcome,
  type SigningKey,
  signText,
  verifierFor,
} from './issuer.ts'

let key: SigningKey
let verifier: Verifier
beforeAll(async () => {
  key = await createSigningKey('k1')
  verifier = verifierFor([key])
})
const judge = (overrides: Json) => mint(key, overrides).then((token) => outcome(verifier.verify(token)))
const judgeText = async (payload: string | Uint8Array) =>
  outcome(verifier.verify(await signText(key, JSON.stringify(header(key)), payload)))
/** Valid claims as JSON text with `members` written after them. */
const withMembers = (members: string) => JSON.stringify(claims()).replace(/\}$/, `,${members}}`)

it('returns the claims, frozen all the way down', async () => {
  const token = await verifier.verify(await mint(key, { partner_id: 'org_2', extra: { roles: ['b'] } }))
  expect(token).toEqual(claims({ partner_id: 'org_2', extra: { roles: ['b'] } }))
  const extra = token.extra as { roles: string[] }
  for (const part of [token, extra, extra.roles]) expect(Object.isFrozen(part)).toBe(true)
})

describe('A33 claims', () => {
  it.each([
    ['at the top', '"sub":"cli_1"'],
    ['written with an escape', '"\\u0073ub":"cli_2"'],
    ['in a nested object', '"act":{"sub":"a","sub":"b"}'],
    ['in an object within an array', '"act":[[{"a":1,"a":1}]]'],
    ['__proto__', '"x":{"__proto__":1,"__proto__":2}'],
    ['index-like', '"x":{"1":1,"1":2}'],
  ])('A33 a duplicate member name %s is refused', async (_, members) => {
    expect(await judgeText(withMembers(members))).toBe('malformed')
  })
  it.each([
    ['colons and quotes in strings', '"x":"a:b \\" : \\\\","y:\\"z":{"a:":[":","\\\\\\":"]}'],
    ['the same name in two objects', '"x":{"a":1},"y":{"a":1},"z":[{"a":1},{"a":1}]'],
    ['__proto__ once', '"__proto__":{"scope":"admin"}'],
    ['white space around colons', '"x" \n:\t1'],
  ])('A33 %s: no duplicates, accepted', async (_, members) => {
    expect(await judgeText(withMembers(members))).toBe('accepted')
  })

  it.each([
    [[AUDIENCE], 'accepted'],
    [AUDIENCE, 'accepted'],
    [[AUDIENCE, 'https://other.example'], 'audience_mismatch'],
    [['https://other.example', AUDIENCE], 'audience_mismatch'],
    [[AUDIENCE, AUDIENCE], 'audience_mismatch'],
    [[[AUDIENCE]], 'audience_mismatch'],
    [[], 'audience_mismatch'],
    [`${AUDIENCE}/`, 'audience_mismatch'],
    [AUDIENCE.toUpperCase(), 'audience_mismatch'],
    ['', 'audience_mismatch'],
    [{ 0: AUDIENCE, length: 1 }, 'audience_mismatch'],
    [undefined, 'audience_mismatch'],
  ])('A33 aud %j: %s', async (aud, expected) => {
    expect(await judge({ aud })).toBe(expected)
  })
  it('A33 aud: each configured audience is accepted alone, not together', async () => {
    const both = verifierFor([key], { audience: ['a', 'b'] })
    expect(await outcome(both.verify(await mint(key, { aud: 'a' })))).toBe('accepted')
    expect(await outcome(both.verify(await mint(key, { aud: ['b'] })))).toBe('accepted')
    expect(await outcome(both.verify(await mint(key, { aud: ['a', 'b'] })))).toBe('audience_mismatch')
  })

  it.each([
    [ISSUER],
    'https://Signet.example',
    `${ISSUER}/`,
    `${ISSUER}/sandbox`,
    `${ISSUER}:443`,
    '',
    null,
    undefined,
  ])('A33 iss %j is refused', async (iss) => {
    expect(await judge({ iss })).toBe('issuer_mismatch')
  })

  const STRINGS = ['sub', 'jti', 'client_id', 'scope', 'organization_id', 'environment', 'key_id']
  it.each(STRINGS)('A33 %s missing, empty or no string is refused', async (name) => {
    for (const value of [undefined, '', null, 1, ['a'], {}, true]) {
      expect(await judge({ [name]: value })).toBe('claim_invalid')
    }
  })
  it.each([
    ['partner_id', ['', null, 1, ['a']]],
    [
      'act',
      [
        null,
        'cli_1',
        [],
        {},
        { sub: 'cli_1' },
        { iss: 'i', sub: '' },
        { iss: 'i', sub: 's', act: { sub: 's' } },
      ],
    ],
    ['subject_jtis', [null, 'tok_1', [1], {}]],
    ['environment', ['live', 'Production']],
    ['scope', [' ', 'a  b', ' a', 'a ', 'a\tb', 'a"b', 'a\\b', 'é']],
  ])('A33 %s of a wrong form is refused', async (name, values) => {
    for (const value of values) expect(await judge({ [name]: value })).toBe('claim_invalid')
  })

  it.each([{}, { jkt: 'x' }, { 'x5t#S256': 'x' }, null, ''])('A33 cnf %j is refused', async (cnf) => {
    expect(await judge({ cnf })).toBe('confirmation_unsupported')
  })

  it.each([
    ['an array', '[]'],
    ['a string', '"eyJ"'],
    ['null', 'null'],
    ['no JSON', '{'],
    ['trailing text', `${JSON.stringify(claims())}x`],
    ['a byte order mark', `\uFEFF${JSON.stringify(claims())}`],
    ['JSON with a comment', `/**/${JSON.stringify(claims())}`],
    ['ill-formed UTF-8', Buffer.from(JSON.stringify(claims({ x: 'é' })), 'latin1')],
    ['17 levels', withMembers(`"x":${'['.repeat(16)}${']'.repeat(16)}`)],
    ['6,000 levels', withMembers(`"x":${'['.repeat(4000)}${']'.repeat(4000)}`)],
  ])('A33 a signed payload that is %s is refused', async (_, payload) => {
    expect(await judgeText(payload)).toBe('malformed')
  })
  it('A33 16 levels are accepted', async () => {
    expect(await judgeText(withMembers(`"x":${'['.repeat(15)}${']'.repeat(15)}`))).toBe('accepted')
  })
})

describe('A34 time', () => {
  const at = (nowMs: number, overrides: Json, clockToleranceSeconds?: number) =>
    mint(key, overrides).then((token) =>
      outcome(
        verifierFor([key], {
          now: () => nowMs,
          ...(clockToleranceSeconds === undefined ? {} : { clockToleranceSeconds }),
        }).verify(token),
      ),
    )

  for (const tolerance of [undefined, 0, 5, 60]) {
    const leeway = (tolerance ?? 5) * 1000
    it.each([
      [-1000, 'accepted'],
      [-1, 'accepted'],
      [0, 'expired'],
      [1, 'expired'],
      [1000, 'expired'],
    ])(`A34 exp with tolerance ${tolerance}: exp + tolerance %i ms: %s`, async (offset, expected) => {
      expect(await at(NOW * 1000 + leeway + offset, { exp: NOW }, tolerance)).toBe(expected)
    })
    it.each(['nbf', 'iat'])(`A34 %s with tolerance ${tolerance}`, async (name) => {
      for (const [offset, expected] of [
        [-1000, 'not_yet_valid'],
        [-1, 'not_yet_valid'],
        [0, 'accepted'],
        [1, 'accepted'],
        [1000, 'accepted'],
      ] as const) {
        expect(await at(NOW * 1000 - leeway + offset, { [name]: NOW }, tolerance)).toBe(expected)
      }
    })
  }

  it('A34 fractional dates are exact too (RFC 7519 §2)', async () => {
    expect(await at(NOW * 1000 + 499, { exp: NOW + 0.5 }, 0)).toBe('accepted')
    expect(await at(NOW * 1000 + 500, { exp: NOW + 0.5 }, 0)).toBe('expired')
    expect(await at(NOW * 1000 + 499, { nbf: NOW + 0.5 }, 0)).toBe('not_yet_valid')
    expect(await at(NOW * 1000 + 500, { nbf: NOW + 0.5 }, 0)).toBe('accepted')
  })
  it.each(['exp', 'iat', 'nbf'])('A34 %s that is no NumericDate is refused', async (name) => {
    for (const value of [String(NOW), null, true, [NOW], {}, -1, -0.5, 2 ** 53, 2 ** 63]) {
      expect(await judge({ [name]: value })).toBe('claim_invalid')
    }
    for (const literal of ['1e400', '9007199254740993']) {
      const { [name]: _, ...rest } = claims()
      expect(await judgeText(JSON.stringify(rest).replace(/\}$/, `,"${name}":${literal}}`))).toBe(
        'claim_invalid',
      )
    }
  })
  it('A34 missing exp or iat is refused, missing nbf is not', async () => {
    expect(await judge({ exp: undefined })).toBe('claim_invalid')
    expect(await judge({ iat: undefined })).toBe('claim_invalid')
    expect(await judge({ nbf: undefined })).toBe('accepted')
  })
  it('A34 the bounds of a NumericDate are accepted', async () => {
    expect(await judge({ exp: 2 ** 53 - 1 })).toBe('accepted')
    expect(await judge({ iat: 0, nbf: 0 })).toBe('accepted')
    expect(await judge({ exp: 0 })).toBe('expired')
  })
  it('A34 a clock that answers NaN validates nothing', async () => {
    expect(await at(Number.NaN, {})).toBe('expired')
  })
})

describe('requirements', () => {
  const require = async (options: Parameters<Verifier['verify']>[1]) =>
    outcome(verifier.verify(await mint(key), options))

  it('demands every scope, exactly', async () => {
    expect(await require({ scopes: [] })).toBe('accepted')
    expect(await require({ scopes: ['person:write', 'transactions:read'] })).toBe('accepted')
    for (const scope of ['person', 'write', 'person:writ', 'PERSON:WRITE', 'person:write2', 'toString']) {
      expect(await require({ scopes: ['transactions:read', scope] })).toBe('insufficient_scope')
    }
  })
  it('demands the organization, exactly', async () => {
    expect(await require({ organizationId: 'org_1' })).toBe('accepted')
    for (const organizationId of ['org_2', 'org_', 'ORG_1', 'org_1 ']) {
      expect(await require({ organizationId })).toBe('organization_mismatch')
    }
  })
  it.each([
    [{ scopes: undefined }],
    [{ scopes: 'person:write' }],
    [{ scopes: ['a b'] }],
    [{ scopes: [''] }],
    [{ scopes: ['a"b'] }],
    [{ scopes: [1] }],
    [{ organizationId: undefined }],
    [{ organizationId: '' }],
    [{ organizationId: 1 }],
    [null],
  ])('refuses %j as the mistake of the caller that it is', async (options) => {
    await expect(verifier.verify(await mint(key), options as never)).rejects.toThrow(TypeError)
  })
})
