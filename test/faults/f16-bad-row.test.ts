/**
 * F16: one row is not what the schema says. Each column in turn is spoiled, with the constraints that forbid it dropped;
 * whoever the row belongs to is refused as by a fault of ours, the others mint, and after the repair so does everybody.
 */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { mint, tokenBody } from '../support/mint.ts'
import { waitFor } from '../support/process.ts'
import { type SeededClient, seedClient, seedDelegation } from '../support/seed.ts'
import { startService, type TestService } from '../support/service.ts'

const TABLES = ['keys', 'clients', 'organizations', 'delegations', 'signing_keys'] as const

let database: TestDatabase
let service: TestService
/** Knows none of the rows by heart when they are spoiled. */
let fresh: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService(database, { logLevel: 'warn' })
  const { sql } = database
  const constraints = await sql<{ table: string; name: string }[]>`
    select conrelid::regclass::text as table, conname as name from pg_constraint
    where conrelid::regclass::text in ${sql(TABLES)} and contype in ('c', 'f')`
  for (const { table, name } of constraints)
    await sql`alter table ${sql(table)} drop constraint ${sql(name)} cascade`
  const required = await sql<{ table: string; column: string }[]>`
    select table_name as table, column_name as column from information_schema.columns
    where table_name in ${sql(TABLES)} and is_nullable = 'NO' and column_name not in ('id', 'kid')`
  for (const { table, column } of required)
    await sql`alter table ${sql(table)} alter column ${sql(column)} drop not null`
})
afterAll(async () => {
  await service?.stop()
  await database?.drop()
})

/** What no constraint would let in, by the type of the column. */
async function spoilsOf(table: string): Promise<[column: string, value: string | null][]> {
  const rows = await database.sql<{ column: string; type: string; nullable: boolean }[]>`
    select column_name as column, data_type as type from information_schema.columns
    where table_name = ${table} and column_name not in ('id', 'kid')`
  return rows.flatMap(({ column, type }): [string, string | null][] => {
    // A row that nothing leads to any more is simply not found.
    if (/_id$|^replaces$|_by$/.test(column)) return []
    const values: (string | null)[] = [null]
    if (/^timestamp/.test(type)) values.push('infinity')
    if (type === 'text') values.push('no word of ours')
    if (type === 'bytea') values.push('\\x0102030405')
    if (type === 'jsonb') values.push('{}')
    return values.map((value) => [column, value])
  })
}

/** As text, which the database takes for whatever the column is. */
const spoil = (table: string, column: string, value: string | null, where: string) =>
  database.sql.unsafe(
    `update ${table} set ${column} = ${value === null ? 'null' : `'${value}'`} where ${where}`,
  )

const status = async (on: TestService, client: SeededClient, organizationId = client.organizationId) =>
  (await mint(on.url, client, { body: tokenBody({ ...client, organizationId }) })).status

/** Columns that say nothing about whether it may mint, or whose absence has a meaning. */
const HARMLESS =
  /^(name|platform|created_at|.*_at|requested_by|suspended_by_platform|audience|public_jwk|prefix|allowed_.*|revocation_reason|lookup_id)$/

describe.each([
  ['keys', (victim: Victim) => victim.client.keyId],
  ['clients', (victim: Victim) => victim.client.clientId],
  ['organizations', (victim: Victim) => victim.client.organizationId],
  ['delegations', (victim: Victim) => victim.delegationId],
] as const)('F16 of %s', (table, idOf) => {
  test('each column in turn: its owner alone is refused, is told that it is our fault, and the log names the row', async () => {
    const { sql } = database
    fresh = await startService(database, { logLevel: 'warn' })
    try {
      const bystander = await seedClient(sql)
      expect(await status(service, bystander)).toBe(200)
      const outcomes: string[] = []
      for (const [column, value] of await spoilsOf(table)) {
        const victim = await seedVictim(table === 'delegations')
        const id = idOf(victim)
        const ask = (on: TestService) => status(on, victim.client, victim.organizationId)
        expect(await ask(service)).toBe(200)
        await sql`create table kept as select * from ${sql(table)} where id = ${id}`
        // Behind the triggers that keep the version and the times: they would mend it.
        await sql`alter table ${sql(table)} disable trigger user`
        await spoil(table, column, value, `id = '${id}'`)
        const spoiled = [await ask(fresh), await ask(service)]
        const others = [await status(fresh, bystander), await status(service, bystander)]
        await sql`update ${sql(table)} set ${sql(column)} = (select ${sql(column)} from kept) where id = ${id}`
        await sql`drop table kept`
        await sql`alter table ${sql(table)} enable trigger user`
        await sql`update ${sql(table)} set ${sql(column)} = ${sql(column)} where id = ${id}`
        const repaired = [await ask(fresh), await ask(service)]

        const what = `${table}.${column} = ${value}`
        outcomes.push(`${what}: ${spoiled}`)
        expect([what, others, repaired]).toEqual([what, [200, 200], [200, 200]])
        expect(spoiled, what).not.toContain(500)
        if (HARMLESS.test(column)) continue
        // What it is found by: without that it is not there.
        const isLost = table === 'delegations' && /environment|status = null/.test(what)
        expect([what, spoiled[0]]).toEqual([what, isLost ? 403 : 503])
        if (isLost) continue
        expect(
          fresh.logs.some((line) => line.includes(id) && line.includes(column)),
          what,
        ).toBe(true)
      }
      console.log(`F16: ${outcomes.join('; ')}`)
    } finally {
      await fresh.stop()
    }
  })
})

