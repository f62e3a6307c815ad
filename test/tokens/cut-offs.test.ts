/** What stopped a client, an organization or a delegation, and the management API: its own tokens, and those it lists. */
import { describe, expect, test } from 'vitest'
import { createTokenStore } from '../../src/tokens/store.ts'
import { apiOfOperator, apiWith, createTenant, tokenFor } from '../support/management.ts'
import { type SeededClient, seedClient, seedDelegation, seedKey } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'
import { claimsOf, exchangeFor, isActive, tokenFrom } from './calls.ts'

const { database, service } = await setUpService()
const { sql } = database
const { url } = service
const operator = await apiOfOperator(service)
const setStatus = (table: 'clients' | 'organizations' | 'delegations', id: string, status: string) =>
  sql`update ${sql(table)} set status = ${status} where id = ${id}`

type Token = { jti: string; status: string; revoked_at: string | null; revocation_reason: string | null }
const read = async (api: typeof operator, jti: string) => (await api.get<Token>(`/v2/tokens/${jti}`)).body

describe('A42 an access token for this API that a cut-off covers opens nothing, also when it is lifted', () => {
  const stops: Record<string, (client: SeededClient) => ['clients' | 'organizations', string]> = {
    'of its client': ({ clientId }) => ['clients', clientId],
    'of its organization': ({ organizationId }) => ['organizations', organizationId],
  }
  test.each(Object.entries(stops))('%s', async (_what, stopped) => {
    const { client, api } = await createTenant(service, sql)
    const [table, id] = stopped(client)
    expect((await api.get('/v2/organizations')).status).toBe(200)
    await setStatus(table, id, 'suspended')
    await setStatus(table, id, 'active')
    for (const answer of [
      await api.get('/v2/organizations'),
      await api.post(`/v2/clients/${client.clientId}/keys`),
    ]) {
      expect(answer.status).toBe(401)
      expect(answer.body).toMatchObject({ error: { code: 'invalid_token' } })
    }
    // What it mints from then on is good, in whichever second.
    const fresh = apiWith(url, await tokenFor(url, client))
    expect((await fresh.get('/v2/organizations')).status).toBe(200)
    expect((await fresh.post(`/v2/clients/${client.clientId}/keys`)).status).toBe(201)
  })

  test('but who suspends or revokes its own client is answered, and that once', async () => {
    for (const step of ['suspend', 'revoke']) {
      const { client, api } = await createTenant(service, sql)
      const answer = await api.post<{ status: string }>(`/v2/clients/${client.clientId}/${step}`)
      expect(answer.status).toBe(200)
      expect(answer.body.status).toMatch(/suspended|revoked/)
      expect((await api.post(`/v2/clients/${client.clientId}/${step}`)).status).toBe(401)
    }
  })

  test('of another client of the organization: no matter', async () => {
    const { client, api } = await createTenant(service, sql)
    const colleague = await seedClient(sql, { organizationId: client.organizationId })
    await setStatus('clients', colleague.clientId, 'suspended')
    expect((await api.get('/v2/organizations')).status).toBe(200)
  })
})

