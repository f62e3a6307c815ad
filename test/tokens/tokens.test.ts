/** Issued tokens over the management API. */
import { expect, test } from 'vitest'
import { newId, newJti } from '../../src/ids.ts'
import { MANAGEMENT_SCOPES } from '../../src/management/scopes.ts'
import { apiOfOperator, apiWith, createTenant, tokenFor } from '../support/management.ts'
import { mint, tokenOf } from '../support/mint.ts'
import { type SeededClient, seedClient, seedDelegation, seedKey } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const operator = await apiOfOperator(service)
const tenant = await createTenant(service, database.sql)
const partner = await createTenant(service, database.sql)
const stranger = await createTenant(service, database.sql)
const partnerClient = await seedClient(database.sql, {
  organizationId: partner.client.organizationId,
  kind: 'partner',
})
await seedDelegation(database.sql, {
  organizationId: tenant.client.organizationId,
  partnerId: partner.client.organizationId,
})

type Token = {
  jti: string
  issued_at: string
  expires_at: string
  key_id: string
  client_id: string
  organization_id: string
  status: string
  revoked_at: string | null
  revocation_reason: string | null
}
type Page = { data: Token[]; next_cursor: string | null }
type Claims = { jti: string; iat: number; exp: number; aud: string }

const claimsOf = (token: string): Claims =>
  JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
const mintOne = async (client: SeededClient, organizationId = client.organizationId): Promise<Claims> =>
  claimsOf((await tokenOf(await mint(service.url, { ...client, organizationId }))).token)
const list = async (api: typeof operator, query: string) =>
  (await api.get<Page>(`/v2/tokens?${query}`)).body.data
const jtisOf = (tokens: readonly Token[]) => tokens.map(({ jti }) => jti).sort()
const newClient = () => seedClient(database.sql, { organizationId: tenant.client.organizationId })

test('a token shows what was minted, for whom, by which key, from where; never the token itself', async () => {
  const client = await newClient()
  const answer = await mint(service.url, client)
  const { token } = await tokenOf(answer)
  const { jti, iat, exp, aud } = claimsOf(token)
  const found = await tenant.api.get(`/v2/tokens/${jti}`)
  expect(found.status).toBe(200)
  expect(found.body).toEqual({
    jti,
    issued_at: new Date(iat * 1000).toISOString(),
    expires_at: new Date(exp * 1000).toISOString(),
    key_id: client.keyId,
    client_id: client.clientId,
    organization_id: client.organizationId,
    environment: 'sandbox',
    scopes: client.scopes,
    audience: aud,
    kid: JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()).kid,
    client_ip: '127.0.0.1',
    request_id: answer.headers.get('x-request-id'),
    status: 'active',
    revoked_at: null,
    revocation_reason: null,
  })
  expect(found.text).not.toContain(token.split('.')[2])
  expect(await list(tenant.api, `client_id=${client.clientId}`)).toEqual([found.body])
})

test('an organization sees what was minted for it, a partner’s tokens included; a partner what its client minted', async () => {
  const own = await newClient()
  const { jti: minted } = await mintOne(own)
  const { jti: byPartner } = await mintOne(partnerClient, tenant.client.organizationId)
  const { jti: ofStranger } = await mintOne(
    await seedClient(database.sql, { organizationId: stranger.client.organizationId }),
  )

  const seen = await list(tenant.api, 'limit=100')
  expect(jtisOf(seen)).toEqual(expect.arrayContaining([minted, byPartner]))
  expect(new Set(seen.map((token) => token.organization_id))).toEqual(new Set([tenant.client.organizationId]))
  expect(jtisOf(await list(tenant.api, `client_id=${partnerClient.clientId}`))).toEqual([byPartner])
  expect(jtisOf(await list(tenant.api, `key_id=${partnerClient.keyId}`))).toEqual([byPartner])

  // Without saying whose, the partner sees what was minted for itself; by its client, what that minted.
  expect(jtisOf(await list(partner.api, 'limit=100'))).not.toContain(byPartner)
  for (const filter of [
    `client_id=${partnerClient.clientId}`,
    `key_id=${partnerClient.keyId}`,
    `client_id=${partnerClient.clientId}&organization_id=${tenant.client.organizationId}`,
  ])
    expect(jtisOf(await list(partner.api, filter))).toEqual([byPartner])
  expect((await partner.api.get(`/v2/tokens/${byPartner}`)).status).toBe(200)

  const all = jtisOf(await list(operator, 'limit=100'))
  expect(all).toEqual(expect.arrayContaining([minted, byPartner, ofStranger]))
  expect(
    jtisOf(await list(operator, `organization_id=${stranger.client.organizationId}&limit=100`)),
  ).toContain(ofStranger)
})

