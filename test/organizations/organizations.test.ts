/** Organizations over the management API. */
import { expect, test } from 'vitest'
import { apiOfOperator, apiWith, createTenant, tokenFor } from '../support/management.ts'
import { mint } from '../support/mint.ts'
import { setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const operator = await apiOfOperator(service)
const tenant = await createTenant(service, database.sql)

test('the platform creates an organization, and finds it where Location says', async () => {
  const made = await operator.post('/v2/organizations', { name: 'Acme' })
  expect(made.status).toBe(201)
  expect(made.body).toMatchObject({ name: 'Acme', status: 'active', platform: false })
  const location = made.headers.get('location') ?? ''
  expect(location).toBe(`/v2/organizations/${made.body.id}`)
  const found = await operator.get(location)
  expect(found.status).toBe(200)
  expect(found.body).toEqual(made.body)
})

test('a tenant creates no organization, and sees itself alone', async () => {
  const refused = await tenant.api.post('/v2/organizations', { name: 'Another' })
  expect(refused.status).toBe(403)
  expect(refused.body).toMatchObject({ error: { code: 'insufficient_scope' } })
  const own = await tenant.api.get<{ data: { id: string }[]; next_cursor: string | null }>(
    '/v2/organizations',
  )
  expect(own.body.data.map(({ id }) => id)).toEqual([tenant.client.organizationId])
  expect(own.body.next_cursor).toBeNull()
})

test('a list goes on where its cursor says, without gap or repetition', async () => {
  for (const name of ['One', 'Two', 'Three']) await operator.post('/v2/organizations', { name })
  const all = await operator.get<{ data: { id: string }[] }>('/v2/organizations?limit=100')
  const seen: string[] = []
  let cursor: string | null = null
  do {
    const page: { data: { id: string }[]; next_cursor: string | null } = (
      await operator.get<{ data: { id: string }[]; next_cursor: string | null }>(
        `/v2/organizations?limit=2${cursor ? `&cursor=${cursor}` : ''}`,
      )
    ).body
    seen.push(...page.data.map(({ id }) => id))
    cursor = page.next_cursor
  } while (cursor)
  expect(seen).toEqual(all.body.data.map(({ id }) => id))
})

test('a tenant renames itself, but its status is the platform’s to change', async () => {
  const path = `/v2/organizations/${tenant.client.organizationId}`
  expect((await tenant.api.patch(path, { name: 'Renamed' })).body).toMatchObject({ name: 'Renamed' })
  expect((await tenant.api.patch(path, { status: 'suspended' })).status).toBe(403)
  expect((await operator.patch(path, { status: 'suspended' })).body).toMatchObject({ status: 'suspended' })

  // A42: its tokens open nothing from the next request on, and its keys mint none.
  expect((await tenant.api.get(path)).status).toBe(401)
  expect((await mint(service.url, tenant.client)).status).toBe(403)
  expect((await operator.patch(path, { status: 'active' })).status).toBe(200)
  // What was minted before stays revoked.
  expect((await tenant.api.get(path)).status).toBe(401)
  const fresh = apiWith(service.url, await tokenFor(service.url, tenant.client))
  expect((await fresh.get(path)).status).toBe(200)
})

test('the platform organization cannot be suspended', async () => {
  const path = `/v2/organizations/${service.operator?.organization_id}`
  const refused = await operator.patch(path, { status: 'suspended' })
  expect(refused.status).toBe(409)
  expect(refused.body).toMatchObject({ error: { code: 'conflict' } })
})
