/** The audit trail: an event with every change, never one without the other, and none that can be taken back. */
import { expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { apiOfOperator, createTenant, idempotencyKey } from '../support/management.ts'
import { mint } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const operator = await apiOfOperator(service)
const tenant = await createTenant(service, database.sql)
const other = await createTenant(service, database.sql)

type Event = {
  id: string
  sequence: number
  occurred_at: string
  organization_id: string | null
  actor: { client_id: string; key_id: string; organization_id: string } | null
  action: string
  target_id: string
  client_ip: string
  request_id: string
  details: { before?: object; after?: object }
  hash: string
}
type Page = { data: Event[]; next_cursor: string | null }
const eventsOf = async (api: typeof operator, query: string) =>
  (await api.get<Page>(`/v2/audit-events?${query}`)).body.data

const own = (client: { organizationId: string }) => `/v2/organizations/${client.organizationId}`

test('a change leaves who did what to what, when, from where, by which request, with before and after', async () => {
  const made = await operator.post('/v2/organizations', { name: 'Acme' })
  const id = String(made.body.id)
  const renamed = await operator.patch(`/v2/organizations/${id}`, { name: 'Renamed' })
  const suspended = await operator.patch(`/v2/organizations/${id}`, { status: 'suspended' })

  const events = await eventsOf(operator, `target_id=${id}`)
  expect(events.map(({ action, details }) => ({ action, ...details }))).toEqual([
    { action: 'organization.update', before: { status: 'active' }, after: { status: 'suspended' } },
    { action: 'organization.update', before: { name: 'Acme' }, after: { name: 'Renamed' } },
    { action: 'organization.create', after: { name: 'Acme' } },
  ])
  expect(events.map((event) => event.request_id)).toEqual(
    [suspended, renamed, made].map(({ headers }) => headers.get('x-request-id')),
  )
  for (const event of events)
    expect(event).toMatchObject({
      id: expect.stringMatching(/^evt_/),
      occurred_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      organization_id: id,
      actor: {
        client_id: service.operator?.client_id,
        organization_id: service.operator?.organization_id,
        key_id: expect.stringMatching(/^key_/),
      },
      client_ip: '127.0.0.1',
      hash: expect.stringMatching(/^[0-9a-f]{64}$/),
    })
})

test('without its event there is no change, and without the change no event', async () => {
  const { organizationId } = tenant.client
  await database.sql.unsafe(`
    create function refuse_event() returns trigger language plpgsql as
      $$ begin if new.details::text like '%No record of this%' then raise exception 'refused'; end if; return new; end $$;
    create trigger refuse_event before insert on audit_events for each row execute function refuse_event()`)
  const refused = await tenant.api.patch(own(tenant.client), { name: 'No record of this' })
  expect(refused.status).toBe(500)
  await database.sql.unsafe('drop function refuse_event cascade')
  const [row] = await database.sql`select name from organizations where id = ${organizationId}`
  expect(row?.name).not.toBe('No record of this')

  const before = await eventsOf(tenant.api, `target_id=${organizationId}`)
  await database.sql.unsafe(`
    create function refuse_row() returns trigger language plpgsql as $$ begin raise exception 'refused'; end $$;
    create constraint trigger refuse_row after update on organizations deferrable initially deferred
      for each row execute function refuse_row()`)
  expect((await tenant.api.patch(own(tenant.client), { name: 'Fails at the commit' })).status).toBe(500)
  await database.sql.unsafe('drop function refuse_row cascade')
  expect(await eventsOf(tenant.api, `target_id=${organizationId}`)).toEqual(before)
})

test('a repeated request leaves one event', async () => {
  const key = idempotencyKey()
  for (let i = 0; i < 3; i++)
    expect((await tenant.api.patch(own(tenant.client), { name: 'Once' }, key)).status).toBe(200)
  const events = await eventsOf(tenant.api, `target_id=${tenant.client.organizationId}`)
  expect(events.filter(({ details }) => JSON.stringify(details).includes('Once'))).toHaveLength(1)
})

test('A17 a tenant sees its own trail and nothing of another’s; the platform all', async () => {
  await tenant.api.patch(own(tenant.client), { name: 'Mine' })
  await other.api.patch(own(other.client), { name: 'Theirs' })
  const mine = await eventsOf(tenant.api, 'limit=100')
  expect(new Set(mine.map((event) => event.organization_id))).toEqual(new Set([tenant.client.organizationId]))
  const ofOthers = await tenant.api.get(`/v2/audit-events?organization_id=${other.client.organizationId}`)
  const ofNobody = await tenant.api.get(`/v2/audit-events?organization_id=${newId('organization')}`)
  expect(ofOthers.text).toBe('{"data":[],"next_cursor":null}')
  expect(ofOthers.text).toBe(ofNobody.text)
  expect(await eventsOf(tenant.api, `target_id=${other.client.organizationId}`)).toEqual([])
  expect(await eventsOf(tenant.api, `actor_client_id=${other.client.clientId}`)).toEqual([])

  const theirs = await eventsOf(operator, `organization_id=${other.client.organizationId}`)
  expect(theirs.map(({ target_id }) => target_id)).toContain(other.client.organizationId)
  const all = await eventsOf(operator, 'limit=100')
  expect(all.map(({ sequence }) => sequence)).toEqual(
    Array.from({ length: all.length }, (_, i) => (all[0]?.sequence ?? 0) - i),
  )
})

test('each filter narrows, and pages go on without gap or repetition', async () => {
  for (let i = 0; i < 5; i++) await operator.patch(own(other.client), { name: `Name ${i}` })
  const target = `target_id=${other.client.organizationId}&limit=100`
  const all = await eventsOf(operator, target)
  const byOperator = await eventsOf(operator, `${target}&actor_client_id=${service.operator?.client_id}`)
  expect(byOperator).toEqual(all.filter((event) => event.actor?.client_id === service.operator?.client_id))
  expect(byOperator.length).toBeLessThan(all.length)
  expect(await eventsOf(operator, `${target}&action=organization.create`)).toEqual([])
  expect(await eventsOf(operator, `${target}&action=organization.update`)).toEqual(all)
  const middle = all[2]?.occurred_at ?? ''
  expect(await eventsOf(operator, `${target}&occurred_after=${middle}`)).toEqual(
    all.filter((event) => event.occurred_at >= middle),
  )
  expect(await eventsOf(operator, `${target}&occurred_before=${middle}`)).toEqual(
    all.filter((event) => event.occurred_at < middle),
  )

  const seen: Event[] = []
  let cursor: string | null = null
  do {
    const page: Page = (
      await operator.get<Page>(
        `/v2/audit-events?target_id=${other.client.organizationId}&limit=2${cursor ? `&cursor=${cursor}` : ''}`,
      )
    ).body
    seen.push(...page.data)
    cursor = page.next_cursor
  } while (cursor)
  expect(seen).toEqual(all)
})

test('the application’s role changes no event, removes none and empties nothing', async () => {
  await tenant.api.patch(own(tenant.client), { name: 'Lasting' })
  const { sql } = database
  const rowsBefore = await sql`select * from audit_events order by sequence`
  expect(rowsBefore.length).toBeGreaterThan(0)
  for (const statement of [
    `update audit_events set action = 'organization.nothing'`,
    'delete from audit_events',
    'truncate audit_events',
    `insert into audit_events (id, action, previous_hash, hash) select id, action, previous_hash, hash from audit_events
       on conflict (id) do update set action = 'organization.nothing'`,
    `merge into audit_events a using audit_events b on a.id = b.id when matched then delete`,
  ])
    await expect(sql.unsafe(statement)).rejects.toThrow(/permission denied|append-only/)
  expect(await sql`select * from audit_events order by sequence`).toEqual(rowsBefore)

  // Nor with its rights given back: it owns the table, but the trigger stands.
  await sql.unsafe('grant update, delete, truncate on audit_events to current_user')
  try {
    for (const statement of [
      `update audit_events set action = 'organization.nothing'`,
      'delete from audit_events where false',
      'truncate audit_events',
    ])
      await expect(sql.unsafe(statement)).rejects.toThrow(/append-only/)
  } finally {
    await sql.unsafe('revoke update, delete, truncate on audit_events from current_user')
  }
})

test('no event holds a key or a token', async () => {
  const client = await seedClient(database.sql)
  const minted = (await (await mint(service.url, client)).json()) as { token: string }
  const secrets = [client.key, minted.token, operator.token, tenant.api.token, service.operator?.key ?? '']
  for (const secret of secrets) {
    await tenant.api.get(`/v2/audit-events?cursor=${secret}`)
    await tenant.api.get(`/v2/organizations/${secret}`)
    await tenant.api.patch(own(tenant.client), { [secret]: secret })
    await mint(service.url, client, { body: { scopes: { organization_id: secret, scopes: [secret] } } })
  }
  // The refusals among them are written within seconds.
  const isWritten = async () =>
    (await database.sql`select 1 from audit_events where action = 'token.refused'`).length > 0
  await expect.poll(isWritten, { timeout: 15_000, interval: 100 }).toBe(true)
  const rows = await database.sql<{ line: string }[]>`select a::text as line from audit_events a`
  for (const secret of secrets) {
    const body = secret.startsWith('ey') ? (secret.split('.')[2] ?? '') : secret.slice(9)
    expect(body.length).toBeGreaterThan(30)
    expect(rows.filter(({ line }) => line.includes(body))).toEqual([])
  }
})
