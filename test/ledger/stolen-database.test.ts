import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { mint } from '../support/mint.ts'
import { type SeededClient, seedClient } from '../support/seed.ts'
import { startService, type TestService } from '../support/service.ts'

let database: TestDatabase
let service: TestService
let client: SeededClient
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService(database)
  client = await seedClient(database.sql)
  expect((await mint(service.url, client)).status).toBe(200)
})
afterAll(async () => {
  await service?.stop()
  await database?.drop()
})

/** Every row of every table, as text. */
async function dump(): Promise<string> {
  const tables = await database.sql`select tablename from pg_tables where schemaname = 'public'`
  const rows = await Promise.all(
    tables.map(({ tablename }) => database.sql`select t::text as row from ${database.sql(tablename)} t`),
  )
  return rows
    .flat()
    .map(({ row }) => row)
    .join('\n')
}

test('A64 a dump without the key-encryption key holds no secret that could be used', async () => {
  const text = await dump()
  expect(text).toContain(client.clientId)
  // Neither the key nor the part of it that is secret.
  expect(text).not.toContain(client.key)
  expect(text).not.toContain(client.key.slice(21))
  // No private member of any JWK: EC d, RSA d p q dp dq qi, symmetric k.
  expect(text).not.toMatch(/"+(d|p|q|dp|dq|qi|k)"+ *:/)
})

test('A64 F17 without the right key-encryption key an instance refuses to sign, and makes no new keys', async () => {
  const before = await database.sql`select * from signing_keys order by kid`
  await expect(startService(database, { keyEncryptionKeys: [new Uint8Array(32).fill(9)] })).rejects.toThrow(
    /does not open/,
  )
  expect(await database.sql`select * from signing_keys order by kid`).toEqual(before)
})

test('A64 a private key moved to another row does not open, and the instance refuses', async () => {
  const robbed = await createTestDatabase()
  try {
    await (await startService(robbed)).stop()
    await robbed.sql`update signing_keys s set sealed_private_jwk =
      (select o.sealed_private_jwk from signing_keys o where o.environment <> s.environment)`
    await expect(startService(robbed)).rejects.toThrow(/does not open/)
  } finally {
    await robbed.drop()
  }
})