type Victim = { client: SeededClient; organizationId: string; delegationId: string }
async function seedVictim(isPartner: boolean): Promise<Victim> {
  const { sql } = database
  if (!isPartner) {
    const client = await seedClient(sql)
    return { client, organizationId: client.organizationId, delegationId: '' }
  }
  const client = await seedClient(sql, { kind: 'partner' })
  const { organizationId } = await seedClient(sql)
  const delegationId = await seedDelegation(sql, { organizationId, partnerId: client.organizationId })
  return { client, organizationId, delegationId }
}

test('F16 a key that somebody remembers, and that is spoiled and repaired, is good again at once', async () => {
  const { sql } = database
  const client = await seedClient(sql)
  expect(await status(service, client)).toBe(200)
  await sql`update clients set scopes = null where id = ${client.clientId}`
  expect(await status(service, client)).toBe(503)
  await sql`update clients set scopes = ${client.scopes} where id = ${client.clientId}`
  expect(await status(service, client)).toBe(200)
})

describe('F16 of signing_keys', () => {
  test('keys that only verify, one for each column that is spoiled: the others sign and are published, the log names each', async () => {
    const { sql } = database
    const bystander = await seedClient(sql)
    const keySet = async (on: TestService) => (await fetch(`${on.url}/sandbox/.well-known/jwks.json`)).json()
    const [active] = await sql`select * from signing_keys where environment = 'sandbox'`
    const spoiled: { kid: string; what: string; isTold: boolean }[] = []
    for (const [column, value] of await spoilsOf('signing_keys')) {
      const kid = `spoiled-${randomBytes(4).toString('hex')}`
      await sql`insert into signing_keys (kid, environment, alg, public_jwk, sealed_private_jwk, published_at, activates_at, retires_at)
        values (${kid}, 'sandbox', ${active?.alg}, ${active?.public_jwk}, ${active?.sealed_private_jwk},
          now() - interval '3 days', now() - interval '2 days', now() - interval '1 day')`
      await spoil('signing_keys', column, value, `kid = '${kid}'`)
      const isTold = /alg|sealed|public_jwk|environment|published/.test(column)
      spoiled.push({ kid, what: `signing_keys.${column} = ${value}`, isTold })
    }
    const started = await startService(database, { logLevel: 'warn' })
    try {
      expect(await status(started, bystander)).toBe(200)
      const { keys } = (await keySet(started)) as { keys: { kid: string }[] }
      expect(keys.map(({ kid }) => kid)).toContain(active?.kid)
      expect((await fetch(`${started.url}/.well-known/jwks.json`)).status).toBe(200)
      for (const { kid, what, isTold } of spoiled)
        if (isTold) expect([what, started.logs.some((line) => line.includes(kid))]).toEqual([what, true])
    } finally {
      await started.stop()
      await sql`delete from signing_keys where kid like 'spoiled-%'`
    }
  })

  test('the one that signs does not open: its environment refuses, the other one goes on, and so does it after the repair', async () => {
    const { sql } = database
    const sandbox = await seedClient(sql)
    const production = await seedClient(sql, { environment: 'production' })
    const [active] =
      await sql`select kid, sealed_private_jwk as sealed from signing_keys where environment = 'sandbox'`
    await sql`update signing_keys set sealed_private_jwk = 'broken' where kid = ${active?.kid}`
    const lonely = startService(database, { logLevel: 'warn' })
    await expect(lonely).rejects.toThrow('a signing key is missing or does not open')
    // Who runs already has it in memory; but it is another row now.
    expect(await status(service, production)).toBe(200)
    await sql`update signing_keys set sealed_private_jwk = ${active?.sealed} where kid = ${active?.kid}`
    await waitFor('a token', async () => (await status(service, sandbox)) === 200)
  })
})
