/** A40, A42: who may not use the management API, on a route of each kind, and what exactly they are told. */
import { createHmac } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { newId, newJti } from '../../src/ids.ts'
import { MANAGEMENT_SCOPES } from '../../src/management/scopes.ts'
import { createTenant, type Tenant, tokenFor } from '../support/management.ts'
import { mint, type Problem, type RawAnswer, rawRequest, tokenOf } from '../support/mint.ts'
import { seedClient, seedDelegation, seedKey } from '../support/seed.ts'
import { ISSUER, SANDBOX_ISSUER, setUpService, startService, type TestService } from '../support/service.ts'
import { createForger } from './forged-token.ts'
import { snapshot } from './snapshot.ts'

const { database, service } = await setUpService()
const { sql } = database
const forger = await createForger(database)
const sandboxForger = await createForger(database, 'sandbox')
const RENAMED = 'Was changed after all'

const NO_TOKEN = 'Bearer realm="signet"'
const BAD_TOKEN = 'Bearer realm="signet", error="invalid_token"'
const lacks = (scope: string) => `Bearer realm="signet", error="insufficient_scope", scope="${scope}"`

/** One of each kind. */
const routesOf = ({ client }: Tenant) => {
  const path = `/v2/organizations/${client.organizationId}`
  const [read, write] = ['signet:organizations:read', 'signet:organizations:write']
  return [
    { method: 'GET', path, scope: read },
    { method: 'GET', path: '/v2/organizations', scope: read },
    { method: 'POST', path: '/v2/organizations', scope: write, body: { name: RENAMED } },
    { method: 'PATCH', path, scope: write, body: { name: RENAMED } },
  ] as const
}
type Route = ReturnType<typeof routesOf>[number]
type Lines = (readonly [string, string])[]

const call = (url: string, route: Route, lines: Lines): Promise<RawAnswer> =>
  rawRequest(url, {
    method: route.method,
    path: route.path,
    headers: [
      ...lines,
      // So that a refusal that left something to repeat would show, too.
      ...('body' in route
        ? ([
            ['Content-Type', 'application/json'],
            ['Idempotency-Key', newJti()],
          ] as const)
        : []),
    ],
    ...('body' in route ? { body: JSON.stringify(route.body) } : {}),
  })
const bearer = (token: string): Lines => [['Authorization', `Bearer ${token}`]]

let tenant: Tenant
let before: Record<string, string>
beforeAll(async () => {
  tenant = await createTenant(service, sql)
})
// Events of refusals may be added to the audit trail; nothing else may change anywhere.
const state = () => snapshot(sql, ['audit_events'])
beforeEach(async () => {
  before = await state()
})

/** On every route: this status, code and challenge; nothing of the credentials in the answer; nothing changed. */
async function expectRefused(
  lines: Lines,
  expected: { status: number; code: string; challenge: string | ((scope: string) => string) },
  of: { tenant?: Tenant; url?: string; since?: Record<string, string> } = {},
) {
  for (const route of routesOf(of.tenant ?? tenant)) {
    const answer = await call(of.url ?? service.url, route, lines)
    const { challenge } = expected
    const told = {
      status: answer.status,
      code: (JSON.parse(answer.body) as Problem).error.code,
      challenge: answer.headers['www-authenticate'],
    }
    expect(told, `${route.method} ${route.path}`).toEqual({
      ...expected,
      challenge: typeof challenge === 'string' ? challenge : challenge(route.scope),
    })
    expect(answer.headers['cache-control']).toBe('no-store')
    expect(answer.headers['content-type']).toBe('application/problem+json')
    expect(answer.headers).not.toHaveProperty('location')
    for (const [, value] of lines) {
      const secret = value.replace(/^\w+ +/, '')
      if (secret.length > 8) expect(answer.body + JSON.stringify(answer.headers)).not.toContain(secret)
    }
  }
  expect(await state()).toEqual(of.since ?? before)
}

const noToken = { status: 401, code: 'invalid_token', challenge: NO_TOKEN }
const badToken = { status: 401, code: 'invalid_token', challenge: BAD_TOKEN }
const several = {
  status: 400,
  code: 'invalid_request',
  challenge: 'Bearer realm="signet", error="invalid_request"',
}

