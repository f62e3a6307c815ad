import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { mint } from '../support/mint.ts'
import { type SeededClient, seedClient, seedDelegation, seedOrganization } from '../support/seed.ts'
import { startService, type TestService } from '../support/service.ts'

let database: TestDatabase
let one: TestService
let other: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  one = await startService(database, { logLevel: 'fatal' })
  other = await startService(database, { logLevel: 'fatal' })
})
afterAll(async () => {
  await one?.stop()
  await other?.stop()
  await database?.drop()
})

async function status(service: TestService, client: SeededClient): Promise<number> {
  const response = await mint(service.url, client)
  await response.body?.cancel()
  return response.status
}

/** Rows share 2,048 locks: one whose rows do not share the one of `held`. */
async function seedClientApartFrom(held: SeededClient): Promise<SeededClient> {
  for (;;) {
    const client = await seedClient(database.sql)
    const [row] = await database.sql`select policy_lock(${held.clientId}) in
      (policy_lock(${client.clientId}), policy_lock(${client.organizationId})) as shared`
    if (!row?.shared) return client
  }
}

/** On both instances, so that each remembers everything that the token depends on. */
async function warm(client: SeededClient) {
  for (const service of [one, other]) expect(await status(service, client)).toBe(200)
}

describe('a change of policy refuses the very next exchange on an instance that had it cached', () => {
  test('the key is revoked', async () => {
    const client = await seedClient(database.sql)
    await warm(client)
    await database.sql`update keys set revoked_at = now() where id = ${client.keyId}`
    expect(await status(other, client)).toBe(401)
    expect(await status(one, client)).toBe(401)
  })

  test('the key expires, by the clock of the database', async () => {
    const client = await seedClient(database.sql)
    await warm(client)
    await database.sql`update keys set expires_at = now() where id = ${client.keyId}`
    expect(await status(other, client)).toBe(401)
  })

  test('the key is deleted', async () => {
    const client = await seedClient(database.sql)
    await warm(client)
    await database.sql`delete from keys where id = ${client.keyId}`
    expect(await status(other, client)).toBe(401)
  })

  test.each([
    ['suspended', 403],
    ['revoked', 401],
    ['pending_approval', 403],
  ] as const)('the client is %s, and active again', async (clientStatus, expected) => {
    const client = await seedClient(database.sql)
    await warm(client)
    await database.sql`update clients set status = ${clientStatus} where id = ${client.clientId}`
    expect(await status(other, client)).toBe(expected)
    await database.sql`update clients set status = 'active' where id = ${client.clientId}`
    expect(await status(other, client)).toBe(200)
  })

  test('the client loses a scope, and gets another', async () => {
    const client = await seedClient(database.sql)
    await warm(client)
    await database.sql`update clients set scopes = '{person:write}' where id = ${client.clientId}`
    expect(await status(other, client)).toBe(403)
    await database.sql`update clients set scopes = '{transactions:read,person:write}' where id = ${client.clientId}`
    expect(await status(other, client)).toBe(200)
  })

  test('the organization is suspended', async () => {
    const client = await seedClient(database.sql)
    await warm(client)
    await database.sql`update organizations set status = 'suspended' where id = ${client.organizationId}`
    expect(await status(other, client)).toBe(403)
  })

  test.each(['delegation paused', 'delegation deleted', 'organization suspended', 'partner suspended'])(
    'of a partner: %s',
    async (what) => {
      const organizationId = await seedOrganization(database.sql, 'Delegating')
      const partner = await seedClient(database.sql, { kind: 'partner' })
      const delegationId = await seedDelegation(database.sql, {
        organizationId,
        partnerId: partner.organizationId,
      })
      const client = { ...partner, organizationId }
      await warm(client)
      if (what === 'delegation paused')
        await database.sql`update delegations set status = 'paused' where id = ${delegationId}`
      else if (what === 'delegation deleted')
        await database.sql`delete from delegations where id = ${delegationId}`
      else {
        const suspended = what === 'organization suspended' ? organizationId : partner.organizationId
        await database.sql`update organizations set status = 'suspended' where id = ${suspended}`
      }
      expect(await status(other, client)).toBe(403)
    },
  )

  test('the signing key is revoked: no token bears it afterwards', async () => {
    const lonely = await createTestDatabase()
    const service = await startService(lonely, { logLevel: 'fatal' })
    try {
      const client = await seedClient(lonely.sql)
      expect(await status(service, client)).toBe(200)
      await lonely.sql`update signing_keys set revoked_at = now() where environment = 'sandbox'`
      expect(await status(service, client)).toBe(503)
      // It is out of the key set too, and the other environment has not noticed.
      expect(await (await fetch(`${service.url}/sandbox/.well-known/jwks.json`)).json()).toEqual({ keys: [] })
      expect(await status(service, await seedClient(lonely.sql, { environment: 'production' }))).toBe(200)
    } finally {
      await service.stop()
      await lonely.drop()
    }
  })
})

