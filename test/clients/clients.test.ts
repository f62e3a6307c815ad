/** Clients over the management API: approval, change and the rest of their life. */
import { describe, expect, test } from 'vitest'
import { MANAGEMENT_SCOPES } from '../../src/management/scopes.ts'
import { type Api, apiOfOperator, apiWith, createTenant, idempotencyKey } from '../support/management.ts'
import { mint, problemOf } from '../support/mint.ts'
import { seedKey, seedOrganization } from '../support/seed.ts'
import { ISSUER, setUpService, startService } from '../support/service.ts'

const { database, service } = await setUpService()
const alone = await setUpService()
const operator = await apiOfOperator(service)
const tenant = await createTenant(service, database.sql)
const own = `/v2/organizations/${tenant.client.organizationId}/clients`

type Client = { id: string; organization_id: string; status: string; scopes: string[] } & Record<
  string,
  unknown
>

const NETWORKS = ['127.0.0.0/8', '10.0.0.0/8']
const production = {
  name: 'Live',
  environment: 'production',
  scopes: ['transactions:read', 'person:write'],
  allowed_cidrs: NETWORKS,
}

async function create(api: Api, body: object = production, path = own): Promise<Client> {
  const made = await api.post<Client>(path, body)
  expect(made.status, made.text).toBe(201)
  return made.body
}

async function createApproved(body: object = production): Promise<Client> {
  const { id } = await create(tenant.api, body)
  const approved = await operator.post<Client>(`/v2/clients/${id}/approve`)
  expect(approved.status, approved.text).toBe(200)
  return approved.body
}

/** With a key of the client, made as the keys slice makes them. */
async function mintAs(client: Client, scopes = client.scopes): Promise<Response> {
  const environment = client.environment as 'production'
  const { key } = await seedKey(database.sql, client.id, environment)
  return mint(service.url, { organizationId: client.organization_id, key, scopes })
}

describe('a new client', () => {
  test('of the sandbox is active at once; all its members are shown', async () => {
    const client = await create(tenant.api, { name: 'Try', environment: 'sandbox', scopes: ['a:read'] })
    expect(client).toEqual({
      id: expect.stringMatching(/^cli_/),
      organization_id: tenant.client.organizationId,
      name: 'Try',
      environment: 'sandbox',
      kind: 'organization',
      scopes: ['a:read'],
      audience: null,
      max_expiry_seconds: 86_400,
      rate_limit_per_minute: 60,
      allowed_cidrs: null,
      allowed_origins: null,
      status: 'active',
      created_at: expect.stringMatching(/Z$/),
      created_by: tenant.client.clientId,
      requested_by: [],
      suspended_by_platform: false,
      version: expect.stringMatching(/^\d+$/),
      approved_at: null,
      approved_by: null,
    })
    expect((await mintAs(client)).status).toBe(200)
    expect((await tenant.api.get(`/v2/clients/${client.id}`)).body).toEqual(client)
  })

  test.each([
    [
      'a management scope in the sandbox',
      { environment: 'sandbox', scopes: ['signet:clients:read'] },
      '/scopes/0',
    ],
    ['a management scope for a partner', { kind: 'partner', scopes: ['a', 'signet:keys:read'] }, '/scopes/1'],
    ['a management scope that does not exist', { scopes: ['signet:all'] }, '/scopes/0'],
    ['the issuer as audience', { audience: ISSUER }, '/audience'],
    ['the sandbox issuer as audience', { audience: `${ISSUER}/sandbox` }, '/audience'],
    ['A26 an entry that is no network', { allowed_cidrs: ['10.0.0.0/8', '256.1.1.1'] }, '/allowed_cidrs/1'],
  ])('is refused with %s', async (_, members, pointer) => {
    const refused = await tenant.api.post<{ errors: { pointer: string }[] }>(own, {
      ...production,
      ...members,
    })
    expect(refused.status).toBe(400)
    expect(refused.body.errors.map((error) => error.pointer)).toEqual([pointer])
  })

  test('belongs to an organization that the token sees', async () => {
    const foreign = await seedOrganization(database.sql)
    expect((await tenant.api.post(`/v2/organizations/${foreign}/clients`, production)).status).toBe(404)
    expect((await create(operator, production, `/v2/organizations/${foreign}/clients`)).organization_id).toBe(
      foreign,
    )
  })
})