test('A17 another’s tokens, clients, keys and organizations answer like those that nobody has', async () => {
  const client = await newClient()
  const { jti } = await mintOne(client)
  const bytes = async (path: string) => {
    const { status, text, headers } = await stranger.api.get(path)
    return { status, text: text.replaceAll(headers.get('x-request-id') ?? '', 'id') }
  }
  for (const [foreign, missing] of [
    [`/v2/tokens/${jti}`, `/v2/tokens/${newJti()}`],
    [`/v2/tokens?client_id=${client.clientId}`, `/v2/tokens?client_id=${newId('client')}`],
    [`/v2/tokens?key_id=${client.keyId}`, `/v2/tokens?key_id=${newId('key')}`],
    [
      `/v2/tokens?organization_id=${client.organizationId}`,
      `/v2/tokens?organization_id=${newId('organization')}`,
    ],
    [
      `/v2/tokens?organization_id=${client.organizationId}&client_id=${client.clientId}`,
      `/v2/tokens?organization_id=${newId('organization')}&client_id=${newId('client')}`,
    ],
  ] as const)
    expect(await bytes(foreign)).toEqual(await bytes(missing))
  const refused = await stranger.api.post(`/v2/tokens/${jti}/revoke`)
  expect(refused.status).toBe(404)
  expect((await tenant.api.get(`/v2/tokens/${jti}`)).body).toMatchObject({ status: 'active' })
  expect(await list(operator, `key_id=${newId('key')}`)).toEqual([])
})

test('filters by key and time narrow, and pages go on by time and id, without gap or repetition', async () => {
  const client = await newClient()
  const second = { ...client, ...(await seedKey(database.sql, client.clientId, 'sandbox')) }
  const day = 86_400_000
  const { sql } = database
  for (let i = 0; i < 25; i++) await mintOne(i % 5 === 0 ? second : client)
  // Some days ago, several in one second.
  await sql`
    insert into issued_tokens (jti, issued_at, expires_at, key_id, client_id, organization_id, environment, scopes,
      audience, kid, request_id)
    select 'tok_0' || translate(substr(md5(n::text), 1, 25), 'abcdef', 'ghjkmn'),
      date_trunc('day', now()) - interval '1 hour' * (n / 4), now(), ${client.keyId}, ${client.clientId},
      ${client.organizationId}, 'sandbox', '{}', 'api', 'kid', 'r'
    from generate_series(1, 16) as n`

  const all = await list(tenant.api, `client_id=${client.clientId}&limit=100`)
  expect(all).toHaveLength(41)
  expect(all).toEqual(
    [...all].sort((a, b) => (`${a.issued_at} ${a.jti}` < `${b.issued_at} ${b.jti}` ? 1 : -1)),
  )
  const ofSecond = await list(tenant.api, `key_id=${second.keyId}`)
  expect(ofSecond).toEqual(all.filter((token) => token.key_id === second.keyId))
  expect(ofSecond).toHaveLength(5)
  expect(await list(tenant.api, `key_id=${second.keyId}&client_id=${tenant.client.clientId}`)).toEqual([])

  const midnight = new Date(Math.floor(Date.now() / day) * day).toISOString()
  const query = `client_id=${client.clientId}&limit=100`
  expect(await list(tenant.api, `${query}&issued_before=${midnight}`)).toEqual(
    all.filter((token) => token.issued_at < midnight),
  )
  expect(await list(tenant.api, `${query}&issued_after=${midnight}`)).toEqual(
    all.filter((token) => token.issued_at >= midnight),
  )

  const seen: Token[] = []
  let cursor: string | null = null
  do {
    const page: Page = (
      await tenant.api.get<Page>(
        `/v2/tokens?client_id=${client.clientId}&limit=3${cursor ? `&cursor=${cursor}` : ''}`,
      )
    ).body
    seen.push(...page.data)
    cursor = page.next_cursor
  } while (cursor)
  expect(seen).toEqual(all)
})

test('A42 a revoked management token opens nothing from the next request on', async () => {
  const { token } = await tokenOf(await mint(service.url, tenant.client))
  const api = apiWith(service.url, token)
  expect((await api.get('/v2/organizations')).status).toBe(200)
  const { jti } = claimsOf(token)
  const revoked = await api.post(`/v2/tokens/${jti}/revoke`, { reason: 'compromised' })
  expect(revoked.status).toBe(200)
  expect(revoked.body).toMatchObject({ jti, status: 'revoked', revocation_reason: 'compromised' })
  expect(revoked.body.revoked_at).toMatch(/^\d{4}-/)
  expect((await api.get('/v2/organizations')).status).toBe(401)
  expect((await tenant.api.get('/v2/organizations')).status).toBe(200)
})

