/** A17, A18, A20: what a transaction of the management API sees and may touch, before and after it is told whose it is. */
import { getTableName, isTable, sql as query } from 'drizzle-orm'
import type { PgTable } from 'drizzle-orm/pg-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createClientStore } from '../../src/clients/store.ts'
import { connectAsNobody, type Database, disconnect, exactlyOne } from '../../src/database/database.ts'
import * as records from '../../src/database/records.ts'
import * as policy from '../../src/database/schema.ts'
import { createTransactions, type InTransaction, type Transaction } from '../../src/database/transaction.ts'
import { enterTenant } from '../../src/management/store.ts'
import { createOrganizationStore } from '../../src/organizations/store.ts'
import { createTenant, idempotencyKey, type Tenant } from '../support/management.ts'
import { waitFor } from '../support/process.ts'
import { seedDelegation } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'
import { snapshot } from './snapshot.ts'

const { database, service } = await setUpService()
const { sql } = database
const tables: PgTable[] = Object.values({ ...policy, ...records }).filter((value) =>
  isTable(value),
) as PgTable[]

let managing: Database
let inTransaction: InTransaction
let acme: Tenant
let other: Tenant
beforeAll(async () => {
  managing = connectAsNobody(database.target, { max: 2, statementTimeoutMilliseconds: 2_000 })
  inTransaction = createTransactions(managing, {
    deadlineMilliseconds: 4_000,
    maxPending: 200,
    maxPendingPerShare: 200,
  })
  acme = await createTenant(service, sql)
  other = await createTenant(service, sql)
  for (const { api, client } of [acme, other]) {
    await api.patch(`/v2/organizations/${client.organizationId}`, { name: 'Renamed' }, idempotencyKey())
    await sql`insert into revoked_tokens (jti, organization_id, client_id, expires_at)
      values (${`tok_${client.clientId}`}, ${client.organizationId}, ${client.clientId}, now())`
    await sql`insert into client_assertions (client_id, jti, expires_at) values (${client.clientId}, 'used', now())`
  }
  const pair = { organizationId: acme.client.organizationId, partnerId: other.client.organizationId }
  await seedDelegation(sql, pair)
  // Written a moment after the mint.
  await waitFor('the use of keys', async () => (await sql`select from key_usage`).count === 2)
})
afterAll(() => managing && disconnect(managing))

describe('a query without a tenant', () => {
  test('sees nothing: no row of any table, all of which have some', async () => {
    expect(tables.length).toBeGreaterThanOrEqual(12)
    for (const table of tables) {
      const name = getTableName(table)
      const [all] = await sql`select count(*)::integer as n from ${sql(name)}`
      expect(all?.n, name).toBeGreaterThan(0)
      expect(await inTransaction('test', (transaction) => transaction.select().from(table)), name).toEqual([])
    }
  })

  test('changes and deletes nothing, and adds nothing', async () => {
    const before = await snapshot(sql)
    for (const table of tables) {
      const name = query.identifier(getTableName(table))
      const column = query.identifier(
        Object.values(table as unknown as Record<string, { name: string }>)[0]?.name ?? '',
      )
      for (const statement of [query`update ${name} set ${column} = ${column}`, query`delete from ${name}`]) {
        // The audit trail takes neither, from anybody.
        const done = await inTransaction('test', (transaction) => transaction.execute(statement)).catch(
          (error) => error,
        )
        if (!(done instanceof Error)) expect(done.count).toBe(0)
        else expect(String(done.cause)).toContain('permission denied for table audit_events')
      }
    }
    await expect(
      inTransaction('test', (transaction) =>
        createOrganizationStore(transaction).insert({ id: 'org_0', name: 'Nobody’s' }),
      ),
    ).rejects.toThrow()
    expect(await snapshot(sql)).toEqual(before)
  })

  test('sees nothing after a transaction of a tenant, committed or not, on the same connection', async () => {
    const alone = connectAsNobody(database.target, { max: 1, statementTimeoutMilliseconds: 2_000 })
    const limits = { deadlineMilliseconds: 4_000, maxPending: 10, maxPendingPerShare: 10 }
    const run = createTransactions(alone, limits)
    const count = async (transaction: Transaction) =>
      (await transaction.select().from(policy.organizations)).length
    try {
      for (const end of [() => {}, () => Promise.reject(new Error('rolled back'))]) {
        const seen: number[] = []
        await run('test', async (transaction) => {
          await enterTenant(transaction, acme.client.organizationId)
          seen.push(await count(transaction))
          await end()
        }).catch(() => {})
        seen.push(await run('test', count))
        expect(seen).toEqual([1, 0])
      }
    } finally {
      await disconnect(alone)
    }
  })
})

