import { describe, expect, test } from 'vitest'
import {
  type Circumstances,
  evaluate,
  firstValidIssue,
  type Standing,
  type SubjectToken,
  type TokenRequest,
} from '../../src/exchange/policy.ts'
import { MAX_EXPIRY_SECONDS, MIN_EXPIRY_SECONDS } from '../../src/management/wire.ts'
import { compileNetworks } from '../../src/network/address.ts'

const NOW = Date.UTC(2027, 0, 1)
const ISSUER = 'https://issuer.test'
const circumstances: Circumstances = {
  now: NOW,
  clientAddress: '192.0.2.1',
  origin: undefined,
  issuer: ISSUER,
  defaultAudience: 'https://api.test',
}
const request: TokenRequest = {
  organizationId: 'org_own',
  scopes: ['a', 'b'],
  expirySeconds: undefined,
  audience: undefined,
  subject: undefined,
}
const own: Standing = {
  key: { expiresAt: null, revokedAt: null },
  client: {
    organizationId: 'org_own',
    environment: 'production',
    kind: 'organization',
    scopes: ['a', 'b', 'signet:keys:read', 'signet:keys:write'],
    audience: null,
    maxExpirySeconds: MAX_EXPIRY_SECONDS,
    tokensRevokedAt: null,
    allowedOrigins: null,
    status: 'active',
  },
  allowedNetworks: undefined,
  owner: { id: 'org_own', name: 'Own', status: 'active', tokensRevokedAt: null },
  mandate: undefined,
}
const client = (more: Partial<Standing['client']>): Standing => ({
  ...own,
  client: { ...own.client, ...more },
})
const key = (more: Partial<Standing['key']>): Standing => ({ ...own, key: { ...own.key, ...more } })
type Mandate = NonNullable<Standing['mandate']>
const partner = (
  delegation: Partial<Mandate['delegation']> = {},
  organization: Partial<Mandate['organization']> = {},
): Standing => ({
  ...client({ kind: 'partner' }),
  mandate: {
    organization: {
      id: 'org_other',
      name: 'Other',
      status: 'active',
      tokensRevokedAt: null,
      ...organization,
    },
    delegation: {
      scopes: ['a', 'b'],
      maxExpirySeconds: MAX_EXPIRY_SECONDS,
      status: 'active',
      tokensRevokedAt: null,
      ...delegation,
    },
  },
})
const forOther = { organizationId: 'org_other' }

const granted = { ok: true, scopes: ['a', 'b'], audience: 'https://api.test', expirySeconds: 3600 }
const denied = (reason: string, more: object = {}) => ({ ok: false, reason, ...more })

type Case = [name: string, standing: Standing, asked: Partial<TokenRequest>, expected: object]
const each = (cases: Case[], around: Partial<Circumstances> = {}) =>
  test.each(cases)('%s', (_name, standing, asked, expected) => {
    const decision = evaluate(standing, { ...request, ...asked }, { ...circumstances, ...around })
    expect(decision).toMatchObject(expected)
  })

describe('the key', () => {
  each([
    ['in order', own, {}, { ...granted, organization: { id: 'org_own', name: 'Own' } }],
    ['revoked 1 ms ago', key({ revokedAt: new Date(NOW - 1) }), {}, denied('key_revoked')],
    ['revoked, by a later time', key({ revokedAt: new Date(NOW + 1) }), {}, denied('key_revoked')],
    ['expires in 1 ms', key({ expiresAt: new Date(NOW + 1) }), {}, granted],
    ['expires now', key({ expiresAt: new Date(NOW) }), {}, denied('key_expired')],
    ['expired 1 ms ago', key({ expiresAt: new Date(NOW - 1) }), {}, denied('key_expired')],
  ])
})

describe('the client and its owner', () => {
  const suspended = { ...own, owner: { ...own.owner, status: 'suspended' as const } }
  each([
    ['revoked', client({ status: 'revoked' }), {}, denied('client_revoked')],
    ['suspended', client({ status: 'suspended' }), {}, denied('client_suspended')],
    ['pending approval', client({ status: 'pending_approval' }), {}, denied('client_pending_approval')],
    ['owner suspended', suspended, {}, denied('owner_suspended')],
  ])
})