describe('listed tokens say that they are revoked, and since when', () => {
  const environment = 'sandbox'

  test('with their client, each organization and the delegation; those that came later are active', async () => {
    const tenant = await createTenant(service, sql)
    const { organizationId } = tenant.client
    const partner = await seedClient(sql, { kind: 'partner' })
    const delegation = await seedDelegation(sql, { organizationId, partnerId: partner.organizationId })
    const other = await seedClient(sql)
    await seedDelegation(sql, { organizationId: other.organizationId, partnerId: partner.organizationId })
    const own = await seedClient(sql, { organizationId, environment })
    const spared = claimsOf(await tokenFrom(url, partner, other.organizationId)).jti

    const stops: [SeededClient, 'clients' | 'organizations' | 'delegations', string, string, string][] = [
      [own, 'clients', own.clientId, 'suspended', 'active'],
      [partner, 'delegations', delegation, 'paused', 'active'],
      [partner, 'clients', partner.clientId, 'suspended', 'active'],
    ]
    for (const [client, table, id, stopped, going] of stops) {
      const { jti } = claimsOf(await tokenFrom(url, client, organizationId))
      expect(await read(tenant.api, jti)).toMatchObject({ status: 'active', revoked_at: null })
      await setStatus(table, id, stopped)
      await setStatus(table, id, going)
      const [row] = await sql`select tokens_revoked_at as at from ${sql(table)} where id = ${id}`
      const revoked = { status: 'revoked', revoked_at: row?.at.toISOString(), revocation_reason: null }
      for (const api of [tenant.api, operator]) expect(await read(api, jti)).toMatchObject(revoked)
      const later = claimsOf(await tokenFrom(url, client, organizationId)).jti
      expect(await read(tenant.api, later)).toMatchObject({ status: 'active', revoked_at: null })
      const { data } = (await tenant.api.get<{ data: Token[] }>(`/v2/tokens?client_id=${client.clientId}`))
        .body
      const statuses = new Map(data.map((token) => [token.jti, token.status]))
      expect([statuses.get(jti), statuses.get(later)]).toEqual(['revoked', 'active'])
    }
    // Its client was suspended since; that alone, of all those, covers it.
    expect(await read(operator, spared)).toMatchObject({ status: 'revoked' })
  })

  test.each(['whom it is for', 'whose client minted it'])('with the organization, %s', async (role) => {
    const partner = await seedClient(sql, { kind: 'partner' })
    const target = await seedClient(sql)
    await seedDelegation(sql, { organizationId: target.organizationId, partnerId: partner.organizationId })
    const { jti } = claimsOf(await tokenFrom(url, partner, target.organizationId))
    const unrelated = claimsOf(await tokenFrom(url, await seedClient(sql))).jti
    const stopped = role === 'whom it is for' ? target.organizationId : partner.organizationId
    await setStatus('organizations', stopped, 'suspended')
    await setStatus('organizations', stopped, 'active')
    expect(await read(operator, jti)).toMatchObject({ status: 'revoked' })
    expect(await read(operator, unrelated)).toMatchObject({ status: 'active' })
  })

  test('what came first is told; what came after the end of a token did nothing to it', async () => {
    const client = await seedClient(sql)
    const { jti } = claimsOf(await tokenFrom(url, client))
    expect((await operator.post(`/v2/tokens/${jti}/revoke`, { reason: 'superseded' })).status).toBe(200)
    const first = await read(operator, jti)
    await setStatus('clients', client.clientId, 'suspended')
    expect(await read(operator, jti)).toEqual(first)

    const another = await seedClient(sql)
    const expired = claimsOf(await tokenFrom(url, another)).jti
    await sql`update issued_tokens set expires_at = now() where jti = ${expired}`
    await setStatus('clients', another.clientId, 'suspended')
    expect(await read(operator, expired)).toMatchObject({ status: 'expired', revoked_at: null })
  })

  test('revoking one of them puts it on record, for the tokens that were had for it with another key', async () => {
    const client = await seedClient(sql)
    const other = { ...client, ...(await seedKey(sql, client.clientId, 'sandbox')) }
    const token = await tokenFrom(url, client)
    const { jti } = claimsOf(token)
    const child = (await exchangeFor(url, other, token)) ?? ''
    await operator.post(`/v2/keys/${client.keyId}/revoke`, { reason: 'compromised' })
    expect(await isActive(url, other, child)).toBe(true)
    const before = await read(operator, jti)
    const revoke = () => operator.post(`/v2/tokens/${jti}/revoke`)
    expect(await revoke()).toMatchObject({ status: 200, body: before })
    expect(await isActive(url, other, child)).toBe(false)
    expect((await revoke()).status).toBe(200)
    const events = await sql`select details from audit_events where target_id = ${jti}`
    expect(events).toMatchObject([{ details: { after: { reason: 'unspecified' } } }])
  })

  test('a page of a hundred costs one statement', async () => {
    const { jti } = claimsOf(await tokenFrom(url, await seedClient(sql)))
    const now = new Date()
    const row = { issuedAt: now, expiresAt: now, keyId: 'k', kid: 'k', clientId: 'c', organizationId: 'o' }
    let statements = 0
    const counting = {
      async execute() {
        statements++
        return [{ jti, revokedAt: now.toISOString(), reason: null }]
      },
    }
    const rows = Array.from({ length: 100 }, () => ({ ...row, jti, environment: 'sandbox' }))
    const found = await createTokenStore(counting as never).findRevocations(rows as never, {
      isPlatform: true,
    })
    expect(found).toEqual(new Map([[jti, { revokedAt: now, reason: null }]]))
    expect(statements).toBe(1)
  })
})