test('revoking again changes nothing, and leaves no other event', async () => {
  const { jti } = await mintOne(await newClient())
  const first = await tenant.api.post(`/v2/tokens/${jti}/revoke`)
  expect(first.body).toMatchObject({ status: 'revoked', revocation_reason: 'unspecified' })
  const second = await tenant.api.post(`/v2/tokens/${jti}/revoke`, { reason: 'compromised' })
  expect(second.status).toBe(200)
  expect(second.body).toEqual(first.body)
  expect(await database.sql`select reason from revoked_tokens where jti = ${jti}`).toEqual([
    { reason: 'unspecified' },
  ])
  const events = await database.sql<{ action: string; details: object }[]>`
    select action, details from audit_events where target_id = ${jti} order by sequence`
  expect(events).toMatchObject([
    {
      action: 'token.revoke',
      details: {
        before: { status: 'active' },
        after: { status: 'revoked', revocation_reason: 'unspecified' },
      },
    },
  ])
})

test('an expired token is not revoked, and says that it is over', async () => {
  const { jti } = await mintOne(await newClient())
  await database.sql`update issued_tokens set expires_at = now() where jti = ${jti}`
  const answer = await tenant.api.post(`/v2/tokens/${jti}/revoke`)
  expect(answer.status).toBe(200)
  expect(answer.body).toMatchObject({ status: 'expired', revoked_at: null })
  expect(await database.sql`select 1 from revoked_tokens where jti = ${jti}`).toHaveLength(0)
})

test('either may revoke what a partner minted: the partner, and whom it was for', async () => {
  const { jti: one } = await mintOne(partnerClient, tenant.client.organizationId)
  const { jti: two } = await mintOne(partnerClient, tenant.client.organizationId)
  expect((await partner.api.post(`/v2/tokens/${one}/revoke`)).status).toBe(200)
  expect((await tenant.api.post(`/v2/tokens/${two}/revoke`)).status).toBe(200)
  for (const api of [partner.api, tenant.api, operator])
    for (const jti of [one, two])
      expect((await api.get(`/v2/tokens/${jti}`)).body).toMatchObject({ status: 'revoked' })
})

test('a token is revoked with its key’s tokens, also in the eyes of whom a partner minted it for', async () => {
  const client = await seedClient(database.sql, {
    organizationId: partner.client.organizationId,
    kind: 'partner',
  })
  const { jti } = await mintOne(client, tenant.client.organizationId)
  const { jti: singly } = await mintOne(client, tenant.client.organizationId)
  await tenant.api.post(`/v2/tokens/${singly}/revoke`, { reason: 'superseded' })
  await database.sql`update keys set revoked_at = now(), revocation_reason = 'unspecified' where id = ${client.keyId}`
  expect((await tenant.api.get(`/v2/tokens/${jti}`)).body).toMatchObject({ status: 'active' })
  await database.sql`
    update keys set tokens_revoked_at = now(), revocation_reason = 'compromised' where id = ${client.keyId}`
  for (const api of [tenant.api, partner.api, operator]) {
    expect((await api.get(`/v2/tokens/${jti}`)).body).toMatchObject({
      status: 'revoked',
      revocation_reason: 'compromised',
    })
    // The earlier of the two is what revoked it.
    expect((await api.get(`/v2/tokens/${singly}`)).body).toMatchObject({ revocation_reason: 'superseded' })
  }
  await database.sql`
    update keys set tokens_revoked_at = now() - interval '1 hour' where id = ${client.keyId}`
  expect((await tenant.api.get(`/v2/tokens/${singly}`)).body).toMatchObject({
    revocation_reason: 'compromised',
  })
  // The look at the partner's key has not opened anything else.
  expect((await tenant.api.get(`/v2/tokens?client_id=${partnerClient.clientId}`)).status).toBe(200)
  expect((await stranger.api.get(`/v2/tokens/${jti}`)).status).toBe(404)
})

test('reading tokens does not allow revoking them', async () => {
  const { jti } = await mintOne(await newClient())
  const scopes = MANAGEMENT_SCOPES.filter((scope) => scope !== 'signet:tokens:revoke')
  const api = apiWith(service.url, await tokenFor(service.url, tenant.client, scopes))
  expect((await api.get(`/v2/tokens/${jti}`)).status).toBe(200)
  expect((await api.post(`/v2/tokens/${jti}/revoke`)).status).toBe(403)
  const wrong = await tenant.api.post(`/v2/tokens/${jti}/revoke`, { reason: 'because' })
  expect(wrong.status).toBe(400)
  expect(wrong.body).toMatchObject({ errors: [{ pointer: '/reason' }] })
})