describe('around a revocation', () => {
  test('of 10,000 concurrent attempts on two instances, none is admitted after the commit', async () => {
    const client = await seedClient(database.sql)
    await warm(client)
    const ATTEMPTS = 10_000
    let started = 0
    let answered = 0
    let afterCommit = Number.POSITIVE_INFINITY
    const counts = new Map<number, number>()
    let lateTokens = 0

    const worker = async (n: number) => {
      while (started < ATTEMPTS) {
        const attempt = started++
        const got = await status(n % 2 === 0 ? one : other, client)
        answered++
        counts.set(got, (counts.get(got) ?? 0) + 1)
        if (attempt > afterCommit && got === 200) lateTokens++
      }
    }
    const workers = Array.from({ length: 48 }, (_, n) => worker(n))
    while (answered < ATTEMPTS / 3) await new Promise((resolve) => setTimeout(resolve, 5))

    // What the ledger held once the update had committed, read in one snapshot after it.
    await database.sql`update keys set revoked_at = now() where id = ${client.keyId}`
    afterCommit = started
    const ledgered = async () =>
      (await database.sql`select count(*)::integer as n from issued_tokens where key_id = ${client.keyId}`)[0]
        ?.n
    const atCommit = await ledgered()
    await Promise.all(workers)

    expect(lateTokens).toBe(0)
    // Not even of those that were under way: whoever is admitted holds the row until it has committed.
    expect(await ledgered()).toBe(atCommit)
    expect(counts.get(200)).toBe(atCommit - 2)
    expect(counts.get(401)).toBeGreaterThan(ATTEMPTS / 4)
    expect([...counts.keys()].every((code) => [200, 401, 503].includes(code))).toBe(true)
  }, 60_000)

  test('a revocation waits for the admission that it comes too late to stop', async () => {
    const client = await seedClient(database.sql, { audience: 'urn:slow' })
    await warm(client)
    const recorded = async () =>
      (await database.sql`select count(*)::integer as n from issued_tokens where key_id = ${client.keyId}`)[0]
        ?.n
    await database.sql.unsafe(`
      create function slowly() returns trigger language plpgsql as
        $$ begin perform pg_sleep(0.3); return new; end $$;
      create trigger slowly before insert on issued_tokens for each row when (new.audience = 'urn:slow')
        execute function slowly()`)
    try {
      const slow = status(one, client)
      await new Promise((resolve) => setTimeout(resolve, 120))
      await database.sql`update keys set revoked_at = now() where id = ${client.keyId}`
      const atCommit = await recorded()
      expect(await slow).toBe(200)
      expect(atCommit).toBe(3)
      expect(await recorded()).toBe(3)
    } finally {
      await database.sql.unsafe('drop trigger slowly on issued_tokens; drop function slowly')
    }
  })

  test('an exchange waits for the revocation that is under way, and is refused by it', async () => {
    const client = await seedClient(database.sql)
    await warm(client)
    const { answer } = await database.sql.begin(async (transaction) => {
      await transaction`update keys set revoked_at = now() where id = ${client.keyId}`
      const answer = status(one, client)
      await new Promise((resolve) => setTimeout(resolve, 150))
      return { answer }
    })
    expect(await answer).toBe(401)
  })

  test('who is changing a key holds up that key only, and is waited for', async () => {
    const held = await seedClient(database.sql)
    const free = await seedClientApartFrom(held)
    await warm(held)
    await warm(free)
    const changing = database.sql.begin(async (transaction) => {
      await transaction`update keys set revocation_reason = 'just a note' where id = ${held.keyId}`
      const waiting = status(one, held)
      for (let i = 0; i < 20; i++) expect(await status(one, free)).toBe(200)
      await new Promise((resolve) => setTimeout(resolve, 50))
      return { waiting }
    })
    expect(await (await changing).waiting).toBe(200)
  })
})
