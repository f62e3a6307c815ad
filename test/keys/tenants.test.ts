/** Tenants and each other's keys. */
import { describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { apiOfOperator, apiWith, createTenant, tokenFor } from '../support/management.ts'
import { fingerprint, mint, rawRequest } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'
import { bodyOf, type CreatedKey, renew, type Validation, validate } from './calls.ts'

const { database, service } = await setUpService()
const operator = await apiOfOperator(service)
const [one, other] = [await createTenant(service, database.sql), await createTenant(service, database.sql)]

describe('A17 another tenant’s keys', () => {
  const routes: [method: string, path: (ids: { clientId: string; keyId: string }) => string][] = [
    ['GET', ({ clientId }) => `/v2/clients/${clientId}/keys`],
    ['GET', ({ clientId }) => `/v2/clients/${clientId}/keys?status=active&limit=5`],
    ['POST', ({ clientId }) => `/v2/clients/${clientId}/keys`],
    ['GET', ({ keyId }) => `/v2/keys/${keyId}`],
    ['POST', ({ keyId }) => `/v2/keys/${keyId}/revoke`],
  ]
  test.each(routes)('%s %s: as if they were not there, to the byte', async (method, path) => {
    const ask = async (ids: { clientId: string; keyId: string }) =>
      fingerprint(
        await rawRequest(service.url, {
          method,
          path: path(ids),
          headers: [
            ['Authorization', `Bearer ${one.api.token}`],
            ...(method === 'POST' ? ([['Content-Type', 'application/json']] as const) : []),
          ],
          ...(method === 'POST' ? { body: '{}' } : {}),
        }),
      )
    const missing = await ask({ clientId: newId('client'), keyId: newId('key') })
    expect(missing).toMatchObject({ status: 404 })
    const { clientId, keyId } = other.client
    expect(await ask({ clientId, keyId })).toEqual(missing)
    expect(await ask({ clientId: 'cli_x', keyId: 'key_x' })).toEqual(missing)
    expect(await ask({ clientId: keyId, keyId: clientId })).toEqual(missing)

    // The platform acts on all of them.
    if (method === 'GET') expect((await operator.get(path({ clientId, keyId }))).status).toBe(200)
  })

  test('nor has anything happened to them', async () => {
    const { clientId, keyId } = other.client
    expect(await database.sql`select from keys where client_id = ${clientId}`).toHaveLength(1)
    expect(await database.sql`select from keys where id = ${keyId} and revoked_at is null`).toHaveLength(1)
    expect((await mint(service.url, other.client)).status).toBe(200)
  })
})

test('A22 a tenant of the same name as a dead one has nothing of it, and revives nothing', async () => {
  const make = async () => {
    const { body } = await operator.post<{ id: string }>('/v2/organizations', { name: 'Phoenix' })
    const client = await seedClient(database.sql, {
      organizationId: body.id,
      environment: 'production',
      scopes: ['signet:keys:read', 'signet:keys:write', 'signet:organizations:read'],
    })
    const created = await operator.post<CreatedKey>(`/v2/clients/${client.clientId}/keys`)
    return { client, key: created.body.key, token: await tokenFor(service.url, client, client.scopes) }
  }
  const first = await make()
  await operator.patch(`/v2/organizations/${first.client.organizationId}`, { status: 'suspended' })
  const second = await make()
  expect(second.client.organizationId).not.toBe(first.client.organizationId)

  for (const key of [first.client.key, first.key]) {
    for (const organizationId of [first.client.organizationId, second.client.organizationId])
      expect((await mint(service.url, { ...first.client, organizationId, key })).status).toBe(403)
    expect((await validate(service.url, key)).status).toBe(403)
    expect((await renew(service.url, key)).status).toBe(403)
  }
  const old = apiWith(service.url, first.token)
  for (const { clientId, keyId } of [first.client, second.client]) {
    expect((await old.get(`/v2/clients/${clientId}/keys`)).status).toBe(401)
    expect((await old.post(`/v2/keys/${keyId}/revoke`)).status).toBe(401)
  }

  const young = apiWith(service.url, second.token)
  expect((await young.get(`/v2/clients/${first.client.clientId}/keys`)).status).toBe(404)
  expect((await young.get(`/v2/keys/${first.client.keyId}`)).status).toBe(404)
  const own = await young.get<{ data: { organization_id: string }[] }>(
    `/v2/clients/${second.client.clientId}/keys`,
  )
  expect(own.body.data.map(({ organization_id }) => organization_id)).toEqual(
    Array(2).fill(second.client.organizationId),
  )
  const { organization } = bodyOf<Validation>(await validate(service.url, second.key), 200)
  expect(organization).toEqual({ id: second.client.organizationId, name: 'Phoenix', status: 'active' })
})
