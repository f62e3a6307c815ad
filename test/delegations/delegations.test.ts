/** Delegations over the management API, and what the exchange makes of them. */
import { decodeJwt } from 'jose'
import { afterAll, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { apiOfOperator, createTenant, idempotencyKey, type Tenant } from '../support/management.ts'
import { mint, tokenBody, tokenOf } from '../support/mint.ts'
import { type SeededClient, seedClient } from '../support/seed.ts'
import { setUpService, startService } from '../support/service.ts'

type Delegation = {
  id: string
  organization_id: string
  partner_id: string
  environment: string
  scopes: string[]
  max_expiry_seconds: number
  status: string
  created_at: string
}
type Page = { data: Delegation[]; next_cursor: string | null }
type Refused = { error: { code: string }; errors?: { pointer: string; detail: string }[] }

const { database, service } = await setUpService()
const second = await startService(database)
afterAll(() => second.stop())
const operator = await apiOfOperator(service)

const organizationOf = ({ client }: Tenant) => client.organizationId

/** An organization, a partner with a client that mints in the sandbox, and what one of them says to the other. */
async function createParties() {
  const [giver, holder] = await Promise.all([
    createTenant(service, database.sql),
    createTenant(service, database.sql),
  ])
  const minting = await seedClient(database.sql, { organizationId: organizationOf(holder), kind: 'partner' })
  const parties = { organization_id: organizationOf(giver), partner_id: organizationOf(holder) }
  const terms = { ...parties, environment: 'sandbox', scopes: ['transactions:read'] }
  return { giver, holder, terms, client: { ...minting, organizationId: organizationOf(giver) } }
}

const mintFor = (
  client: SeededClient,
  more: object = {},
  url = service.url,
  scopes = ['transactions:read'],
) => mint(url, client, { body: tokenBody({ ...client, scopes }, more) })

async function statusOf(response: Promise<Response>): Promise<number> {
  const { status, body } = await response
  await body?.cancel()
  return status
}

test('requested, accepted, paused, resumed, revoked, granted anew: each counts from its answer on, everywhere', async () => {
  const { giver, holder, terms, client } = await createParties()
  const everywhere = async () => [
    await statusOf(mintFor(client)),
    await statusOf(mintFor(client, {}, second.url)),
  ]
  expect(await everywhere()).toEqual([403, 403])

  const requested = await holder.api.post<Delegation>('/v2/delegations', terms)
  expect(requested.status).toBe(201)
  expect(requested.body).toEqual({
    ...terms,
    id: expect.stringMatching(/^dlg_/),
    max_expiry_seconds: 86_400,
    status: 'pending',
    created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z$/),
  })
  const path = requested.headers.get('location') ?? ''
  expect(path).toBe(`/v2/delegations/${requested.body.id}`)
  expect(await everywhere()).toEqual([403, 403])

  const step = async (tenant: Tenant, name: string) => {
    const { status, body } = await tenant.api.post<Delegation>(`${path}/${name}`)
    return [status, body.status]
  }
  expect(await step(giver, 'accept')).toEqual([200, 'active'])
  expect(decodeJwt((await tokenOf(await mintFor(client))).token)).toMatchObject({
    organization_id: organizationOf(giver),
    partner_id: organizationOf(holder),
    scope: 'transactions:read',
  })
  expect(await everywhere()).toEqual([200, 200])

  // Both have it in memory now.
  expect(await step(giver, 'pause')).toEqual([200, 'paused'])
  expect(await everywhere()).toEqual([403, 403])
  expect(await step(giver, 'resume')).toEqual([200, 'active'])
  expect(await everywhere()).toEqual([200, 200])
  expect(await step(giver, 'revoke')).toEqual([200, 'revoked'])
  expect(await everywhere()).toEqual([403, 403])

  const anew = await giver.api.post<Delegation>('/v2/delegations', terms)
  expect([anew.status, anew.body.status]).toEqual([201, 'active'])
  expect(anew.body.id).not.toBe(requested.body.id)
  expect(await everywhere()).toEqual([200, 200])
  expect((await giver.api.get<Delegation>(path)).body.status).toBe('revoked')
})

