import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { mint } from '../support/mint.ts'
import { seedClient, seedOrganization } from '../support/seed.ts'
import { startService, type TestService } from '../support/service.ts'

let database: TestDatabase
let services: TestService[]
beforeAll(async () => {
  database = await createTestDatabase()
  services = []
  for (let i = 0; i < 4; i++) services.push(await startService(database, { logLevel: 'silent' }))
})
afterAll(async () => {
  for (const service of services ?? []) await service.stop()
  await database?.drop()
})

/**
 * Whoever holds a leaked key must not be able to put off its revocation by using it. With row locks that admissions
 * share, three instances could keep a change waiting for ten seconds and more; here it is served in its turn.
 */
test.each(['keys', 'clients', 'organizations', 'signing_keys'] as const)(
  'a change of %s is not kept waiting by a flood of admissions that depend on it',
  async (table) => {
    const client = await seedClient(database.sql, { organizationId: await seedOrganization(database.sql) })
    let isGoing = true
    let minted = 0
    const flood = Array.from({ length: 24 }, async (_, n) => {
      while (isGoing) {
        const response = await mint(services[n % services.length]?.url ?? '', client)
        await response.body?.cancel()
        if (response.status === 200) minted++
      }
    })
    try {
      while (minted < 200) await new Promise((resolve) => setTimeout(resolve, 10))
      for (let i = 0; i < 5; i++) {
        const before = minted
        await database.sql.begin(async (transaction) => {
          await transaction`set local statement_timeout = '5s'`
          const change = {
            keys: transaction`update keys set revocation_reason = 'changed' where id = ${client.keyId}`,
            clients: transaction`update clients set name = 'changed' where id = ${client.clientId}`,
            organizations: transaction`update organizations set name = 'changed' where id = ${client.organizationId}`,
            signing_keys: transaction`update signing_keys set alg = alg where environment = 'sandbox'`,
          }[table]
          expect((await change).count).toBe(1)
        })
        // In its turn: behind what was under way, not behind what came later.
        expect(minted - before).toBeLessThan(24 * 10)
      }
    } finally {
      isGoing = false
      await Promise.all(flood)
    }
  },
  60_000,
)

test('a change of very many rows at once finds room for its locks', async () => {
  const organizationId = await seedOrganization(database.sql)
  await database.sql`insert into clients (id, organization_id, name, environment, scopes, status)
    select 'cli_many_' || n, ${organizationId}, 'many', 'sandbox', '{}', 'active' from generate_series(1, 20000) n`
  const changed =
    await database.sql`update clients set name = 'changed' where organization_id = ${organizationId}`
  expect(changed.count).toBe(20_000)
})
