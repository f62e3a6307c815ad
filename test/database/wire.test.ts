/** F6: connections on which nobody answers are given up by themselves; what is only slow is not. */
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { connectAsNobody, type Database, disconnect } from '../../src/database/database.ts'
import { createServers } from '../../src/database/servers.ts'
import { createTransactions } from '../../src/database/transaction.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { createTcpProxy, type TcpProxy } from './tcp-proxy.ts'

const STATEMENT_MILLISECONDS = 300

let database: TestDatabase
let proxy: TcpProxy
let pool: Database
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database?.drop())
beforeEach(async () => {
  proxy = await createTcpProxy(`${database.target.host}/.s.PGSQL.${database.target.port}`)
  pool = connectAsNobody(
    { ...database.target, host: '127.0.0.1', port: proxy.port },
    { max: 3, statementTimeoutMilliseconds: STATEMENT_MILLISECONDS },
  )
})
afterEach(async () => {
  await disconnect(pool)
  await proxy.close()
})

const ask = (on = pool) => on.execute<{ pid: number }>(sql`select pg_backend_pid() as pid`)
const outcome = (asked: Promise<unknown>) =>
  asked.then(
    () => 'answered',
    (error) => error.cause?.code ?? error.code,
  )

test('silence: what was asked fails in the time of a statement, and all connections that slept are replaced', async () => {
  const before = (await Promise.all([ask(), ask(), ask()])).map(([row]) => row?.pid)
  proxy.silence()
  const began = performance.now()
  expect(await outcome(ask())).toBe('CONNECTION_SILENT')
  expect(performance.now() - began).toBeLessThan(STATEMENT_MILLISECONDS + 700)
  // Not one after the other, at the cost of a request each.
  const after = await Promise.all([ask(), ask(), ask()])
  for (const [row] of after) expect(before).not.toContain(row?.pid)
})

test('silence in a transaction, and of a statement that waits behind another one', async () => {
  const inTransaction = createTransactions(pool, {
    deadlineMilliseconds: 5_000,
    maxPending: 1,
    maxPendingPerShare: 1,
  })
  const work = inTransaction('one', async (transaction) => {
    await transaction.execute(sql`select 1`)
    proxy.silence()
    await transaction.execute(sql`select 2`)
  })
  await expect(work).rejects.toMatchObject({ code: 'unavailable', cause: { code: 'CONNECTION_CLOSED' } })
  await Promise.all([ask(), ask(), ask()])
  proxy.silence()
  const outcomes = await Promise.all(Array.from({ length: 20 }, () => outcome(ask())))
  expect(new Set(outcomes)).toEqual(new Set(['CONNECTION_SILENT']))
  expect(await outcome(ask())).toBe('answered')
})

test('a statement that takes too long is ended by the server, and its connection goes on', async () => {
  const [before] = await ask()
  expect(await outcome(pool.execute(sql`select pg_sleep(5)`))).toBe('57014')
  const pids = (await Promise.all([ask(), ask(), ask()])).map(([row]) => row?.pid)
  expect(pids).toContain(before?.pid)
})

test('many statements on one connection, each slow, are no silence; nor is an answer in many parts', async () => {
  const one = connectAsNobody(
    { ...database.target, host: '127.0.0.1', port: proxy.port },
    { max: 1, statementTimeoutMilliseconds: STATEMENT_MILLISECONDS },
  )
  const [before] = await ask(one)
  const slow = Array.from({ length: 6 }, () => outcome(one.execute(sql`select pg_sleep(0.2)`)))
  expect(new Set(await Promise.all(slow))).toEqual(new Set(['answered']))
  const rows = await one.execute(sql`select repeat('x', 1000) as text from generate_series(1, 5000)`)
  expect(rows).toHaveLength(5000)
  expect(await ask(one)).toEqual([before])
  await disconnect(one)
})

test('a process that was not there itself takes no connection for dead', async () => {
  const [before] = await ask()
  const asked = ask()
  // The statement leaves; then nothing of this process runs for longer than an answer may take.
  await sleep(2)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STATEMENT_MILLISECONDS + 500)
  expect(await asked).toEqual([before])
})

test('what one connection learns of a newer timeline ends those to servers on an older one', () => {
  const servers = createServers('postgres://signet@a:1,b:2/signet')
  const closed: string[] = []
  const member = (name: string, timeline: number | undefined) => ({
    timeline,
    isIdleSince: () => false,
    close: (error: Error) => void closed.push(`${name}: ${'code' in error && error.code}`),
  })
  expect(servers.refuse(3)).toBeUndefined()
  servers.join(member('old', 3))
  servers.join(member('unknown', undefined))
  expect(servers.refuse(4)).toBeUndefined()
  expect(closed).toEqual(['old: CONNECTION_OUTDATED'])
  expect(servers.refuse(3)).toMatch(/is on timeline 3, and there is a newer one, 4/)
  // A server that does not say is taken as it is.
  expect(servers.refuse(undefined)).toBeUndefined()
})

test('a host that fails is the last to be tried again', () => {
  const notices: string[] = []
  const servers = createServers('postgres://u:p%40@a,b:2,[::1]:3/d%20b', {
    onNotice: (notice) => notices.push(notice),
  })
  const names = () => servers.candidates().map(({ name }) => name)
  expect(servers).toMatchObject({ username: 'u', password: 'p@', database: 'd b', sslMode: undefined })
  expect(servers.hosts.map(({ address }) => address)).toEqual([
    { host: 'a', port: 5432 },
    { host: 'b', port: 2 },
    { host: '::1', port: 3 },
  ])
  expect(names()).toEqual(['a', 'b:2', '[::1]:3'])
  const [first, second] = servers.candidates()
  if (!first || !second) throw new Error('no hosts')
  servers.failed(first, 'is a standby')
  expect(names()).toEqual(['b:2', '[::1]:3', 'a'])
  servers.reached(second)
  expect(names()).toEqual(['b:2', '[::1]:3', 'a'])
  expect(notices).toEqual(['a is a standby; the next is b:2'])
})