test('a new grant counts at once on an instance that remembers the one before', async () => {
  const { giver, terms, client } = await createParties()
  const first = await giver.api.post<Delegation>('/v2/delegations', terms)
  expect(await statusOf(mintFor(client, {}, second.url))).toBe(200)
  await giver.api.post(`/v2/delegations/${first.body.id}/revoke`)
  await giver.api.post('/v2/delegations', { ...terms, scopes: ['person:write'] })
  expect(await statusOf(mintFor(client, {}, second.url))).toBe(403)
  expect(await statusOf(mintFor(client, {}, second.url, ['person:write']))).toBe(200)
})

test('scopes and expiry of a delegation are ceilings, and its giver moves them', async () => {
  const { giver, terms, client } = await createParties()
  const made = await giver.api.post<Delegation>('/v2/delegations', { ...terms, max_expiry_seconds: 600 })
  expect(await statusOf(mintFor(client, { expiry_seconds: 600 }))).toBe(200)
  expect(await statusOf(mintFor(client, { expiry_seconds: 601 }))).toBe(400)
  // The client itself holds person:write.
  const beyond = await mintFor(client, {}, service.url, ['transactions:read', 'person:write'])
  expect([beyond.status, ((await beyond.json()) as Refused).error.code]).toEqual([403, 'insufficient_scope'])

  const path = `/v2/delegations/${made.body.id}`
  const changed = await giver.api.patch<Delegation>(path, {
    scopes: ['person:write'],
    max_expiry_seconds: 601,
  })
  expect(changed.body).toEqual({ ...made.body, scopes: ['person:write'], max_expiry_seconds: 601 })
  expect(await statusOf(mintFor(client, {}, second.url))).toBe(403)
  expect(await statusOf(mintFor(client, { expiry_seconds: 601 }, second.url, ['person:write']))).toBe(200)
  expect((await operator.patch<Delegation>(path, { max_expiry_seconds: 300 })).body.max_expiry_seconds).toBe(
    300,
  )

  await giver.api.post(`${path}/revoke`)
  expect((await giver.api.patch(path, { max_expiry_seconds: 600 })).status).toBe(409)
})

test('a partner accepts, changes, pauses and resumes nothing, and may give up what it holds', async () => {
  const { giver, holder, terms } = await createParties()
  const { id } = (await holder.api.post<Delegation>('/v2/delegations', terms)).body
  const path = `/v2/delegations/${id}`
  const refusals = async () => [
    await holder.api.post<Refused>(`${path}/accept`),
    await holder.api.post<Refused>(`${path}/pause`),
    await holder.api.post<Refused>(`${path}/resume`),
    await holder.api.patch<Refused>(path, { scopes: ['person:write'] }),
  ]
  for (const status of ['pending', 'active', 'paused']) {
    if (status !== 'pending') await giver.api.post(`${path}/${status === 'active' ? 'accept' : 'pause'}`)
    for (const { status: code, body } of await refusals())
      expect([code, body.error.code]).toEqual([403, 'insufficient_scope'])
    expect((await holder.api.get<Delegation>(path)).body).toMatchObject({ status, scopes: terms.scopes })
  }
  expect((await holder.api.post<Delegation>(`${path}/revoke`)).body.status).toBe('revoked')
  expect((await giver.api.get<Delegation>(path)).body.status).toBe('revoked')
})

test('a step from the wrong status is a conflict; revoking again changes nothing', async () => {
  const { giver, holder, terms } = await createParties()
  const { id } = (await holder.api.post<Delegation>('/v2/delegations', terms)).body
  const take = async (name: string) => (await giver.api.post(`/v2/delegations/${id}/${name}`)).status
  const outcomes = async () => [await take('accept'), await take('pause'), await take('resume')]
  expect([await take('pause'), await take('resume')]).toEqual([409, 409])
  expect(await outcomes()).toEqual([200, 200, 200])
  expect([await take('accept'), await take('resume')]).toEqual([409, 409])
  expect([await take('revoke'), await take('revoke')]).toEqual([200, 200])
  expect(await outcomes()).toEqual([409, 409, 409])
})

test('of many who take the same step at once, one does', async () => {
  const { giver, holder, terms } = await createParties()
  const { id } = (await holder.api.post<Delegation>('/v2/delegations', terms)).body
  for (const step of ['accept', 'pause', 'resume']) {
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => giver.api.post(`/v2/delegations/${id}/${step}`)),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([200, ...Array(7).fill(409)])
  }
})