describe('the address', () => {
  const within = (...networks: string[]) => ({ ...own, allowedNetworks: compileNetworks(networks) })
  each([
    ['inside of the allow-list', within('10.0.0.0/8', '192.0.2.0/24'), {}, granted],
    ['outside of the allow-list', within('192.0.3.0/24'), {}, denied('address_not_allowed')],
    ['an empty allow-list', within(), {}, denied('address_not_allowed')],
    ['every IPv6 address', within('::/0'), {}, denied('address_not_allowed')],
  ])
})

describe('a page', () => {
  const listed = client({ allowedOrigins: ['https://app.test'] })
  const empty = client({ allowedOrigins: [] })
  const refused = denied('origin_not_allowed')
  each([['no list', own, {}, refused]], { origin: 'https://app.test' })
  each([['an empty list', empty, {}, refused]], { origin: 'https://app.test' })
  each([['a listed origin', listed, {}, granted]], { origin: 'https://app.test' })
  each([['a longer origin', listed, {}, refused]], { origin: 'https://app.test.evil' })
  each([['another scheme', listed, {}, refused]], { origin: 'http://app.test' })
  each([['an opaque origin', listed, {}, refused]], { origin: 'null' })
  each([['no page at all', listed, {}, granted]])
})

describe('the organization', () => {
  const refused = denied('organization_not_allowed')
  const helped = { ...partner(), client: own.client }
  each([
    ["another's", own, forOther, refused],
    ["another's, and a delegation, but not of kind partner", helped, forOther, refused],
    ['one that has delegated', partner(), forOther, { ok: true, organization: { id: 'org_other' } }],
    ['one that has not', client({ kind: 'partner' }), forOther, refused],
    ["a partner's own", client({ kind: 'partner' }), {}, refused],
    ['another one than the mandate is of', partner(), { organizationId: 'org_third' }, refused],
    ['pending', partner({ status: 'pending' }), forOther, refused],
    ['paused', partner({ status: 'paused' }), forOther, refused],
    ['revoked', partner({ status: 'revoked' }), forOther, refused],
    ['suspended', partner({}, { status: 'suspended' }), forOther, refused],
  ])
})

describe('scopes', () => {
  const ungranted = (index: number) => denied('scope_not_granted', { index })
  const mixed = (index: number) => denied('scopes_mixed', { index })
  const management = ['signet:keys:read', 'signet:keys:write']
  const allOfThem = partner({ scopes: ['a', 'b', 'c'] })
  each([
    ['one not granted', own, { scopes: ['a', 'c'] }, ungranted(1)],
    ['another case', own, { scopes: ['A'] }, ungranted(0)],
    ['a wildcard is a name', client({ scopes: ['*'] }), { scopes: ['a'] }, ungranted(0)],
    ['the delegation leaves one out', partner({ scopes: ['a'] }), forOther, ungranted(1)],
    ['the client leaves one out', allOfThem, { ...forOther, scopes: ['c'] }, ungranted(0)],
    ['management alone', own, { scopes: management }, { ok: true, scopes: management, audience: ISSUER }],
    ['management after others', own, { scopes: ['a', ...management] }, mixed(1)],
    ['management before others', own, { scopes: [...management, 'a'] }, mixed(2)],
  ])
})

describe('the expiry', () => {
  const low = client({ maxExpirySeconds: 900 })
  const lower = partner({ maxExpirySeconds: 600 })
  const seconds = (expirySeconds: number) => ({ ...granted, expirySeconds })
  const tooLong = (maxSeconds: number) => denied('expiry_too_long', { maxSeconds })
  each([
    ['the longest', own, { expirySeconds: MAX_EXPIRY_SECONDS }, seconds(86_400)],
    ['the shortest', own, { expirySeconds: MIN_EXPIRY_SECONDS }, seconds(300)],
    ["at the client's ceiling", low, { expirySeconds: 900 }, seconds(900)],
    ["past the client's ceiling", low, { expirySeconds: 901 }, tooLong(900)],
    ["the default under the client's ceiling", low, {}, seconds(900)],
    ["at the delegation's ceiling", lower, { ...forOther, expirySeconds: 600 }, seconds(600)],
    ["past the delegation's ceiling", lower, { ...forOther, expirySeconds: 601 }, tooLong(600)],
    ["the default under the delegation's ceiling", lower, forOther, seconds(600)],
  ])
})