describe('approval', () => {
  test('of a production client is the platform’s: until then it mints nothing', async () => {
    const client = await create(tenant.api)
    expect(client.status).toBe('pending_approval')
    expect((await problemOf(await mintAs(client))).error.code).toBe('client_pending_approval')

    const byTenant = await tenant.api.post(`/v2/clients/${client.id}/approve`)
    expect(byTenant.status).toBe(403)
    expect(byTenant.body).toMatchObject({ error: { code: 'insufficient_scope' } })
    const withoutScope = await apiOfOperator(service, ['signet:clients:write'])
    expect((await withoutScope.post(`/v2/clients/${client.id}/approve`)).status).toBe(403)

    const approved = await operator.post<Client>(`/v2/clients/${client.id}/approve`)
    expect(approved.body).toMatchObject({
      status: 'active',
      approved_at: expect.stringMatching(/Z$/),
      approved_by: service.operator?.client_id,
      requested_by: [tenant.client.clientId],
    })
    expect((await mintAs(client)).status).toBe(200)
    expect((await operator.post(`/v2/clients/${client.id}/approve`)).status).toBe(409)
  })

  test.each([null, []])('needs networks: not with %j', async (allowed_cidrs) => {
    const { id } = await create(tenant.api, { ...production, allowed_cidrs })
    const refused = await operator.post<{ errors: object[] }>(`/v2/clients/${id}/approve`)
    expect(refused.status).toBe(409)
    expect(refused.body.errors).toEqual([{ pointer: '/allowed_cidrs', detail: 'must not be empty' }])
    expect((await operator.get<Client>(`/v2/clients/${id}`)).body.status).toBe('pending_approval')
  })

  test.each([
    ['a scope', { scopes: [...production.scopes, 'accounts:write'] }],
    ['a network', { allowed_cidrs: [...NETWORKS, '192.0.2.0/24'] }],
    ['an audience', { audience: 'https://other.example' }],
  ])('is needed again for %s more', async (_, change) => {
    const client = await createApproved()
    expect((await mintAs(client)).status).toBe(200)
    const changed = await tenant.api.patch<Client>(`/v2/clients/${client.id}`, change)
    expect(changed.body).toMatchObject({ ...change, status: 'pending_approval', approved_at: null })
    expect((await problemOf(await mintAs(client))).error.code).toBe('client_pending_approval')
    expect((await operator.post<Client>(`/v2/clients/${client.id}/approve`)).body.status).toBe('active')
    expect((await mintAs(changed.body)).status).toBe(200)
  })

  test.each([
    ['fewer scopes', { scopes: ['person:write'] }],
    ['a smaller network', { allowed_cidrs: ['127.0.0.1'] }],
    ['another name, lower ceilings', { name: 'Renamed', max_expiry_seconds: 300, rate_limit_per_minute: 5 }],
  ])('is not needed for %s', async (_, change) => {
    const client = await createApproved()
    const changed = await tenant.api.patch<Client>(`/v2/clients/${client.id}`, change)
    expect(changed.body.status).toBe('active')
    expect((await mintAs(changed.body)).status).toBe(200)
  })

  test('is not got around by suspending, widening and reactivating', async () => {
    const client = await createApproved()
    const path = `/v2/clients/${client.id}`
    expect((await tenant.api.post(`${path}/suspend`)).status).toBe(200)
    await tenant.api.patch(path, { scopes: [...production.scopes, 'accounts:write'] })
    expect((await tenant.api.post<Client>(`${path}/reactivate`)).body.status).toBe('pending_approval')
  })

  test('an approved production client keeps naming networks', async () => {
    const client = await createApproved()
    for (const allowed_cidrs of [null, []]) {
      const refused = await tenant.api.patch(`/v2/clients/${client.id}`, { allowed_cidrs })
      expect(refused.status).toBe(400)
    }
  })

  test('with FOUR_EYES, is never by one who asked for it', async () => {
    const strict = await startService(database, { config: { fourEyes: true } })
    try {
      const asker = apiWith(strict.url, operator.token)
      const { id } = await create(asker)
      expect((await asker.post(`/v2/clients/${id}/approve`)).status).toBe(403)

      // Another client of the platform may; and who widened it meanwhile has asked for it too.
      const [platform] = await database.sql`select id from organizations where platform`
      const second = await createTenant(strict, database.sql, { organizationId: platform?.id })
      await second.api.patch(`/v2/clients/${id}`, { scopes: [...production.scopes, 'accounts:write'] })
      for (const api of [asker, second.api])
        expect((await api.post(`/v2/clients/${id}/approve`)).status).toBe(403)
      const third = await createTenant(strict, database.sql, { organizationId: platform?.id })
      expect((await third.api.post(`/v2/clients/${id}/approve`)).status).toBe(200)
    } finally {
      await strict.stop()
    }
  })
})