test('two parties have one delegation in force per environment, however many ask at once', async () => {
  const { giver, holder, terms } = await createParties()
  const answers = await Promise.all(
    Array.from({ length: 12 }, (_, i) => (i % 2 ? giver : holder).api.post('/v2/delegations', terms)),
  )
  expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array(11).fill(409)])
  expect((await giver.api.post('/v2/delegations', { ...terms, environment: 'production' })).status).toBe(201)
  const rows = await database.sql`select id from delegations where organization_id = ${terms.organization_id}`
  expect(rows).toHaveLength(2)
})

test('the platform grants, and steps in, for anybody', async () => {
  const { terms, client } = await createParties()
  const { status, body } = await operator.post<Delegation>('/v2/delegations', terms)
  expect([status, body.status]).toEqual([201, 'active'])
  expect(await statusOf(mintFor(client))).toBe(200)
  expect((await operator.post(`/v2/delegations/${body.id}/pause`)).status).toBe(200)
  expect(await statusOf(mintFor(client))).toBe(403)
})

test('what cannot be delegated is refused, and where it says so', async () => {
  const { giver, holder, terms } = await createParties()
  const unknown = newId('organization')
  const pointersOf = async (body: object, tenant = giver) => {
    const answer = await tenant.api.post<Refused>('/v2/delegations', body)
    expect(answer.status, answer.text).toBe(400)
    return answer.body.errors?.map(({ pointer }) => pointer)
  }
  expect(await pointersOf({ ...terms, partner_id: terms.organization_id })).toEqual(['/partner_id'])
  expect(await pointersOf({ ...terms, partner_id: unknown })).toEqual(['/partner_id'])
  expect(await pointersOf({ ...terms, organization_id: unknown }, holder)).toEqual(['/organization_id'])
  expect(await pointersOf({ ...terms, scopes: ['a', 'signet:keys:read', 'signet:new'] })).toEqual([
    '/scopes/1',
    '/scopes/2',
  ])
  expect(await pointersOf({ ...terms, scopes: ['a b'] })).toEqual(['/scopes/0'])
  expect(await pointersOf({ ...terms, scopes: [] })).toEqual(['/scopes'])
  expect(await pointersOf({ ...terms, scopes: Array.from({ length: 101 }, (_, i) => `s${i}`) })).toEqual([
    '/scopes',
  ])
  for (const seconds of [299, 86_401, 300.5, '600'])
    expect(await pointersOf({ ...terms, max_expiry_seconds: seconds })).toEqual(['/max_expiry_seconds'])
  expect(await pointersOf({ ...terms, environment: 'staging', status: 'active' })).toEqual([
    '/environment',
    '/status',
  ])
  // A set: as it was said first, exactly.
  const scopes = ['b', 'a', 'b', 'A']
  expect((await giver.api.post<Delegation>('/v2/delegations', { ...terms, scopes })).body.scopes).toEqual([
    'b',
    'a',
    'A',
  ])
})

test('A17 to a third party a delegation is missing: the same bytes, and nothing in its list', async () => {
  const { giver, terms } = await createParties()
  const stranger = await createTenant(service, database.sql)
  const made = await giver.api.post<Delegation>('/v2/delegations', terms)
  const bytesOf = async (id: string) => {
    const path = `/v2/delegations/${id}`
    const answers = [
      await stranger.api.get(path),
      await stranger.api.patch(path, { max_expiry_seconds: 300 }),
      ...(await Promise.all(
        ['accept', 'pause', 'resume', 'revoke'].map((step) => stranger.api.post(`${path}/${step}`)),
      )),
    ]
    return answers.map(({ status, headers, text }) => {
      const requestId = headers.get('x-request-id') ?? ''
      return [status, text.replaceAll(requestId, 'request').replaceAll(id, 'id')]
    })
  }
  const foreign = await bytesOf(made.body.id)
  expect(foreign.map(([status]) => status)).toEqual(Array(6).fill(404))
  expect(await bytesOf(newId('delegation'))).toEqual(foreign)
  expect((await giver.api.get<Delegation>(`/v2/delegations/${made.body.id}`)).body).toEqual(made.body)

  for (const query of ['', `?organization_id=${terms.organization_id}`, `?partner_id=${terms.partner_id}`])
    expect((await stranger.api.get<Page>(`/v2/delegations${query}`)).body.data).toEqual([])
  // Nor does it delegate in the name of others.
  const refused = await stranger.api.post<Refused>('/v2/delegations', terms)
  expect([refused.status, refused.body.error.code]).toEqual([404, 'not_found'])
})