describe('A20 a write by id', () => {
  const as = <T>(tenant: Tenant, work: (transaction: Transaction) => Promise<T>): Promise<T> =>
    inTransaction('test', async (transaction) => {
      await enterTenant(transaction, tenant.client.organizationId)
      return work(transaction)
    })

  test('of another tenant’s row touches none, and says so', async () => {
    const before = await snapshot(sql)
    const { organizationId, clientId } = other.client
    const writes: ((transaction: Transaction) => Promise<unknown>)[] = [
      (transaction) => createOrganizationStore(transaction).update(organizationId, { name: 'Taken' }),
      (transaction) => createClientStore(transaction).update(clientId, { name: 'Taken' }),
    ]
    for (const write of writes)
      await expect(as(acme, write)).rejects.toThrow('0 rows were written where one should have been')
    expect(
      await as(acme, (transaction) => createOrganizationStore(transaction).findForUpdate(organizationId)),
    ).toBe(undefined)
    expect(await snapshot(sql)).toEqual(before)
  })

  test('of every table touches no row of another tenant, whatever its condition', async () => {
    const before = await snapshot(sql)
    const strangers = [
      query`update organizations set name = 'Taken' where id = ${other.client.organizationId} returning id`,
      query`update organizations set name = 'Taken' where id <> ${acme.client.organizationId} returning id`,
      query`delete from organizations where id = ${other.client.organizationId} returning id`,
      query`update clients set name = 'Taken' where id = ${other.client.clientId} returning id`,
      query`update clients set name = 'Taken' where organization_id = ${other.client.organizationId} returning id`,
      query`delete from clients where id = ${other.client.clientId} returning id`,
      query`update keys set revoked_at = now() where id = ${other.client.keyId} returning id`,
      query`delete from keys where client_id = ${other.client.clientId} returning id`,
      query`update issued_tokens set expires_at = now() where client_id = ${other.client.clientId} returning jti`,
      query`delete from revoked_tokens where client_id = ${other.client.clientId} returning jti`,
      query`delete from idempotency_keys where client_id = ${other.client.clientId} returning key`,
      query`update idempotency_keys set body = '' where client_id = ${other.client.clientId} returning key`,
      query`update usage_minutes set admitted = 0 where client_id = ${other.client.clientId} returning client_id`,
      query`delete from key_usage where key_id = ${other.client.keyId} returning key_id`,
      query`update signing_keys set revoked_at = now() returning kid`,
    ]
    for (const statement of strangers)
      expect(await as(acme, (transaction) => transaction.execute(statement))).toHaveLength(0)
    expect(await snapshot(sql)).toEqual(before)
  })

  test('does not move a row of its own to another tenant', async () => {
    const before = await snapshot(sql)
    const { organizationId, clientId } = acme.client
    for (const statement of [
      query`update clients set organization_id = ${other.client.organizationId} where id = ${clientId}`,
      query`update organizations set id = ${'org_moved'} where id = ${organizationId}`,
      query`update keys set client_id = ${other.client.clientId} where client_id = ${clientId}`,
    ])
      await expect(as(acme, (transaction) => transaction.execute(statement))).rejects.toMatchObject({
        cause: { code: '42501' },
      })
    expect(await snapshot(sql)).toEqual(before)
  })

  test('of its own row touches that one', async () => {
    const others = async () => [
      ...(await sql`select o.*, (select jsonb_agg(c order by id) from clients c where organization_id = o.id
        and c.id <> ${acme.client.clientId}) from organizations o where id <> ${acme.client.organizationId} order by id`),
    ]
    const before = { all: await snapshot(sql), others: await others() }
    const organization = await as(acme, (transaction) =>
      createOrganizationStore(transaction).update(acme.client.organizationId, { name: 'Own' }),
    )
    expect(organization).toMatchObject({ id: acme.client.organizationId, name: 'Own' })
    const client = await as(acme, (transaction) =>
      createClientStore(transaction).update(acme.client.clientId, { name: 'Own' }),
    )
    expect(client).toMatchObject({ id: acme.client.clientId, name: 'Own' })
    const after = await snapshot(sql)
    const changed = Object.keys(after).filter((name) => after[name] !== before.all[name])
    expect(changed.sort()).toEqual(['clients', 'organizations'])
    expect(await others()).toEqual(before.others)
    expect((await sql`select from organizations where name = 'Own'`).count).toBe(1)
    expect((await sql`select from clients where name = 'Own'`).count).toBe(1)
  })

  test('that touches none or several is an error, and is undone', () => {
    expect(exactlyOne(['one'])).toBe('one')
    expect(() => exactlyOne([])).toThrow('0 rows')
    expect(() => exactlyOne(['one', 'two'])).toThrow('2 rows')
  })
})

test('A17 over HTTP, another tenant’s id is a missing one to every method, and nothing of it changes', async () => {
  const before = await snapshot(sql, ['audit_events', 'idempotency_keys'])
  const missing = '/v2/organizations/org_01jzzzzzzzzzzzzzzzzzzzzzzz'
  const foreign = `/v2/organizations/${other.client.organizationId}`
  const asked = async (path: string) => [
    await acme.api.get(path),
    await acme.api.patch(path, { name: 'Taken' }),
    await acme.api.patch(path, { status: 'suspended' }),
    await acme.api.patch(path, { name: '' }),
    await acme.api.patch(path, { name: 'Taken' }, idempotencyKey()),
  ]
  const shape = (answers: Awaited<ReturnType<typeof asked>>) =>
    answers.map(({ status, text, headers }) => {
      const { date: _date, 'x-request-id': id, ...rest } = Object.fromEntries(headers)
      return { status, rest, text: text.replace(id ?? '', 'id') }
    })
  const foreignAnswers = await asked(foreign)
  expect(shape(foreignAnswers)).toEqual(shape(await asked(missing)))
  expect(foreignAnswers.map(({ status }) => status)).toEqual([404, 404, 404, 400, 404])
  expect(await snapshot(sql, ['audit_events', 'idempotency_keys'])).toEqual(before)
})
