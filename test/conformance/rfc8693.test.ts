/** RFC 8693: token exchange, by which a client narrows an access token that it holds. */
import { decodeJwt, SignJWT } from 'jose'
import * as oauth from 'oauth4webapi'
import { describe, expect, test } from 'vitest'
import {
  ACCESS_TOKEN_TYPE,
  askToken,
  basic,
  exchangeToken,
  issuedOf,
  JWT_TYPE,
  postForm,
  refusalOf,
  TOKEN_EXCHANGE,
  tokenPath,
} from '../oauth/calls.ts'
import { fingerprint, mint, tokenOf } from '../support/mint.ts'
import { type SeededClient, seedClient, seedDelegation, seedKey, seedOrganization } from '../support/seed.ts'
import { ISSUER, SANDBOX_ISSUER, setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const { url } = service
const invalidRequest = [400, 'invalid_request']

/** A token that the client holds. */
const held = async (client: SeededClient, parameters: Record<string, string> = {}) =>
  issuedOf(await askToken(url, client, parameters)).access_token
const exchanged = async (client: SeededClient, token: string, parameters: Record<string, string> = {}) =>
  issuedOf(await exchangeToken(url, client, token, parameters))
const refused = async (client: SeededClient, token: string, parameters: Record<string, string> = {}) =>
  refusalOf(await exchangeToken(url, client, token, parameters))

const client = await seedClient(database.sql, { scopes: ['a', 'b', 'c'] })
const token = await held(client)
const stranger = await seedClient(database.sql, { scopes: ['a', 'b', 'c'] })
const { organizationId: owner } = client
const sibling = await seedClient(database.sql, { scopes: ['a', 'b', 'c'], organizationId: owner })

describe('§2.1 the request', () => {
  test('§2.1 subject_token and subject_token_type are required: invalid_request', async () => {
    for (const parameters of [{ subject_token: '' }, { subject_token_type: '' }])
      expect(await refused(client, token, parameters)).toEqual(invalidRequest)
  })

  test('§2.1, §3 a subject token is an access token, also by the name of a JWT; nothing else', async () => {
    for (const type of [ACCESS_TOKEN_TYPE, JWT_TYPE])
      expect((await exchanged(client, token, { subject_token_type: type })).scope).toBe('a b c')
    for (const kind of ['refresh_token', 'id_token', 'saml1', 'saml2', 'Access_token'])
      expect(
        await refused(client, token, { subject_token_type: `urn:ietf:params:oauth:token-type:${kind}` }),
      ).toEqual(invalidRequest)
  })

  test('§2.1 actor_token_type with actor_token, and not without: invalid_request', async () => {
    expect(await refused(client, token, { actor_token: token })).toEqual(invalidRequest)
    expect(await refused(client, token, { actor_token_type: ACCESS_TOKEN_TYPE })).toEqual(invalidRequest)
    const actor = { actor_token: token, actor_token_type: ACCESS_TOKEN_TYPE }
    expect((await exchanged(client, token, actor)).scope).toBe('a b c')
    const wrongType = { ...actor, actor_token_type: 'urn:ietf:params:oauth:token-type:id_token' }
    expect(await refused(client, token, wrongType)).toEqual(invalidRequest)
  })

  test('§2.1 requested_token_type: an access token, or that as a JWT; issued_token_type says which', async () => {
    expect((await exchanged(client, token)).issued_token_type).toBe(ACCESS_TOKEN_TYPE)
    for (const type of [ACCESS_TOKEN_TYPE, JWT_TYPE])
      expect((await exchanged(client, token, { requested_token_type: type })).issued_token_type).toBe(type)
    const other = 'urn:ietf:params:oauth:token-type:refresh_token'
    expect(await refused(client, token, { requested_token_type: other })).toEqual(invalidRequest)
  })

  test('§2.1 A15 without client authentication, no exchange', async () => {
    const parameters = {
      grant_type: TOKEN_EXCHANGE,
      subject_token: token,
      subject_token_type: ACCESS_TOKEN_TYPE,
    }
    expect(refusalOf(await postForm(url, parameters))).toEqual([401, 'invalid_client'])
    const bearer = [['Authorization', `Bearer ${token}`] as const]
    expect(refusalOf(await postForm(url, parameters, { headers: bearer }))).toEqual([401, 'invalid_client'])
    const ofBody = { ...parameters, client_id: client.clientId }
    expect(refusalOf(await postForm(url, ofBody))).toEqual([401, 'invalid_client'])
  })
})

describe('§2.2.1 the answer', () => {
  test('§2.2.1 has access_token, issued_token_type, token_type, expires_in and scope', async () => {
    const answer = await exchangeToken(url, client, token, { scope: 'b', signet_expires_in_seconds: '60' })
    expect([answer.headers['cache-control'], answer.headers.pragma]).toEqual(['no-store', 'no-cache'])
    const issued = issuedOf(answer)
    expect(issued).toEqual({
      access_token: expect.any(String),
      issued_token_type: ACCESS_TOKEN_TYPE,
      // It is usable as one, by whatever name it was asked for.
      token_type: 'Bearer',
      expires_in: 60,
      scope: 'b',
    })
    const { iat = 0, exp = 0 } = decodeJwt(issued.access_token)
    expect(exp - iat).toBe(60)
  })

  test('§2.2.1 an independent client reads it', async () => {
    const as = { issuer: SANDBOX_ISSUER, token_endpoint: url + tokenPath('sandbox') }
    const self = { client_id: client.clientId }
    const response = await oauth.genericTokenEndpointRequest(
      as,
      self,
      oauth.ClientSecretBasic(client.key),
      TOKEN_EXCHANGE,
      { subject_token: token, subject_token_type: ACCESS_TOKEN_TYPE, scope: 'a' },
      { [oauth.allowInsecureRequests]: true },
    )
    const issued = await oauth.processGenericTokenEndpointResponse(as, self, response)
    expect(issued).toMatchObject({ issued_token_type: ACCESS_TOKEN_TYPE, token_type: 'bearer', scope: 'a' })
  })
})

describe('§2.2.2 a subject or actor token that is no good: invalid_request, the same for all', () => {
  const bad = async (): Promise<[string, string][]> => {
    const revoked = await held(client)
    const { jti = '', exp = 0 } = decodeJwt(revoked)
    await database.sql`insert into revoked_tokens (jti, organization_id, client_id, expires_at)
      values (${jti}, ${client.organizationId}, ${client.clientId}, to_timestamp(${exp}))`
    const { keyId, key } = await seedKey(database.sql, client.clientId, 'sandbox')
    const ofRevokedKey = await held({ ...client, key })
    await database.sql`update keys set revoked_at = now(), tokens_revoked_at = now() where id = ${keyId}`
    const production = await seedClient(database.sql, { environment: 'production', scopes: ['a'] })
    const [header = '', payload = '', signature = ''] = token.split('.')
    const forged = await new SignJWT(decodeJwt(token))
      .setProtectedHeader({ alg: 'HS256', typ: 'at+jwt' })
      .sign(new Uint8Array(32))
    return [
      ['garbage', 'x'],
      ['a key', client.key],
      ['forged', forged],
      ['unsigned', `${header}.${payload}.`],
      ['cut', `${header}.${payload}.${signature.slice(0, -2)}`],
      ['with another payload', `${header}.${(await held(client)).split('.')[1]}.${signature}`],
      ['of another client', await held(stranger)],
      ['of another client of the owner', await held(sibling)],
      ['of the other environment', await held(production)],
      ['revoked', revoked],
      ['of a revoked key', ofRevokedKey],
    ]
  }

  test('§2.2.2', async () => {
    const expected = fingerprint(await exchangeToken(url, client, 'x'))
    expect(expected).toMatchObject({ status: 400 })
    for (const [what, each] of await bad()) {
      expect(fingerprint(await exchangeToken(url, client, each)), what).toEqual(expected)
      const actor = { actor_token: each, actor_token_type: JWT_TYPE }
      expect(fingerprint(await exchangeToken(url, client, token, actor)), `actor ${what}`).toEqual(expected)
    }
  })

  test('§2.2.2 an actor token for another organization', async () => {
    const [one, other] = [await seedOrganization(database.sql), await seedOrganization(database.sql)]
    const partner = await seedClient(database.sql, { kind: 'partner', scopes: ['a'] })
    for (const organizationId of [one, other])
      await seedDelegation(database.sql, { organizationId, partnerId: partner.organizationId, scopes: ['a'] })
    const subject = await held(partner, { organization_id: one })
    const actor = await held(partner, { organization_id: other })
    const actorType = { actor_token_type: ACCESS_TOKEN_TYPE }
    expect(await refused(partner, subject, { actor_token: actor, ...actorType })).toEqual(invalidRequest)
    const good = await exchanged(partner, subject, { actor_token: subject, ...actorType })
    expect(decodeJwt(good.access_token)).toMatchObject({
      organization_id: one,
      partner_id: partner.organizationId,
    })
  })
})

describe('§4.1 act', () => {
  test('§4.1 names the client, and inside, outermost the latest, who had the subject token so; nothing else', async () => {
    const actor = { iss: SANDBOX_ISSUER, sub: client.clientId }
    expect(decodeJwt(token).act).toBeUndefined()
    const { access_token: first } = await exchanged(client, token)
    expect(decodeJwt(first).act).toEqual(actor)
    const { access_token: second } = await exchanged(client, first)
    expect(decodeJwt(second).act).toEqual({ ...actor, act: actor })
  })

  test('§4.1 five actors, and no more', async () => {
    let current = token
    for (let i = 1; i <= 5; i++) current = (await exchanged(client, current)).access_token
    let depth = 0
    for (let { act } = decodeJwt<{ act?: { act?: object } }>(current); act; act = act.act as typeof act)
      depth++
    expect(depth).toBe(5)
    expect(current.length).toBeLessThan(2048)
    expect(await refused(client, current)).toEqual(invalidRequest)
  })

  test('§4.2, §4.3 scope is one string; client_id is the client that asked', async () => {
    const { access_token } = await exchanged(client, token, { scope: 'c a' })
    expect(decodeJwt(access_token)).toMatchObject({
      iss: SANDBOX_ISSUER,
      sub: client.clientId,
      client_id: client.clientId,
      scope: 'c a',
      organization_id: client.organizationId,
      environment: 'sandbox',
      key_id: client.keyId,
    })
  })
})

describe('§2.1 never more than the subject token', () => {
  test('scopes: those that it has and the client may still grant', async () => {
    const own = await seedClient(database.sql, { scopes: ['a', 'b', 'c'] })
    const narrow = await held(own, { scope: 'a b' })
    expect((await exchanged(own, narrow)).scope).toBe('a b')
    expect((await exchanged(own, narrow, { scope: 'b' })).scope).toBe('b')
    expect(await refused(own, narrow, { scope: 'a c' })).toEqual([400, 'invalid_scope'])
    const narrower = (await exchanged(own, narrow, { scope: 'b' })).access_token
    expect(await refused(own, narrower, { scope: 'a' })).toEqual([400, 'invalid_scope'])
    await database.sql`update clients set scopes = '{b,d}' where id = ${own.clientId}`
    expect((await exchanged(own, narrow)).scope).toBe('b')
    expect(await refused(own, narrow, { scope: 'd' })).toEqual([400, 'invalid_scope'])
    expect(await refused(own, narrow, { scope: 'a' })).toEqual([400, 'invalid_scope'])
    await database.sql`update clients set scopes = '{d}' where id = ${own.clientId}`
    expect(await refused(own, narrow)).toEqual([400, 'invalid_scope'])
  })

  test('the expiry: from one second to what is left', async () => {
    const short = await held(client, { signet_expires_in_seconds: '600' })
    const { exp = 0 } = decodeJwt(short)
    const { access_token, expires_in } = await exchanged(client, short)
    expect(decodeJwt(access_token).exp).toBe(exp)
    expect(expires_in).toBeLessThanOrEqual(600)
    expect((await exchanged(client, short, { signet_expires_in_seconds: '1' })).expires_in).toBe(1)
    for (const seconds of ['601', '3600', '86400', '0', '-1', '86401'])
      expect(await refused(client, short, { signet_expires_in_seconds: seconds })).toEqual(invalidRequest)
    // Of a long one, the default of every token.
    const long = await held(client, { signet_expires_in_seconds: '86400' })
    expect((await exchanged(client, long)).expires_in).toBe(3600)
  })

  test('the organization: naming another is refused', async () => {
    const own = { organization_id: client.organizationId }
    expect((await exchanged(client, token, own)).scope).toBe('a b c')
    const [one, other] = [await seedOrganization(database.sql), await seedOrganization(database.sql)]
    const partner = await seedClient(database.sql, { kind: 'partner', scopes: ['a'] })
    for (const organizationId of [one, other])
      await seedDelegation(database.sql, { organizationId, partnerId: partner.organizationId, scopes: ['a'] })
    const forOne = await held(partner, { organization_id: one })
    // Also where it could have one for that, too.
    for (const organizationId of [other, partner.organizationId, 'x'])
      expect(await refused(partner, forOne, { organization_id: organizationId })).toEqual(invalidRequest)
    const { access_token } = await exchanged(partner, forOne)
    expect(decodeJwt(access_token).organization_id).toBe(one)
  })

  test('the target: the same audience, or invalid_target', async () => {
    const scopes = ['signet:keys:read', 'a']
    const both = await seedClient(database.sql, { scopes, environment: 'production' })
    const management = await held(both, { scope: 'signet:keys:read' })
    const { access_token } = await exchanged(both, management)
    expect(decodeJwt(access_token)).toMatchObject({ aud: ISSUER, scope: 'signet:keys:read' })
    expect((await exchanged(both, management, { resource: ISSUER })).scope).toBe('signet:keys:read')
    expect(await refused(both, management, { resource: 'https://api.test' })).toEqual([400, 'invalid_target'])
    expect(await refused(both, management, { scope: 'a' })).toEqual([400, 'invalid_scope'])
    // The client’s audience has become another one.
    const business = await held(both, { scope: 'a' })
    await database.sql`update clients set audience = 'https://other.test' where id = ${both.clientId}`
    expect(await refused(both, business)).toEqual([400, 'invalid_target'])
  })

  test('a token of /v2/auth/token is one like any other', async () => {
    const minted = (await tokenOf(await mint(url, client))).token
    expect((await exchanged(client, minted, { scope: 'a' })).scope).toBe('a')
  })
})

test('§2.1 a token of the client’s own, whichever of its keys minted it', async () => {
  const { keyId, key } = await seedKey(database.sql, client.clientId, 'sandbox')
  const { access_token } = await exchanged({ ...client, key }, token)
  expect(decodeJwt(access_token).key_id).toBe(keyId)
})

test('§2.1 at the other issuer, the client is none', async () => {
  const parameters = {
    grant_type: TOKEN_EXCHANGE,
    subject_token: token,
    subject_token_type: ACCESS_TOKEN_TYPE,
  }
  const answer = await postForm(url, parameters, { headers: [basic(client)], path: tokenPath('production') })
  expect(refusalOf(answer)).toEqual([401, 'invalid_client'])
})