test('with its token every one of these routes is open', async () => {
  const lines: Lines = [['authorization', `bEARER ${tenant.api.token}`]]
  const statuses = []
  for (const route of routesOf(tenant)) statuses.push((await call(service.url, route, lines)).status)
  // For creating organizations it would have to be the platform's.
  expect(statuses).toEqual([200, 200, 403, 200])
})

describe('A40 credentials', () => {
  const token = () => tenant.api.token
  const cases: Record<string, [() => Lines, typeof noToken]> = {
    none: [() => [], noToken],
    'an empty header': [() => [['Authorization', '']], noToken],
    'a scheme alone': [() => [['Authorization', 'Bearer']], noToken],
    'the token without a scheme': [() => [['Authorization', token()]], noToken],
    'Basic, of the client’s id and key': [
      () => {
        const { clientId, key } = tenant.client
        return [['Authorization', `Basic ${Buffer.from(`${clientId}:${key}`).toString('base64')}`]]
      },
      noToken,
    ],
    'a DPoP scheme': [() => [['Authorization', `DPoP ${token()}`]], noToken],
    'a master key without a scheme': [() => [['Authorization', tenant.client.key]], noToken],
    'a master key as a token': [() => bearer(tenant.client.key), badToken],
    'a master key in X-Api-Key': [() => [['X-Api-Key', tenant.client.key]], noToken],
    'a token in X-Api-Key': [() => [['X-Api-Key', token()]], noToken],
    'a cookie': [() => [['Cookie', `access_token=${token()}; session=${token()}`]], noToken],
    'a token and a master key': [() => [...bearer(token()), ['X-Api-Key', tenant.client.key]], several],
    'a token twice': [() => [...bearer(token()), ...bearer(token())], several],
    'a token and Basic': [() => [...bearer(token()), ['authorization', 'Basic eDp5']], several],
    garbage: [() => bearer('garbage'), badToken],
    'nothing but dots': [() => bearer('..'), badToken],
    'two tokens in a line': [() => bearer(`${token()}, ${token()}`), badToken],
    'a token after two spaces': [() => [['Authorization', `Bearer  ${token()}`]], badToken],
    'a token with a space in it': [() => bearer(token().replace('.', '. ')), badToken],
    'a token without its signature': [() => bearer(token().replace(/[^.]*$/, '')), badToken],
    'a token with another signature': [() => bearer(token().replace(/....$/, 'AAAA')), badToken],
    'a token of 15 KB': [() => bearer('a'.repeat(15_000)), badToken],
  }
  test.each(Object.entries(cases))('%s', async (_what, [lines, expected]) => {
    await expectRefused(lines(), expected)
  })

  test('a token in the query or the body is none', async () => {
    const { token } = tenant.api
    for (const path of [
      `/v2/organizations?access_token=${token}`,
      `/v2/organizations?authorization=Bearer%20${token}`,
    ]) {
      const answer = await rawRequest(service.url, { method: 'GET', path, headers: [] })
      expect([answer.status, answer.headers['www-authenticate']]).toEqual([401, NO_TOKEN])
      expect(answer.body).not.toContain(token)
    }
    const form = await rawRequest(service.url, {
      path: '/v2/organizations',
      headers: [['Content-Type', 'application/x-www-form-urlencoded']],
      body: `access_token=${token}`,
    })
    expect(form.status).toBe(401)
    expect(service.logs.join('')).not.toContain(token)
  })
})