describe('the audience', () => {
  const refused = denied('audience_not_allowed')
  const other = 'https://other.test'
  const managed = { scopes: ['signet:keys:read'] }
  each([
    ["the client's", client({ audience: other }), {}, { ...granted, audience: other }],
    [
      "the client's, asked for",
      client({ audience: other }),
      { audience: other },
      { ok: true, audience: other },
    ],
    [
      'the default, where the client has one',
      client({ audience: other }),
      { audience: 'https://api.test' },
      refused,
    ],
    ['the issuer for business scopes', own, { audience: ISSUER }, refused],
    ["the issuer as the client's", client({ audience: ISSUER }), {}, refused],
    ['the default for management scopes', own, { ...managed, audience: 'https://api.test' }, refused],
    [
      "management, whatever the client's",
      client({ audience: other }),
      managed,
      { ok: true, audience: ISSUER },
    ],
    [
      'the issuer, asked for with them',
      own,
      { ...managed, audience: ISSUER },
      { ok: true, audience: ISSUER },
    ],
  ])
  each([['the issuer as the default', own, {}, refused]], { defaultAudience: ISSUER })
})

describe('no scopes named', () => {
  const all = { scopes: undefined }
  const business = client({ scopes: ['a', 'b'] })
  const narrow = { ...partner({ scopes: ['b', 'c'] }) }
  each([
    ['all that the client holds', business, all, { ...granted, scopes: ['a', 'b'] }],
    ['of a partner, what both hold', narrow, { ...all, ...forOther }, { ...granted, scopes: ['b'] }],
    [
      'nothing that both hold',
      partner({ scopes: ['c'] }),
      { ...all, ...forOther },
      denied('nothing_to_grant'),
    ],
    ['of two audiences', own, all, denied('scopes_ambiguous')],
    ['those of the issuer', own, { ...all, audience: ISSUER }, { ok: true, audience: ISSUER }],
    ['those of the default audience', own, { ...all, audience: 'https://api.test' }, granted],
    [
      'of an audience that none is for',
      business,
      { ...all, audience: ISSUER },
      denied('audience_not_allowed'),
    ],
    [
      'of an unknown audience',
      client({ scopes: ['signet:keys:read'] }),
      { ...all, audience: 'https://api.test' },
      denied('audience_not_allowed'),
    ],
  ])
})

