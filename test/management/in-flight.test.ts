/** A change that is under way when its actor loses the right to it. */
import { expect, test } from 'vitest'
import { createTenant } from '../support/management.ts'
import { waitFor } from '../support/process.ts'
import { setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const { sql } = database

/** The lock under which audit events are written, and changes commit. */
const LOCK = sql`x'73676e74'::integer, 2048`
const isWaiting = async () => {
  const [row] =
    await sql`select count(*)::integer as n from pg_locks where locktype = 'advisory' and not granted`
  return row?.n === 1
}

test('A42 a change that waits while its client is suspended does not take place', async () => {
  const { client, api } = await createTenant(service, sql)
  const path = `/v2/organizations/${client.organizationId}/clients`
  const holder = await sql.reserve()
  await holder`select pg_advisory_lock(${LOCK})`
  const change = api.post(path, { name: 'Late', environment: 'sandbox', scopes: ['a:read'] })
  await waitFor('the change', isWaiting)
  await sql`update clients set status = 'suspended' where id = ${client.clientId}`
  await holder`select pg_advisory_unlock(${LOCK})`
  holder.release()

  const refused = await change
  expect([refused.status, refused.text]).toEqual([401, expect.stringContaining('invalid_token')])
  expect(await sql`select 1 from clients where name = 'Late'`).toEqual([])
  expect(await sql`select 1 from audit_events where action = 'client.create'`).toEqual([])
})

test('who ends their own standing is answered', async () => {
  const { api } = await createTenant(service, sql)
  const { jti } = JSON.parse(Buffer.from(api.token.split('.')[1] ?? '', 'base64url').toString())
  const { client: second, api: other } = await createTenant(service, sql)
  expect((await api.post(`/v2/tokens/${jti}/revoke`)).status).toBe(200)
  expect((await api.get('/v2/organizations')).status).toBe(401)
  expect((await other.post(`/v2/keys/${second.keyId}/revoke`, { reason: 'compromised' })).status).toBe(200)
  expect((await other.get('/v2/organizations')).status).toBe(401)
  const { client: third, api: last } = await createTenant(service, sql)
  expect((await last.post(`/v2/clients/${third.clientId}/revoke`)).status).toBe(200)
  expect((await last.get('/v2/organizations')).status).toBe(401)
})