describe('A40 tokens that were minted, but not for this', () => {
  let later: TestService
  let elsewhere: TestService
  beforeAll(async () => {
    later = await startService(database, { now: () => Date.now() + 3_700_000 })
    elsewhere = await startService(database, { config: { issuer: 'https://other.test' } })
  })
  afterAll(() => Promise.all([later?.stop(), elsewhere?.stop()]))

  test('expired', async () => {
    await expectRefused(bearer(tenant.api.token), badToken, { url: later.url })
  })

  test('of a client of the sandbox, with management scopes', async () => {
    const client = await seedClient(sql, {
      organizationId: tenant.client.organizationId,
      environment: 'sandbox',
      scopes: [...MANAGEMENT_SCOPES],
    })
    const answer = await mint(service.url, client)
    const since = await state()
    if (answer.status === 200) await expectRefused(bearer((await tokenOf(answer)).token), badToken, { since })
    await expectRefused(
      bearer(await sandboxForger.sign(client, { iss: SANDBOX_ISSUER, environment: 'sandbox' })),
      badToken,
      { since },
    )
    await expectRefused(bearer(await sandboxForger.sign(client)), badToken, { since })
  })

  test('for the business’s audience', async () => {
    const { organizationId } = tenant.client
    const client = await seedClient(sql, { organizationId, environment: 'production' })
    await expectRefused(bearer(await tokenFor(service.url, client, client.scopes)), badToken, {
      since: await state(),
    })
  })

  test('of another issuer, from the same database', async () => {
    await expectRefused(bearer(await tokenFor(elsewhere.url, tenant.client)), badToken)
    await expectRefused(bearer(tenant.api.token), badToken, { url: elsewhere.url })
  })

  test('with too little a scope: the challenge names the one that is needed', async () => {
    const weak = await tokenFor(service.url, tenant.client, ['signet:keys:read', 'signet:audit:read'])
    await expectRefused(bearer(weak), { status: 403, code: 'insufficient_scope', challenge: lacks })
  })
})

describe('A40 tokens that nobody minted, with a good signature', () => {
  test('would be taken, were their claims right', async () => {
    const [route] = routesOf(tenant)
    expect((await call(service.url, route, bearer(await forger.sign(tenant.client)))).status).toBe(200)
  })

  const now = Math.floor(Date.now() / 1000)
  const cases: [string, Record<string, unknown>, Record<string, unknown>?][] = [
    ['a partner’s', { partner_id: newId('organization') }],
    ['a partner’s, of itself', { partner_id: '' }],
    ['expired', { exp: now - 61 }],
    ['not yet valid', { nbf: now + 3600 }],
    ['without exp', { exp: undefined }],
    ['of another issuer', { iss: 'https://signet.test/' }],
    ['of the sandbox’s issuer', { iss: SANDBOX_ISSUER }],
    ['for another audience', { aud: 'https://api.test' }],
    ['for an audience that begins alike', { aud: `${ISSUER}/` }],
    ['without audience', { aud: undefined }],
    ['of an ID token’s type', {}, { typ: 'JWT' }],
    ['without type', {}, { typ: undefined }],
    ['with an unknown kid', {}, { kid: 'x'.repeat(43) }],
    ['with a critical extension', {}, { crit: ['b64'], b64: true }],
    ['without jti', { jti: undefined }],
    ['without key', { key_id: undefined }],
    ['without organization', { organization_id: undefined }],
    ['with another’s key', { key_id: newId('key') }],
    ['with another’s client', { client_id: newId('client') }],
    ['with an organization that is not its client’s', { organization_id: newId('organization') }],
    ['with SQL for an organization', { organization_id: "' or true --" }],
    ['with a list of organizations', { organization_id: ['a', 'b'] }],
    ['with scopes in a list', { scope: ['signet:organizations:read', 'signet:organizations:write'] }],
  ]
  test.each(cases)('%s', async (_what, claims, header) => {
    await expectRefused(bearer(await forger.sign(tenant.client, claims, header)), badToken)
  })

  test('with another tenant’s organization, client or key', async () => {
    const victim = await createTenant(service, sql)
    const since = await state()
    const { organizationId, clientId, keyId } = victim.client
    const own = tenant.client
    for (const claims of [
      { ...own, organizationId },
      { ...own, clientId },
      { ...own, keyId },
    ])
      await expectRefused(bearer(await forger.sign(claims)), badToken, { tenant: victim, since })
  })

  test('with scopes that only look alike', async () => {
    for (const scope of [
      '',
      'signet:organizations',
      'SIGNET:ORGANIZATIONS:WRITE signet:organizations:reader',
      'signet:*',
    ])
      for (const route of routesOf(tenant)) {
        const token = await forger.sign(tenant.client, { scope })
        expect([401, 403]).toContain((await call(service.url, route, bearer(token))).status)
      }
  })

  test('with alg none, and with HS256 by the public key', async () => {
    const [, payload] = (await forger.sign(tenant.client)).split('.')
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    for (const alg of ['none', 'None', 'NONE', 'HS256']) {
      const signed = `${encode({ alg, typ: 'at+jwt', kid: forger.kid })}.${payload}`
      const pem = [forger.publicPem, forger.publicPem.trim(), `\n${forger.publicPem}`]
      const signatures = [
        '',
        ...pem.map((secret) => createHmac('sha256', secret).update(signed).digest('base64url')),
      ]
      for (const signature of signatures) await expectRefused(bearer(`${signed}.${signature}`), badToken)
    }
  })
})

