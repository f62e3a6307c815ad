import { describe, expect, test } from 'vitest'
import type { AccessToken, Actor } from '#sdk'
import { judgeSubject, MAX_ACTORS } from '../../src/exchange/subject.ts'

const ISSUER = 'https://issuer.test/sandbox'
const client = { id: 'cli_1', environment: 'sandbox' } as const
const token: AccessToken = {
  iss: ISSUER,
  sub: 'cli_1',
  aud: 'https://api.test',
  iat: 100,
  exp: 200,
  jti: 'tok_1',
  client_id: 'cli_1',
  scope: 'a b',
  organization_id: 'org_1',
  environment: 'sandbox',
  key_id: 'key_1',
}
const judge = (subject: Partial<AccessToken>, actor?: Partial<AccessToken>) =>
  judgeSubject({
    subject: { ...token, ...subject },
    actor: actor && { ...token, jti: 'tok_2', ...actor },
    client,
    issuer: ISSUER,
  })
const self = { iss: ISSUER, sub: 'cli_1' }
const chain = (length: number): Actor | undefined => {
  const act = length > 1 ? chain(length - 1) : undefined
  return length === 0 ? undefined : { ...self, ...(act ? { act } : {}) }
}
const invalid = { ok: false, reason: 'subject_invalid' }
const good = {
  jti: 'tok_1',
  subjectJtis: [],
  scopes: ['a', 'b'],
  audience: 'https://api.test',
  organizationId: 'org_1',
  issuedAt: 100,
  expiresAt: 200,
  act: undefined,
}

test('the client’s own: what is still to be judged of it', () => {
  expect(judge({})).toEqual(good)
  expect(judge({ aud: ['https://api.test'] })).toEqual(good)
})

test.each<[string, Partial<AccessToken>]>([
  ['another client’s', { client_id: 'cli_2' }],
  ['another issuer’s', { iss: 'https://issuer.test' }],
  ['another environment’s', { environment: 'production' }],
  ['bound to a key', { cnf: { jkt: 'x' } }],
  ['bound in a way that nobody knows', { cnf: null }],
])('%s is refused, as subject and as actor', (_name, claims) => {
  expect(judge(claims)).toEqual(invalid)
  expect(judge({}, claims)).toEqual(invalid)
})

test('an actor token is for the same organization', () => {
  expect(judge({}, {})).toEqual(good)
  expect(judge({}, { organization_id: 'org_2' })).toEqual(invalid)
})

describe('may_act (RFC 8693 §4.4)', () => {
  test.each<[string, unknown, boolean]>([
    ['names the client', self, true],
    ['names it, and more', { ...self, name: 'x' }, true],
    ['names another', { ...self, sub: 'cli_2' }, false],
    ['names another issuer’s', { ...self, iss: 'https://issuer.test' }, false],
    ['names no issuer', { sub: 'cli_1' }, false],
    ['names nobody', {}, false],
    ['is null', null, false],
    ['is a text', 'cli_1', false],
    ['is a list', [self], false],
  ])('%s', (_name, mayAct, isAllowed) => {
    expect(judge({ may_act: mayAct })).toEqual(isAllowed ? good : invalid)
  })
})

test('the chain of actors that it brings leaves room for one more (RFC 8693 §4.1)', () => {
  const longest = chain(MAX_ACTORS - 1)
  expect(longest && judge({ act: longest })).toMatchObject({ act: longest })
  const act = chain(MAX_ACTORS)
  expect(act && judge({ act })).toEqual({ ok: false, reason: 'too_many_actors' })
})