describe('the life of a client', () => {
  test('suspended, it mints nothing; reactivated, it does; revoked, never again', async () => {
    const client = await createApproved()
    const path = `/v2/clients/${client.id}`
    expect((await tenant.api.post<Client>(`${path}/suspend`)).body.status).toBe('suspended')
    expect((await problemOf(await mintAs(client))).error.code).toBe('client_suspended')
    expect((await tenant.api.post<Client>(`${path}/reactivate`)).body.status).toBe('active')
    expect((await mintAs(client)).status).toBe(200)
    expect((await tenant.api.post<Client>(`${path}/revoke`)).body.status).toBe('revoked')
    expect((await problemOf(await mintAs(client))).error.code).toBe('invalid_key')

    expect((await tenant.api.post<Client>(`${path}/revoke`)).status).toBe(200)
    for (const verb of ['suspend', 'reactivate', 'approve'])
      expect((await operator.post(`${path}/${verb}`)).status, verb).toBe(409)
    expect((await tenant.api.patch(path, { name: 'Back' })).status).toBe(409)
  })

  test('one that waits for approval is neither suspended nor reactivated into life', async () => {
    const client = await create(tenant.api)
    for (const verb of ['suspend', 'reactivate'])
      expect((await tenant.api.post(`/v2/clients/${client.id}/${verb}`)).status, verb).toBe(409)
  })

  test('what the platform has suspended, its owner does not reactivate', async () => {
    const client = await createApproved()
    const path = `/v2/clients/${client.id}`
    await tenant.api.post(`${path}/suspend`)
    await operator.post(`${path}/suspend`)
    expect((await tenant.api.post(`${path}/reactivate`)).status).toBe(403)
    expect((await operator.post<Client>(`${path}/reactivate`)).body.status).toBe('active')
  })

  test('a client may not shut itself out by its networks', async () => {
    const refused = await tenant.api.patch(`/v2/clients/${tenant.client.clientId}`, {
      allowed_cidrs: ['192.0.2.0/24'],
    })
    expect(refused.status).toBe(400)
  })

  test('A42 the platform’s last administrator stays, whoever tries', async () => {
    const api = await apiOfOperator(alone.service)
    const path = `/v2/clients/${alone.service.operator?.client_id}`
    for (const verb of ['suspend', 'revoke'])
      expect((await api.post(`${path}/${verb}`)).status, verb).toBe(409)
    const narrowed = await api.patch(path, { scopes: ['signet:clients:write'] })
    expect(narrowed.status).toBe(409)
    // A wider client waits for approval, and nobody would be left to give it.
    expect((await api.patch(path, { scopes: [...MANAGEMENT_SCOPES, 'a:read'] })).status).toBe(409)
    expect((await api.get<Client>(path)).body.status).toBe('active')

    // Two of them may not shut out each other either.
    const second = await createTenant(alone.service, alone.database.sql, {
      organizationId: alone.service.operator?.organization_id,
    })
    const answers = await Promise.all([
      api.post(`/v2/clients/${second.client.clientId}/suspend`),
      second.api.post(`${path}/suspend`),
    ])
    const done = answers.filter(({ status }) => status === 200)
    expect(done.length, answers.map(({ text }) => text).join('\n')).toBe(1)
  })
})

test('clients are listed by organization, and by status, environment and kind', async () => {
  const { client, api } = await createTenant(service, database.sql)
  const path = `/v2/organizations/${client.organizationId}/clients`
  const sandbox = await create(api, { name: 'S', environment: 'sandbox', scopes: ['a'] }, path)
  const partner = await create(api, { ...production, kind: 'partner' }, path)
  const idsOf = async (query: string) =>
    (await api.get<{ data: Client[] }>(path + query)).body.data.map(({ id }) => id)
  expect(await idsOf('')).toEqual([partner.id, sandbox.id, client.clientId])
  expect(await idsOf('?environment=sandbox')).toEqual([sandbox.id])
  expect(await idsOf('?kind=partner')).toEqual([partner.id])
  expect(await idsOf('?status=pending_approval')).toEqual([partner.id])
  expect(await idsOf('?status=active&environment=production')).toEqual([client.clientId])
  expect((await api.get(`${path}?status=alive`)).status).toBe(400)
  expect((await api.get(`${path}?sort=name`)).status).toBe(400)
  expect((await tenant.api.get(path)).status).toBe(404)
})

test('A17 another tenant’s client is as if it did not exist', async () => {
  const other = await createTenant(service, database.sql)
  const path = `/v2/clients/${other.client.clientId}`
  const before = await other.api.get(path)
  for (const call of [
    () => tenant.api.get(path),
    () => tenant.api.patch(path, { name: 'Mine' }),
    () => tenant.api.post(`${path}/suspend`),
    () => tenant.api.post(`${path}/reactivate`),
    () => tenant.api.post(`${path}/revoke`),
  ]) {
    const refused = await call()
    expect(refused.status).toBe(404)
    expect(refused.body).toMatchObject({ error: { code: 'not_found' } })
  }
  expect((await other.api.get(path)).body).toEqual(before.body)
})

test('A50 100 concurrent creations with one Idempotency-Key make one client', async () => {
  const { client, api } = await createTenant(service, database.sql)
  const path = `/v2/organizations/${client.organizationId}/clients`
  const once = idempotencyKey()
  const answers = await Promise.all(
    Array.from({ length: 100 }, () => api.post<Client>(path, production, once)),
  )
  expect(answers.map(({ status }) => status).filter((status) => status !== 201 && status !== 409)).toEqual([])
  const bodies = new Set(answers.filter(({ status }) => status === 201).map(({ text }) => text))
  expect(bodies.size).toBe(1)
  const made = await database.sql`select id from clients
    where organization_id = ${client.organizationId} and id <> ${client.clientId}`
  expect(made).toHaveLength(1)
  const events = await database.sql`select 1 from audit_events where target_id = ${made[0]?.id}`
  expect(events).toHaveLength(1)
})
