/** What nobody may get by way of clients and keys: more than they hold, a way around an approval, or everybody else out. */
import { expect, test } from 'vitest'
import { MANAGEMENT_SCOPES } from '../../src/management/scopes.ts'
import { apiOfOperator, apiWith, createTenant, tokenFor } from '../support/management.ts'
import { waitFor } from '../support/process.ts'
import { setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const alone = await setUpService()
const strict = await setUpService({ config: { fourEyes: true } })
const { sql } = database
const operator = await apiOfOperator(service)

type Client = { id: string; status: string; version: string; scopes: string[] }
const production = {
  name: 'Live',
  environment: 'production',
  scopes: ['transactions:read'],
  allowed_cidrs: ['127.0.0.0/8'],
}

/** Runs `call` while the row of the client is being changed by somebody else, whose change then commits. */
async function whileChanging<T>(clientId: string, change: object, call: () => Promise<T>): Promise<T> {
  const other = await sql.reserve()
  await other`begin`
  await other`update clients set ${other(change as Record<string, string>)} where id = ${clientId}`
  const answer = call()
  await waitFor('the other’s lock to be waited for', async () => {
    const [row] = await sql`select count(*)::integer as n from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'`
    return row?.n > 0
  })
  await other`commit`
  other.release()
  return answer
}

test('A42 a client that is being suspended does not reactivate itself', async () => {
  const { client, api } = await createTenant(service, sql)
  const path = `/v2/clients/${client.clientId}`
  const answer = await whileChanging(client.clientId, { status: 'suspended' }, () =>
    api.post(`${path}/reactivate`),
  )
  expect(answer.status).toBe(401)
  expect((await operator.get<Client>(path)).body.status).toBe('suspended')
})

test('a client that is being widened does not approve itself', async () => {
  const [platform] = await sql`select id from organizations where platform`
  const { client, api } = await createTenant(service, sql, {
    organizationId: platform?.id,
    scopes: ['signet:clients:write', 'signet:clients:approve'],
  })
  const path = `/v2/clients/${client.clientId}`
  const answer = await whileChanging(client.clientId, { status: 'pending_approval' }, () =>
    api.post(`${path}/approve`),
  )
  expect(answer.status).toBe(401)
  expect((await operator.get<Client>(path)).body.status).toBe('pending_approval')
})

test('a key is made only by who holds the management scopes of its client', async () => {
  const full = await createTenant(service, sql)
  const { organizationId } = full.client
  const keysOnly = await createTenant(service, sql, { organizationId, scopes: ['signet:keys:write'] })
  const refused = await keysOnly.api.post(`/v2/clients/${full.client.clientId}/keys`)
  expect(refused.status).toBe(403)
  expect(refused.body).toMatchObject({ error: { code: 'insufficient_scope' } })
  expect((await keysOnly.api.post(`/v2/clients/${keysOnly.client.clientId}/keys`)).status).toBe(201)
  const business = await createTenant(service, sql, { organizationId })
  await sql`update clients set scopes = '{transactions:read}' where id = ${business.client.clientId}`
  expect((await keysOnly.api.post(`/v2/clients/${business.client.clientId}/keys`)).status).toBe(201)
})

test('with FOUR_EYES, a key made by who asked is not another pair of eyes', async () => {
  const asker = await apiOfOperator(strict.service)
  const { approver } = strict.service
  if (!approver) throw new Error('no approver')
  const organization = (await asker.post<{ id: string }>('/v2/organizations', { name: 'Acme' })).body
  const { id } = (await asker.post<Client>(`/v2/organizations/${organization.id}/clients`, production)).body
  const made = (await asker.post<{ key: string }>(`/v2/clients/${approver.client_id}/keys`)).body
  const approve = async (key: string) => {
    const holder = { organizationId: approver.organization_id, key }
    const token = await tokenFor(strict.service.url, holder, ['signet:clients:approve'])
    return (await apiWith(strict.service.url, token).post<Client>(`/v2/clients/${id}/approve`)).status
  }
  expect(await approve(made.key)).toBe(403)
  const renewed = await fetch(`${strict.service.url}/v2/auth/renew`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${made.key}` },
  })
  expect(await approve(((await renewed.json()) as { key: string }).key)).toBe(403)
  expect(await approve(approver.key)).toBe(200)
})

test('an approval is of what was looked at, and its event says what that was', async () => {
  const { client, api } = await createTenant(service, sql)
  const path = `/v2/organizations/${client.organizationId}/clients`
  const seen = (await api.post<Client>(path, production)).body
  const widened = { scopes: ['transactions:read', 'admin:everything'], allowed_cidrs: ['0.0.0.0/0'] }
  const changed = (await api.patch<Client>(`/v2/clients/${seen.id}`, widened)).body
  expect(changed.version).not.toBe(seen.version)
  const refused = await operator.post(`/v2/clients/${seen.id}/approve`, { version: seen.version })
  expect(refused.status).toBe(409)
  expect((await operator.post(`/v2/clients/${seen.id}/approve`, { version: changed.version })).status).toBe(
    200,
  )
  const [event] = await sql`select details from audit_events
    where action = 'client.approve' and target_id = ${seen.id}`
  expect(event?.details.after).toMatchObject({ ...widened, status: 'active' })
})

test('A42 nobody takes the platform’s last key or networks away', async () => {
  const { operator: last } = alone.service
  const other = await createTenant(alone.service, alone.database.sql, {
    organizationId: last?.organization_id,
    scopes: ['signet:keys:write', 'signet:clients:write'],
  })
  const client = `/v2/clients/${last?.client_id}`
  expect((await other.api.post(`/v2/keys/${last?.key_id}/revoke`)).status).toBe(409)
  expect((await other.api.patch(client, { allowed_cidrs: ['203.0.113.0/24'] })).status).toBe(409)

  // With a second administrator, both are that one's to undo.
  const second = await createTenant(alone.service, alone.database.sql, {
    organizationId: last?.organization_id,
  })
  expect((await other.api.patch(client, { allowed_cidrs: ['203.0.113.0/24'] })).status).toBe(200)
  expect((await other.api.post(`/v2/keys/${last?.key_id}/revoke`)).status).toBe(200)
  expect((await second.api.get(client)).status).toBe(200)
})

test('a revoked client’s keys are revoked, and shown so', async () => {
  const { client, api } = await createTenant(service, sql)
  const path = `/v2/organizations/${client.organizationId}/clients`
  const { id } = (await api.post<Client>(path, { name: 'S', environment: 'sandbox', scopes: ['a'] })).body
  const key = (await api.post<{ id: string }>(`/v2/clients/${id}/keys`)).body
  await api.post(`/v2/clients/${id}/revoke`)
  expect((await api.get(`/v2/keys/${key.id}`)).body).toMatchObject({
    status: 'revoked',
    revocation_reason: 'cessation_of_operation',
  })
})

test('what changes nothing leaves no event', async () => {
  const { client, api } = await createTenant(service, sql)
  const path = `/v2/clients/${client.clientId}`
  for (const call of [
    () => api.patch(path, {}),
    () => api.patch(path, { scopes: [...MANAGEMENT_SCOPES] }),
    () => api.post(`${path}/reactivate`),
    () => api.patch(`/v2/organizations/${client.organizationId}`, {}),
  ])
    expect((await call()).status).toBe(200)
  const events = await sql`select action from audit_events where organization_id = ${client.organizationId}`
  expect(events).toEqual([])
})
