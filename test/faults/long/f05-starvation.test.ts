/** A63, F5: whoever floods or hangs what is for managing holds up themselves: not the mint, not the others. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, describe, expect, onTestFinished, test } from 'vitest'
import { validate } from '../../keys/calls.ts'
import { connectTo } from '../../support/database.ts'
import { apiOfOperator, createTenant, tokenFor } from '../../support/management.ts'
import { mint } from '../../support/mint.ts'
import { waitFor } from '../../support/process.ts'
import { seedClient } from '../../support/seed.ts'
import { setUpService } from '../../support/service.ts'

const { database, service } = await setUpService()
const operator = await apiOfOperator(service)
const tenant = await createTenant(service, database.sql)
const bystander = await createTenant(service, database.sql)
const { organization_id: platformId, key: operatorKey } = service.operator ?? { organization_id: '', key: '' }

type Asked = { status: number; retryAfter: string | null }

/**
 * Asks so many times at once, each again as soon as it is answered, until it is told to end; says what the answers were.
 * What is refused pauses: this process is the service's, too, and has more to do than to refuse.
 */
function flood(parallel: number, ask: (n: number) => Promise<Asked>) {
  const counts = new Map<number, number>()
  let isOver = false
  const over = Promise.withResolvers<void>()
  let asked = 0
  const count = (status: number) => counts.get(status) ?? 0
  async function askOn() {
    while (!isOver) {
      const { status, retryAfter } = await ask(asked++)
      counts.set(status, count(status) + 1)
      if (status === 503) expect(retryAfter).toBe('1')
      if (status >= 400 && !isOver) await Promise.race([sleep(500), over.promise])
    }
  }
  const all = Promise.all(Array.from({ length: parallel }, askOn))
  async function end() {
    isOver = true
    over.resolve()
    await all
    return counts
  }
  onTestFinished(async () => void (await end()))
  return { count, end }
}

const askedOf = ({ status, headers }: { status: number; headers: Headers }): Asked => ({
  status,
  retryAfter: headers.get('retry-after'),
})

describe('A63 F5 changes that wait for a lock that nobody lets go', () => {
  const blocker = connectTo(database.target)
  afterAll(() => blocker.end())

  /** How many connections wait for a lock. */
  async function waiting(): Promise<number> {
    const [row] = await database.sql`
      select count(*)::integer as n from pg_stat_activity
      where wait_event_type = 'Lock' and datname = ${database.target.database}`
    return row?.n
  }

  /** While it lasts, no change can write its audit event: it waits until the time of its statement is over. */
  async function block() {
    const held = Promise.withResolvers<void>()
    const locked = Promise.withResolvers<void>()
    const blocking = blocker.begin(async (sql) => {
      await sql`lock table audit_events in access exclusive mode`
      locked.resolve()
      await held.promise
    })
    await Promise.race([locked.promise, blocking])
    async function unblock() {
      held.resolve()
      await blocking
    }
    onTestFinished(unblock)
    return unblock
  }

  const createClient = () =>
    tenant.api.post(`/v2/organizations/${tenant.client.organizationId}/clients`, {
      name: 'Slow',
      environment: 'sandbox',
      scopes: ['a:read'],
    })

  test('with all connections: minting goes on, they end unavailable by themselves, and all is well again', async () => {
    const unblock = await block()
    const floods = [
      flood(30, async (n) => askedOf(await operator.post('/v2/organizations', { name: `Slow ${n}` }))),
      flood(30, async () => askedOf(await createClient())),
    ]
    await waitFor('all four connections', async () => (await waiting()) === 4)
    for (let n = 0; n < 20; n++) {
      expect((await mint(service.url, tenant.client)).status).toBe(200)
      // A token for the very client whose requests hang, too.
      await tokenFor(service.url, { organizationId: platformId, key: operatorKey })
    }
    expect((await fetch(`${service.url}/readyz`)).status).toBe(200)
    // The lock is still held: it is the time limits that ended them.
    for (const hanging of floods) await waitFor('an end', async () => hanging.count(503) > 0)
    for (const hanging of floods) expect([...(await hanging.end()).keys()]).toEqual([503])
    await unblock()

    expect((await database.sql`select from organizations where name like 'Slow %'`).count).toBe(0)
    expect((await database.sql`select from clients where name = 'Slow'`).count).toBe(0)
    expect((await operator.post('/v2/organizations', { name: 'Quick' })).status).toBe(201)
    expect((await createClient()).status).toBe(201)
  })

  test('of one tenant: what another asks for is answered at the same time', async () => {
    const unblock = await block()
    const hanging = flood(300, async () => askedOf(await createClient()))
    await waitFor('all that it may have', async () => (await waiting()) === 3)
    for (let n = 0; n < 20; n++) {
      expect((await bystander.api.get('/v2/organizations')).status).toBe(200)
      expect((await operator.get('/v2/organizations')).status).toBe(200)
    }
    // There is one connection that it did not get, and never would.
    expect(await waiting()).toBeLessThanOrEqual(3)
    expect([...(await hanging.end()).keys()]).toEqual([503])
    await unblock()
    expect((await createClient()).status).toBe(201)
  })
})

test('A63 who holds a leaked key cannot keep it from being revoked, nor can a tenant that floods', async () => {
  const client = await seedClient(database.sql)
  const { organizationId } = tenant.client
  let leaked = { id: client.keyId, key: client.key }
  const floods = {
    key: flood(300, async () => {
      const { status, headers } = await validate(service.url, leaked.key)
      return { status, retryAfter: String(headers['retry-after'] ?? null) }
    }),
    tenant: flood(150, async (n) =>
      askedOf(
        n % 2
          ? await tenant.api.get('/v2/organizations')
          : await tenant.api.patch(`/v2/organizations/${organizationId}`, { name: `Flood ${n}` }),
      ),
    ),
  }
  // Both have asked for more than they may have waiting.
  for (const each of Object.values(floods)) await waitFor('the flood', async () => each.count(503) > 0)

  const outcomes: unknown[] = []
  for (let round = 0; round < 10; round++) {
    const created = await operator.post<typeof leaked>(`/v2/clients/${client.clientId}/keys`)
    const valid = floods.key.count(200)
    leaked = created.body
    await waitFor('the flood with this key', async () => floods.key.count(200) > valid)
    const before = await mint(service.url, { ...client, key: leaked.key })
    const revoked = await operator.post(`/v2/keys/${leaked.id}/revoke`)
    const after = await mint(service.url, { ...client, key: leaked.key })
    outcomes.push([created.status, before.status, revoked.status, after.status])
  }
  expect(outcomes).toEqual(Array(10).fill([201, 200, 200, 401]))
  const [ofKey, ofTenant] = [await floods.key.end(), await floods.tenant.end()]
  expect([...ofKey.keys()].toSorted()).toEqual([200, 401, 503])
  expect([...ofTenant.keys()].toSorted()).toEqual([200, 503])
})