describe('A42 tokens of those who have lost their standing, at the next request', () => {
  const losses: Record<string, (client: Tenant['client']) => PromiseLike<unknown>> = {
    'the key is compromised': ({ keyId }) =>
      sql`update keys set revoked_at = now(), revocation_reason = 'key_compromise', tokens_revoked_at = now()
        where id = ${keyId}`,
    'the client is suspended': ({ clientId }) =>
      sql`update clients set status = 'suspended' where id = ${clientId}`,
    'the client is revoked': ({ clientId }) =>
      sql`update clients set status = 'revoked' where id = ${clientId}`,
    'the client needs approval again': ({ clientId }) =>
      sql`update clients set status = 'pending_approval' where id = ${clientId}`,
    'the organization is suspended': ({ organizationId }) =>
      sql`update organizations set status = 'suspended' where id = ${organizationId}`,
  }
  test.each(Object.entries(losses))('%s', async (_what, lose) => {
    const loser = await createTenant(service, sql)
    await lose(loser.client)
    await expectRefused(bearer(loser.api.token), badToken, { tenant: loser, since: await state() })
  })

  test('the token itself is revoked; the client’s others go on', async () => {
    const { client, api } = await createTenant(service, sql)
    const { jti, exp } = JSON.parse(Buffer.from(api.token.split('.')[1] ?? '', 'base64url').toString())
    await sql`insert into revoked_tokens (jti, organization_id, client_id, expires_at)
      values (${jti}, ${client.organizationId}, ${client.clientId}, to_timestamp(${exp}))`
    await expectRefused(bearer(api.token), badToken, { tenant: { client, api }, since: await state() })
    const [route] = routesOf({ client, api })
    expect((await call(service.url, route, bearer(await tokenFor(service.url, client)))).status).toBe(200)
  })

  test('a key is revoked without its tokens: they go on, and those of the compromised one beside it do not', async () => {
    const { client, api } = await createTenant(service, sql)
    const second = { ...client, ...(await seedKey(sql, client.clientId, 'production')) }
    const token = await tokenFor(service.url, second)
    await sql`update keys set revoked_at = now() where id = ${client.keyId}`
    await sql`update keys set revoked_at = now(), tokens_revoked_at = now() where id = ${second.keyId}`
    const [route] = routesOf({ client, api })
    expect((await call(service.url, route, bearer(api.token))).status).toBe(200)
    await expectRefused(bearer(token), badToken, { tenant: { client, api }, since: await state() })
  })

  test('the client has lost the scope: 403', async () => {
    const loser = await createTenant(service, sql)
    await sql`update clients set scopes = '{signet:keys:read}' where id = ${loser.client.clientId}`
    await expectRefused(
      bearer(loser.api.token),
      { status: 403, code: 'insufficient_scope', challenge: lacks },
      { tenant: loser, since: await state() },
    )
  })

  test('a partner’s token does not open the administration of who delegated to it', async () => {
    const partner = await seedClient(sql, {
      kind: 'partner',
      environment: 'production',
      scopes: [...MANAGEMENT_SCOPES],
    })
    await seedDelegation(sql, {
      organizationId: tenant.client.organizationId,
      partnerId: partner.organizationId,
      environment: 'production',
      scopes: [...MANAGEMENT_SCOPES],
    })
    const since = await state()
    const asked = { ...partner, organizationId: tenant.client.organizationId }
    const { token } = await tokenOf(await mint(service.url, asked))
    await expectRefused(bearer(token), badToken, { since })
  })
})