test('lists show what one gives and what one holds, the newest first, by filter and page', async () => {
  const { giver, holder, terms } = await createParties()
  const make = async (tenant: Tenant, body: object) =>
    (await tenant.api.post<Delegation>('/v2/delegations', body)).body.id
  const given = await make(giver, terms)
  const production = await make(giver, { ...terms, environment: 'production' })
  const back = { ...terms, organization_id: terms.partner_id, partner_id: terms.organization_id }
  const asked = await make(giver, back)
  const idsOf = async (tenant: Tenant, query = '') =>
    (await tenant.api.get<Page>(`/v2/delegations${query}`)).body.data.map(({ id }) => id)
  for (const tenant of [giver, holder]) {
    expect(await idsOf(tenant)).toEqual([asked, production, given])
    expect(await idsOf(tenant, '?environment=sandbox')).toEqual([asked, given])
    expect(await idsOf(tenant, '?status=pending')).toEqual([asked])
    expect(await idsOf(tenant, `?organization_id=${terms.organization_id}`)).toEqual([production, given])
    expect(await idsOf(tenant, `?partner_id=${terms.organization_id}`)).toEqual([asked])
  }
  const first = (await giver.api.get<Page>('/v2/delegations?limit=2')).body
  expect(first.data.map(({ id }) => id)).toEqual([asked, production])
  expect(await idsOf(giver, `?limit=2&cursor=${first.next_cursor}`)).toEqual([given])
  // A18: it is the giver's cursor, and of that list.
  expect((await holder.api.get(`/v2/delegations?limit=2&cursor=${first.next_cursor}`)).status).toBe(400)
  const all = (await operator.get<Page>('/v2/delegations?limit=100')).body.data.map(({ id }) => id)
  expect(all).toEqual(expect.arrayContaining([given, production, asked]))
})

test('every change is in the trail of its giver; what the partner does, in the partner’s own', async () => {
  const { giver, holder, terms } = await createParties()
  const { id } = (await holder.api.post<Delegation>('/v2/delegations', terms)).body
  await giver.api.post(`/v2/delegations/${id}/accept`)
  await giver.api.patch(`/v2/delegations/${id}`, { max_expiry_seconds: 900 })
  await operator.post(`/v2/delegations/${id}/pause`)
  await holder.api.post(`/v2/delegations/${id}/revoke`)
  const events = await database.sql`
    select action, organization_id, actor_organization_id, details from audit_events
    where target_id = ${id} order by sequence`
  const [o, p] = [terms.organization_id, terms.partner_id]
  expect(events.map((each) => [each.action, each.organization_id, each.actor_organization_id])).toEqual([
    ['delegation.create', p, p],
    ['delegation.accept', o, o],
    ['delegation.update', o, o],
    ['delegation.pause', o, service.operator?.organization_id],
    ['delegation.revoke', p, p],
  ])
  expect(events[2]?.details).toEqual({
    before: { max_expiry_seconds: 86_400 },
    after: { max_expiry_seconds: 900 },
  })
  expect(events[4]?.details).toEqual({ before: { status: 'paused' }, after: { status: 'revoked' } })
})

test('A50 one Idempotency-Key grants once, and repeats its answer', async () => {
  const { giver, terms } = await createParties()
  const headers = idempotencyKey()
  const first = await giver.api.post('/v2/delegations', terms, headers)
  const again = await giver.api.post('/v2/delegations', terms, headers)
  expect([again.status, again.text, again.headers.get('location')]).toEqual([
    201,
    first.text,
    first.headers.get('location'),
  ])
  expect(again.headers.get('idempotency-replayed')).toBe('true')
})

test('A20 a change touches that delegation alone', async () => {
  const { giver, holder, terms } = await createParties()
  const { id } = (await giver.api.post<Delegation>('/v2/delegations', terms)).body
  await holder.api.post('/v2/delegations', { ...terms, environment: 'production' })
  const others = () => database.sql`select * from delegations where id <> ${id} order by id`
  const before = await others()
  await giver.api.patch(`/v2/delegations/${id}`, { scopes: ['x'] })
  await giver.api.post(`/v2/delegations/${id}/pause`)
  await giver.api.post(`/v2/delegations/${id}/revoke`)
  expect([...(await others())]).toEqual([...before])
})
