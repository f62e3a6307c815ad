/** What the database itself guards: tenants apart, versions raised, the role without power. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { UnsafeRoleError, withMigratedDatabase } from '../../src/database/migrate.ts'
import { asSuperuser, connectTo, createTestDatabase, type TestDatabase } from '../support/database.ts'
import { mint } from '../support/mint.ts'
import { type SeededClient, seedClient, seedDelegation } from '../support/seed.ts'
import { startService } from '../support/service.ts'

let database: TestDatabase
let acme: SeededClient
let other: SeededClient
beforeAll(async () => {
  database = await createTestDatabase()
  acme = await seedClient(database.sql)
  other = await seedClient(database.sql)
  await seedDelegation(database.sql, { organizationId: acme.organizationId, partnerId: other.organizationId })
  const service = await startService(database)
  for (const client of [acme, other]) expect((await mint(service.url, client)).status).toBe(200)
  await database.sql`insert into revoked_tokens (jti, organization_id, client_id, expires_at)
    values ('tok_x', ${acme.organizationId}, ${acme.clientId}, now()),
      ('tok_y', ${other.organizationId}, ${other.clientId}, now())`
  await database.sql`insert into idempotency_keys (client_id, operation, key, organization_id, fingerprint, status, body)
    values (${acme.clientId}, 'POST /', 'k', ${acme.organizationId}, '', 201, '')`
  await database.sql`insert into audit_events (id, organization_id, action, previous_hash, hash)
    values ('evt_x', ${acme.organizationId}, 'test', '', '')`
  await service.stop()
})
afterAll(() => database?.drop())

const tenantTables = async () =>
  (await database.sql`
    select c.relname as name, c.relrowsecurity as enabled, c.relforcerowsecurity as forced
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'public' and c.relkind in ('r', 'p')`) as unknown as {
    name: string
    enabled: boolean
    forced: boolean
  }[]

describe('row-level security', () => {
  test('is forced on every table, the partitions of the ledger among them', async () => {
    const tables = await tenantTables()
    expect(tables.length).toBeGreaterThan(15)
    expect(tables.filter(({ enabled, forced }) => !enabled || !forced)).toEqual([])
  })

  test('a connection without a tenant sees no row of any table', async () => {
    const nobody = connectTo(database.target, {})
    try {
      for (const { name } of await tenantTables()) {
        const [row] = await nobody`select count(*)::integer as n from ${nobody(name)}`
        expect(row, name).toEqual({ n: 0 })
      }
    } finally {
      await nobody.end()
    }
  })

  test('a tenant sees its own rows and nobody else’s', async () => {
    const tenant = connectTo(database.target, { 'signet.organization_id': acme.organizationId })
    try {
      expect(await tenant`select id from organizations`).toEqual([{ id: acme.organizationId }])
      expect(await tenant`select id from clients`).toEqual([{ id: acme.clientId }])
      expect(await tenant`select id from keys`).toEqual([{ id: acme.keyId }])
      expect(await tenant`select distinct organization_id from issued_tokens`).toEqual([
        { organization_id: acme.organizationId },
      ])
      expect(await tenant`select client_id from usage_minutes`).toEqual([{ client_id: acme.clientId }])
      expect(await tenant`select key_id from key_usage`).toEqual([{ key_id: acme.keyId }])
      expect(await tenant`select organization_id from delegations`).toHaveLength(1)
      expect(await tenant`select id from audit_events`).toHaveLength(1)
      expect(await tenant`select jti from revoked_tokens`).toEqual([{ jti: 'tok_x' }])
      expect(await tenant`select client_id from idempotency_keys`).toEqual([{ client_id: acme.clientId }])
      expect(await tenant`select 1 from signing_keys`).toEqual([])
    } finally {
      await tenant.end()
    }
  })

  test('A20 an UPDATE or DELETE without a condition touches the tenant’s own rows only', async () => {
    const tenant = connectTo(database.target, { 'signet.organization_id': acme.organizationId })
    try {
      await tenant
        .begin(async (transaction) => {
          expect((await transaction`update clients set name = 'mine'`).count).toBe(1)
          expect((await transaction`update keys set revoked_at = now()`).count).toBe(1)
          expect((await transaction`delete from keys`).count).toBe(1)
          throw new Error('undo')
        })
        .catch(() => {})
      await expect(
        tenant`insert into clients (id, organization_id, name, environment, scopes, status)
          values ('cli_x', ${other.organizationId}, 'theirs', 'sandbox', '{}', 'active')`,
      ).rejects.toThrow(/row-level security/)
    } finally {
      await tenant.end()
    }
  })
})

test('a partner may ask for a delegation and give one up; what it may mint is not its own to say', async () => {
  const partner = connectTo(database.target, { 'signet.organization_id': other.organizationId })
  const held = { organization_id: acme.organizationId, partner_id: other.organizationId, scopes: '{all}' }
  const insert = (status: string) =>
    partner`insert into delegations ${partner({ ...held, id: `dlg_${status}`, environment: 'production', status })}`
  try {
    for (const change of [{ scopes: '{all}' }, { status: 'active' }, { max_expiry_seconds: 86_400 }])
      await expect(
        partner`update delegations set ${partner(change as Record<string, string>)}`,
      ).rejects.toThrow(/row-level security/)
    await expect(insert('active')).rejects.toThrow(/row-level security/)
    expect((await partner`delete from delegations`).count).toBe(0)
    expect((await insert('pending')).count).toBe(1)
    expect((await partner`update delegations set status = 'revoked' where id = 'dlg_pending'`).count).toBe(1)
  } finally {
    await partner.end()
  }
})

test('every UPDATE of a policy row raises its version, and no version ever returns', async () => {
  const policyTables = ['organizations', 'clients', 'keys', 'delegations', 'signing_keys']
  const seen = new Set<string>()
  for (const table of policyTables) {
    const key = table === 'signing_keys' ? 'kid' : 'id'
    for (let i = 0; i < 3; i++) {
      const before =
        await database.sql`select ${database.sql(key)} as id, version from ${database.sql(table)}`
      expect(before.length).toBeGreaterThan(0)
      await database.sql`update ${database.sql(table)} set version = 1`
      const after = await database.sql`select ${database.sql(key)} as id, version from ${database.sql(table)}`
      for (const row of after) {
        const old = before.find(({ id }) => id === row.id)
        expect(Number(row.version)).toBeGreaterThan(Number(old?.version))
        expect(seen.has(row.version)).toBe(false)
        seen.add(row.version)
      }
    }
  }
})

test('a role that could bypass row-level security is refused, and nothing is changed', async () => {
  await asSuperuser(async (admin) => {
    await admin.unsafe('create database signet_unsafe')
    try {
      const target = { ...database.target, username: 'postgres', database: 'signet_unsafe' }
      await expect(withMigratedDatabase(target, async () => {})).rejects.toThrow(UnsafeRoleError)
      const check = connectTo(target, {})
      expect(
        await check`select 1 from pg_tables where schemaname not in ('pg_catalog', 'information_schema')`,
      ).toEqual([])
      await check.end()
    } finally {
      await admin.unsafe('drop database signet_unsafe with (force)')
    }
  })
})

test('A26 an entry that is no network cannot be written into an allow-list', async () => {
  for (const entry of ['10.0.0.1/8', '256.1.1.1', '0x7f.0.0.1', 'fe80::1%eth0', 'example.com', ''])
    await expect(seedClient(database.sql, { allowedCidrs: [entry] })).rejects.toThrow()
})