describe('a subject token', () => {
  const SECONDS = NOW / 1000
  const subject: SubjectToken = {
    jti: 'tok_1',
    scopes: ['a', 'b'],
    audience: 'https://api.test',
    organizationId: 'org_own',
    issuedAt: SECONDS - 100,
    expiresAt: SECONDS + 500,
    subjectJtis: [],
    act: undefined,
  }
  const given = (more: Partial<SubjectToken> = {}, asked: Partial<TokenRequest> = {}) => ({
    subject: { ...subject, ...more },
    ...asked,
  })
  const invalid = denied('subject_invalid')
  const cutOff = (seconds: number) => ({ tokensRevokedAt: new Date((SECONDS + seconds) * 1000) })
  const stopped = { ...own, owner: { ...own.owner, ...cutOff(-100) } }
  const managed = { scopes: ['signet:keys:read'], audience: ISSUER }
  each([
    ['until it expires, where no expiry is named', own, given(), { ...granted, expirySeconds: 500 }],
    ['the default, where more is left', own, given({ expiresAt: SECONDS + 7200 }), granted],
    ['all that is left', own, given({}, { expirySeconds: 500 }), { ...granted, expirySeconds: 500 }],
    ['one second', own, given({}, { expirySeconds: 1 }), { ...granted, expirySeconds: 1 }],
    [
      'more than is left',
      own,
      given({}, { expirySeconds: 501 }),
      denied('expiry_too_long', { maxSeconds: 500 }),
    ],
    ['expires in a second', own, given({ expiresAt: SECONDS + 1 }), { ...granted, expirySeconds: 1 }],
    ['expires now', own, given({ expiresAt: SECONDS }), invalid],
    [
      'what it holds and the client holds',
      own,
      given({ scopes: ['b', 'z'] }, { scopes: undefined }),
      {
        ...granted,
        scopes: ['b'],
        expirySeconds: 500,
      },
    ],
    [
      'a scope that it does not hold',
      own,
      given({ scopes: ['a'] }),
      denied('scope_not_granted', { index: 1 }),
    ],
    [
      'a scope that the client lost',
      client({ scopes: ['a'] }),
      given(),
      denied('scope_not_granted', { index: 1 }),
    ],
    [
      'nothing that both hold',
      own,
      given({ scopes: ['z'] }, { scopes: undefined }),
      denied('nothing_to_grant'),
    ],
    [
      'for another organization',
      own,
      given({ organizationId: 'org_other' }),
      denied('organization_not_allowed'),
    ],
    [
      'for the own one, to get one for another',
      partner(),
      given({}, forOther),
      denied('organization_not_allowed'),
    ],
    ['with another audience', own, given({ audience: 'https://other.test' }), denied('audience_not_allowed')],
    ['of management', own, given(managed, { scopes: undefined }), { ok: true, audience: ISSUER }],
    ['of management, for others', own, given(managed), denied('scope_not_granted', { index: 0 })],
    ['issued before a cut-off', client(cutOff(-99)), given(), invalid],
    ['issued in the second of a cut-off', client(cutOff(-100)), given(), invalid],
    ['issued after it', client(cutOff(-101)), given(), { ok: true }],
    ['issued before the owner was stopped', stopped, given(), invalid],
    [
      'issued before the organization was stopped',
      partner({}, cutOff(-100)),
      given({ organizationId: 'org_other' }, forOther),
      invalid,
    ],
    [
      'issued before the delegation was stopped',
      partner(cutOff(-100)),
      given({ organizationId: 'org_other' }, forOther),
      invalid,
    ],
  ])
})

describe('the first second that no cut-off covers', () => {
  const at = (milliseconds: number) => ({ tokensRevokedAt: new Date(milliseconds) })
  test.each([
    ['without one', own, 0],
    ['the one after it', client(at(NOW)), NOW / 1000 + 1],
    ['whatever its fraction', client(at(NOW + 999)), NOW / 1000 + 1],
    [
      'the latest of all',
      { ...partner(at(NOW + 2000), at(NOW + 3000)), owner: { ...own.owner, ...at(NOW) } },
      NOW / 1000 + 4,
    ],
  ])('%s', (_name, standing, expected) => {
    expect(firstValidIssue(standing)).toBe(expected)
  })
})

describe('a refusal', () => {
  test('what is wrong with the key hides all else', () => {
    const standing: Standing = {
      ...client({ status: 'suspended' }),
      key: { expiresAt: null, revokedAt: new Date(NOW) },
      allowedNetworks: () => false,
    }
    expect(evaluate(standing, { ...request, ...forOther }, circumstances)).toEqual(denied('key_revoked'))
  })

  test('whoever asks from a foreign address learns nothing of the client', () => {
    const standing: Standing = { ...client({ status: 'suspended' }), allowedNetworks: () => false }
    expect(evaluate(standing, request, circumstances)).toEqual(denied('address_not_allowed'))
  })

  test('whoever may not mint for an organization learns nothing of what is delegated', () => {
    const asked = { ...request, ...forOther, scopes: ['unknown'], expirySeconds: MAX_EXPIRY_SECONDS }
    expect(evaluate(partner({ status: 'paused' }), asked, circumstances)).toEqual(
      denied('organization_not_allowed'),
    )
  })
})
