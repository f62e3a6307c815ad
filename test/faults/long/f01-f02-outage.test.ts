import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createVerifier } from '#sdk'
import { newId } from '../../../src/ids.ts'
import { createKeyFormat } from '../../../src/keys/key-format.ts'
import { mint, tokenOf } from '../../support/mint.ts'
import {
  createPostgresServer,
  findPostgresVersions,
  type PostgresServer,
} from '../../support/postgres-server.ts'
import {
  answers,
  claimsOf,
  compareWithLedger,
  createProcesses,
  mintable,
  readBootstrapFile,
  startLoad,
  waitFor,
} from '../../support/process.ts'

const KEY_ENCRYPTION_KEY = Buffer.alloc(32, 7).toString('base64')
const versions = await findPostgresVersions()
console.log(`DATABASE_URL is tested with PostgreSQL ${versions.map(({ version }) => version).join(' and ')}`)

/** What goes on without the database: key set, metadata, revocation feed. */
const FROM_MEMORY = [
  '/.well-known/jwks.json',
  '/.well-known/oauth-authorization-server',
  '/oauth2/revocations',
]

const processes = createProcesses()
afterEach(processes.cleanUp)
afterAll(processes.close)

describe.each(versions)('DATABASE_URL of PostgreSQL $version', ({ binaries }) => {
  // Its folder outlives the single test.
  const cluster = createProcesses()
  let server: PostgresServer
  beforeAll(async () => {
    server = await createPostgresServer(await cluster.folder(), binaries)
  })
  afterAll(async () => {
    await server?.stop('immediate')
    await cluster.cleanUp()
  })

  const newEnvironment = async (url: string) => ({
    DATABASE_URL: url,
    KEY_ENCRYPTION_KEY,
    BOOTSTRAP_FILE: join(await processes.folder(), 'bootstrap.json'),
    ISSUER: 'https://signet.test',
  })

  test('F1: a database that is down at start is waited for; then the operator’s key opens the management API', async () => {
    const environment = await newEnvironment(server.url('signet', 'one'))
    const service = await processes.spawn(environment)
    await waitFor('/livez', answers(service.url, '/livez', 200))
    expect(await answers(service.url, '/readyz', 503)()).toBe(true)
    const stranger = {
      key: createKeyFormat('sgt').generate('sandbox').key,
      organizationId: newId('organization'),
      scopes: ['a'],
    }
    const began = performance.now()
    const refused = await mint(service.url, stranger)
    const refusedMs = Math.round(performance.now() - began)
    expect(refused.status).toBe(503)
    expect(refused.headers.get('retry-after')).toMatch(/^\d+$/)
    expect(refusedMs).toBeLessThan(3000)

    await server.start()
    const readyMs = await waitFor('/readyz', answers(service.url, '/readyz', 200))
    console.log(`F1: 503 after ${refusedMs} ms; ready ${readyMs} ms after PostgreSQL`)

    await service.ready
    const { operator, demo } = await readBootstrapFile(environment.BOOTSTRAP_FILE)
    expect(demo).toBeUndefined()
    await waitFor('the key', async () => service.stdout().includes(operator.key))
    expect(service.stdout()).not.toContain('sgt_test_')
    const { token } = await tokenOf(
      await mint(service.url, { ...mintable(operator), scopes: ['signet:keys:read'] }),
    )
    expect(claimsOf(token)).toMatchObject({ iss: 'https://signet.test', aud: 'https://signet.test' })
    const verifier = createVerifier({
      issuer: 'https://signet.test',
      audience: 'https://signet.test',
      jwksUri: `${service.url}/.well-known/jwks.json`,
    })
    await verifier.verify(token, { scopes: ['signet:keys:read'] })

    expect(await service.stop()).toBe(0)
    for (const secret of [server.password, KEY_ENCRYPTION_KEY])
      expect(service.stdout() + service.stderr()).not.toContain(secret)
  })

  test('F2: an outage is answered with 503 at once, what is in memory goes on, and minting returns by itself', async () => {
    await server.start()
    const url = server.url('signet', 'two')
    const sql = postgres(url, { max: 1, connection: { 'signet.platform': 'on' } })
    const environment = { ...(await newEnvironment(url)), LOG_LEVEL: 'fatal' }
    const service = await processes.start(environment)
    const { operator } = await readBootstrapFile(environment.BOOTSTRAP_FILE)
    const client = { ...mintable(operator), scopes: ['signet:keys:read'] }
    await sql`update clients set rate_limit_per_minute = 1000000000`
    await sql.end()

    const load = startLoad(service.url, client)
    await waitFor('tokens', async () => load.received.length > 20)
    const [blindMs] = await Promise.all([
      waitFor('503', async () => load.statuses.has(503)),
      server.stop('immediate'),
    ])
    const outage = startLoad(service.url, client, 4)
    for (let i = 0; i < 20; i++) {
      const answered = (
        await Promise.all(FROM_MEMORY.map((path) => answers(service.url, path, 200)()))
      ).every(Boolean)
      if (!answered) await sleep(500) // Then it may have ended: that is the better message.
      expect(service.state()).toBe('running')
      expect(answered).toBe(true)
      await sleep(50)
    }
    await waitFor('/readyz', answers(service.url, '/readyz', 503))
    await outage.stop()
    expect([...outage.statuses.keys()]).toEqual([503])
    // One second is promised; the rest is for a busy machine.
    expect(outage.slowest()).toBeLessThan(2000)

    const returned = load.received.length
    await server.start()
    const backMs = await waitFor('tokens', async () => load.received.length > returned, 10_000)
    await sleep(300)
    await load.stop()
    expect([...load.surprises, ...outage.surprises]).toEqual([])
    expect(load.slowest()).toBeLessThan(3000)
    console.log(
      `F2: first 503 after ${blindMs} ms, slowest answer of the outage ${outage.slowest()} ms, ` +
        `first token ${backMs} ms after PostgreSQL; ${load.received.length} tokens compared`,
    )
    const ledger = postgres(url, { max: 1, connection: { 'signet.platform': 'on' } })
    const { compared, ...found } = await compareWithLedger(ledger, load.received)
    await ledger.end()
    expect(compared).toBeGreaterThan(returned)
    expect(found).toEqual({ lost: [], doubled: [], receivedTwice: 0 })
    const began = performance.now()
    expect(await service.stop()).toBe(0)
    console.log(`F2: stopped in ${Math.round(performance.now() - began)} ms`)
  })

  test('a role that is a superuser is refused, before anything is created', async () => {
    await server.start()
    const url = server.url('postgres', 'unsafe')
    const service = await processes.spawn(await newEnvironment(url))
    expect((await service.exited).code).toBe(1)
    expect(service.stderr()).toContain('The database role "postgres" is a superuser')
    expect(service.stdout()).toBe('')
    const sql = postgres(url, { max: 1 })
    const tables = await sql`
      select from pg_class join pg_namespace n on n.oid = relnamespace
      where nspname not in ('pg_catalog', 'information_schema', 'pg_toast')`
    await sql.end()
    expect(tables.count).toBe(0)
  })
})
