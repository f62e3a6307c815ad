/**
 * F4: fail-over from a primary, which is then still there and takes writes, to its standby. Both are servers of the
 * test's own, with streaming replication; DATABASE_URL names both.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { apiWith, tokenFor } from '../../support/management.ts'
import { mint } from '../../support/mint.ts'
import {
  createPostgresServer,
  findPostgresVersions,
  type PostgresServer,
} from '../../support/postgres-server.ts'
import { compareWithLedger, createProcesses, startLoad, waitFor } from '../../support/process.ts'
import { type SeededClient, seedClient } from '../../support/seed.ts'
import { startService, type TestService } from '../../support/service.ts'

const processes = createProcesses()
const versions = await findPostgresVersions()

describe.each(versions)('PostgreSQL $version', ({ binaries }) => {
  let primary: PostgresServer
  let standby: PostgresServer
  const services: TestService[] = []
  beforeEach(async () => {
    primary = await createPostgresServer(await processes.folder(), binaries)
    standby = await primary.createStandby(await processes.folder(), 'standby')
  })
  afterEach(async () => {
    await Promise.all([primary?.thaw(), standby?.thaw()])
    await Promise.all(services.splice(0).map((service) => service.stop()))
    await standby?.stop('immediate')
    await primary?.stop('immediate')
    await processes.cleanUp()
  })

  const both = (first: PostgresServer, second: PostgresServer) =>
    `${first.url('signet', 'one').replace(/\/one$/, '')},127.0.0.1:${second.port}/one?target_session_attrs=read-write`
  async function start(url: string): Promise<TestService> {
    const service = await startService({ target: url as never }, { logLevel: 'warn' })
    services.push(service)
    return service
  }
  async function on<T>(server: PostgresServer, work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
    const sql = postgres(server.url('signet', 'one'), {
      max: 2,
      onnotice: () => {},
      connection: { 'signet.platform': 'on' },
    })
    return work(sql).finally(() => sql.end({ timeout: 1 }))
  }
  const replicating = (server: PostgresServer, state: string) => async () => {
    const sql = postgres(server.url('postgres', 'one'), { max: 1, onnotice: () => {} })
    const rows =
      await sql`select from pg_stat_replication where sync_state = ${state} and state = 'streaming'`.finally(
        () => sql.end(),
      )
    return rows.count === 1
  }
  const statusOf = async (service: TestService, client: SeededClient) =>
    (await mint(service.url, client)).status
  const readiness = async (service: TestService) => (await fetch(`${service.url}/readyz`)).status
  async function revoke(
    service: TestService,
    operator: { organization_id: string; key: string },
    client: SeededClient,
  ) {
    const token = await tokenFor(service.url, { organizationId: operator.organization_id, key: operator.key })
    return (await apiWith(service.url, token).post(`/v2/keys/${client.keyId}/revoke`)).status
  }

  test('F4 synchronous replication: no token and no revocation is lost, and the old primary lets nothing out', async () => {
    await primary.start()
    await standby.start()
    // The other way round, so that it has to find out which one takes writes.
    const one = await start(both(standby, primary))
    const operator = one.operator
    if (!operator) throw new Error('no operator')
    await waitFor('replication', replicating(primary, 'async'))
    await primary.stop('fast')
    await primary.start({ synchronous_standby_names: 'standby' })
    await waitFor('synchronous replication', replicating(primary, 'sync'))
    const [client, doomed] = await on(primary, async (sql) => [await seedClient(sql), await seedClient(sql)])
    if (!client || !doomed) throw new Error('no clients')
    // Sees the old primary only, whatever happens.
    const isolated = await start(primary.url('signet', 'one'))
    for (const service of [one, isolated])
      for (const each of [client, doomed])
        await waitFor('a token', async () => (await statusOf(service, each)) === 200)

    const load = startLoad(one.url, client, 4)
    await waitFor('tokens', async () => load.received.length > 50)
    await primary.freeze()
    const frozenAt = performance.now()
    await standby.promote()
    const promotedAt = performance.now()
    const before = load.received.length
    await waitFor('writes on the new one', async () => load.received.length > before)
    const backMs = Math.round(performance.now() - promotedAt)
    await waitFor('management', async () => (await revoke(one, operator, doomed).catch(() => 0)) === 200)
    expect(await statusOf(one, doomed)).toBe(401)

    await primary.thaw()
    // It is up, writable, and knows nothing of the revocation; but it waits for a standby that has left.
    for (let n = 0; n < 10; n++) {
      expect(await statusOf(isolated, doomed)).toBe(503)
      expect(await statusOf(one, doomed)).toBe(401)
      expect(await statusOf(one, client)).toBe(200)
    }
    await load.stop()
    expect(load.surprises).toEqual([])
    expect(load.slowest()).toBeLessThan(2_000)
    const { compared, ...found } = await on(standby, (sql) => compareWithLedger(sql, load.received))
    expect(found).toEqual({ lost: [], doubled: [], receivedTwice: 0 })
    console.log(
      `F4: writes ${backMs} ms after the promotion, ${Math.round(promotedAt - frozenAt) + backMs} ms after the freeze; slowest answer ` +
        `${load.slowest()} ms; ${compared} tokens compared with the new primary`,
    )
  })

  test('F4 asynchronous replication: who has seen the new timeline never goes back to the old one', async () => {
    await primary.start()
    await standby.start()
    const one = await start(both(primary, standby))
    const operator = one.operator
    if (!operator) throw new Error('no operator')
    const [client, doomed] = await on(primary, async (sql) => [await seedClient(sql), await seedClient(sql)])
    if (!client || !doomed) throw new Error('no clients')
    await waitFor('a token', async () => (await statusOf(one, doomed)) === 200)
    await waitFor('replication', replicating(primary, 'async'))
    await waitFor('the clients', () =>
      on(standby, async (sql) => (await sql`select from keys where id = ${doomed.keyId}`).count === 1),
    )
    await primary.freeze()
    await standby.promote()
    await waitFor('the revocation', async () => (await revoke(one, operator, doomed).catch(() => 0)) === 200)
    expect(await statusOf(one, client)).toBe(200)

    // The old one is back, and lets out whatever it is asked for; the new one falls silent.
    await primary.thaw()
    expect(
      (await on(primary, (sql) => sql`select from keys where id = ${doomed.keyId} and revoked_at is null`))
        .count,
    ).toBe(1)
    await standby.freeze()
    const statuses = new Set<number>()
    for (const until = performance.now() + 4_000; performance.now() < until; await sleep(50)) {
      statuses.add(await statusOf(one, doomed))
      statuses.add(await statusOf(one, client))
    }
    expect([...statuses].toSorted()).toEqual([503])
    expect(await readiness(one)).toBe(503)
    const recorded = (sql: postgres.Sql) => sql`select from issued_tokens where request_id is not null`
    const onOld = (await on(primary, recorded)).count
    expect(one.logs.join('')).toMatch(/is on timeline 1, and there is a newer one, 2/)

    await standby.thaw()
    await waitFor('a token', async () => (await statusOf(one, client)) === 200)
    expect(await statusOf(one, doomed)).toBe(401)
    expect((await on(primary, recorded)).count).toBe(onOld)
  })
})
