/** The chain of the audit trail, and what whoever rules the database cannot do to it unseen. */
import postgres, { type Sql } from 'postgres'
import { afterAll, beforeAll, beforeEach, expect, inject, test } from 'vitest'
import { type ChainHead, verifyChain } from '../../src/audit/verify.ts'
import { connectAsPlatform, type Database, disconnect } from '../../src/database/database.ts'
import { apiOfOperator, createTenant } from '../support/management.ts'
import { setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const operator = await apiOfOperator(service)

let superuser: Sql
let pool: Database
beforeAll(() => {
  superuser = postgres({
    ...inject('postgres'),
    username: 'postgres',
    database: database.target.database,
    max: 1,
    onnotice: () => {},
  })
  pool = connectAsPlatform(database.target, { max: 1, statementTimeoutMilliseconds: 10_000 })
})
afterAll(async () => {
  await superuser?.end()
  if (pool) await disconnect(pool)
})

/** Whoever rules the database is not held by triggers. */
async function tamper(work: (sql: Sql) => Promise<unknown>): Promise<void> {
  await superuser`alter table audit_events disable trigger user`
  try {
    await work(superuser)
  } finally {
    await superuser`alter table audit_events enable trigger user`
  }
}

/** The chain anew, ten events long. */
let ids: string[]
beforeEach(async () => {
  await tamper((sql) => sql`truncate audit_events`)
  for (let i = 1; i <= 10; i++) await operator.post('/v2/organizations', { name: `Number ${i}` })
  ids = (await superuser<{ id: string }[]>`select id from audit_events order by sequence`).map(({ id }) => id)
  expect(ids).toHaveLength(10)
})

const headOf = async (): Promise<ChainHead> => {
  const verdict = await verifyChain(pool)
  if (!verdict.ok || !verdict.head) throw new Error('the chain should hold')
  return verdict.head
}

test('a chain that nobody touched holds, and an empty one', async () => {
  const [last] = await superuser<{ hash: string }[]>`
    select encode(hash, 'hex') as hash from audit_events where sequence = 10`
  expect(await verifyChain(pool)).toEqual({ ok: true, count: 10, head: { sequence: 10, hash: last?.hash } })
  await tamper((sql) => sql`truncate audit_events`)
  expect(await verifyChain(pool)).toEqual({ ok: true, count: 0, head: undefined })
})

test.for([
  `action = 'organization.update'`,
  `details = details || '{"after": {"name": "Number 6"}}'`,
  'organization_id = null',
  `actor_client_id = 'cli_another'`,
  `actor_key_id = 'key_another'`,
  `actor_organization_id = 'org_another'`,
  `target_id = 'org_another'`,
  `client_ip = '192.0.2.1'`,
  `request_id = 'another'`,
  `occurred_at = occurred_at + interval '1 microsecond'`,
  `id = 'evt_another'`,
])('a row in which %s is found', async (change) => {
  await tamper((sql) => sql.unsafe(`update audit_events set ${change} where sequence = 5`))
  expect(await verifyChain(pool)).toEqual({
    ok: false,
    brokenAt: {
      sequence: 5,
      id: change.startsWith('id') ? 'evt_another' : ids[4],
      reason: 'the row is not what was written',
    },
  })
})

test('a row that was changed and hashed anew breaks the next one', async () => {
  await tamper(async (sql) => {
    await sql`update audit_events set action = 'organization.update' where sequence = 5`
    await sql`update audit_events a
      set hash = sha256(previous_hash || convert_to(audit_event_text(a), 'UTF8')) where sequence = 5`
  })
  expect(await verifyChain(pool)).toEqual({
    ok: false,
    brokenAt: { sequence: 6, id: ids[5], reason: 'the row does not follow from the one before' },
  })
})

test('a row that was removed is missed, the first one too', async () => {
  await tamper((sql) => sql`delete from audit_events where sequence = 7`)
  expect(await verifyChain(pool)).toEqual({
    ok: false,
    brokenAt: { sequence: 7, id: undefined, reason: 'the row is missing' },
  })
  await tamper((sql) => sql`delete from audit_events where sequence = 1`)
  expect(await verifyChain(pool)).toMatchObject({ ok: false, brokenAt: { sequence: 1 } })
})

test('a row that was removed, and the others moved up, is found', async () => {
  await tamper(async (sql) => {
    await sql`delete from audit_events where sequence = 7`
    await sql`update audit_events set sequence = sequence + 100 where sequence > 7`
    await sql`update audit_events set sequence = sequence - 101 where sequence > 100`
  })
  expect(await verifyChain(pool)).toMatchObject({ ok: false, brokenAt: { sequence: 7, id: ids[7] } })
})

test('a row that was put in is found: in the middle, at the end, before the first', async () => {
  const insert = (sequence: number) =>
    tamper(
      (sql) => sql`
      insert into audit_events (sequence, id, action, previous_hash, hash, occurred_at)
      values (${sequence}, 'evt_forged', 'organization.create', sha256(''), sha256('forged'), now())`,
    )
  const remove = () => tamper((sql) => sql`delete from audit_events where id = 'evt_forged'`)
  await insert(11)
  expect(await verifyChain(pool)).toMatchObject({ ok: false, brokenAt: { sequence: 11, id: 'evt_forged' } })
  await remove()
  await insert(0)
  expect(await verifyChain(pool)).toMatchObject({ ok: false, brokenAt: { sequence: 0, id: 'evt_forged' } })
  await remove()
  await tamper(async (sql) => {
    await sql`update audit_events set sequence = sequence + 100 where sequence > 4`
    await sql`update audit_events set sequence = sequence - 99 where sequence > 100`
  })
  await insert(5)
  expect(await verifyChain(pool)).toMatchObject({ ok: false, brokenAt: { sequence: 5, id: 'evt_forged' } })
})

test('a tail that was cut off, and a chain written anew, show against the head that was kept', async () => {
  const head = await headOf()
  expect(await verifyChain(pool, head)).toMatchObject({ ok: true })
  await operator.post('/v2/organizations', { name: 'Later' })
  expect(await verifyChain(pool, head)).toMatchObject({ ok: true, count: 11 })

  await tamper((sql) => sql`delete from audit_events where sequence > 8`)
  expect(await verifyChain(pool)).toMatchObject({ ok: true, count: 8 })
  expect(await verifyChain(pool, head)).toEqual({
    ok: false,
    brokenAt: { sequence: 9, id: undefined, reason: 'the row is missing' },
  })
  // By the trigger itself, so that every hash is right.
  for (let i = 9; i <= 12; i++) await operator.post('/v2/organizations', { name: `Forged ${i}` })
  expect(await verifyChain(pool)).toMatchObject({ ok: true, count: 12 })
  expect(await verifyChain(pool, head)).toMatchObject({
    ok: false,
    brokenAt: { sequence: 10, reason: 'the row is not the one that was the head' },
  })
})

test('20 parallel changes by several tenants keep one unbroken chain, of several pages', async () => {
  const tenants = [operator]
  for (let i = 0; i < 3; i++) tenants.push((await createTenant(service, database.sql)).api)
  const change = async (api: typeof operator, name: string) => {
    const { body } = await api.get<{ data: { id: string }[] }>('/v2/organizations?limit=1')
    const answer = await api.patch(`/v2/organizations/${body.data[0]?.id}`, { name })
    expect(answer.status).toBe(200)
  }
  await Promise.all(
    Array.from({ length: 20 }, (_, i) => change(tenants[i % 4] as typeof operator, `Renamed ${i}`)),
  )
  await database.sql`
    insert into audit_events (id, action) select 'evt_many_' || n, 'test.many' from generate_series(1, 2000) as n`
  const verdict = await verifyChain(pool)
  expect(verdict).toMatchObject({ ok: true, count: 2030 })
  await tamper((sql) => sql`update audit_events set action = 'test.few' where id = 'evt_many_1990'`)
  expect(await verifyChain(pool)).toMatchObject({ ok: false, brokenAt: { id: 'evt_many_1990' } })
})

test('what an event costs does not grow with the trail: the last link is found by its index', async () => {
  // Of a session that planned when there was little to read.
  const sql = await database.sql.reserve()
  const insert = (from: number) => sql`
    insert into audit_events (id, action) select 'evt_cost_' || n, 'test.cost' from generate_series(${from}::int, ${from + 9}) as n`
  await insert(0)
  await sql`begin`
  const scans = async () =>
    Number((await sql`select pg_stat_get_xact_numscans('audit_events'::regclass) as count`)[0]?.count)
  const before = await scans()
  await insert(10)
  expect((await scans()) - before).toBe(0)
  await sql`commit`
  sql.release()
})
