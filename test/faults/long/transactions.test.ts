/** Transactions under load in a process of their own, while connections end in every way and PostgreSQL is killed. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import postgres, { type Sql } from 'postgres'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { createTcpProxy, type TcpProxy } from '../../database/tcp-proxy.ts'
import {
  createPostgresServer,
  findPostgresVersions,
  type PostgresServer,
} from '../../support/postgres-server.ts'
import { createProcesses, waitFor } from '../../support/process.ts'
import type { Report } from './transaction-load.ts'

const LOAD = fileURLToPath(new URL('./transaction-load.ts', import.meta.url))
/** What transaction-load.ts gives a transaction, and as much again for a busy machine. */
const SLOWEST_MS = 2_000 + 2_000

const processes = createProcesses()
let server: PostgresServer
let proxy: TcpProxy
let sql: Sql
beforeAll(async () => {
  const [version] = await findPostgresVersions()
  if (!version) throw new Error('there is no PostgreSQL')
  server = await createPostgresServer(await processes.folder(), version.binaries)
  await server.start()
  sql = postgres(server.url('signet', 'one'), { max: 1, onnotice: () => {} })
  await sql`create table pairs (id text, part integer, primary key (id, part))`
  proxy = await createTcpProxy(Number(new URL(server.url('signet', 'one')).port))
})
afterAll(async () => {
  await sql?.end({ timeout: 1 })
  await proxy?.close()
  await server?.stop('immediate')
  await processes.cleanUp()
  await processes.close()
})

type LoadProcess = { child: ChildProcess; stop(): Promise<Report> }
let load: LoadProcess

beforeEach(async () => {
  const url = new URL(server.url('signet', 'one'))
  url.port = String(proxy.port)
  const child = spawn(process.execPath, [LOAD, url.href], { stdio: 'pipe' })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  const closed = once(child, 'close')
  load = {
    child,
    async stop() {
      child.stdin.on('error', () => {})
      child.stdin.write('stop')
      const [code, signal] = await closed
      // Unhandled errors, a lost promise: whatever ends the process says so here.
      expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' })
      return JSON.parse(stdout.split('\n')[1] ?? '')
    },
  }
  await waitFor('the load', async () => (await sql`select from pairs limit 1`).count > 0)
})
afterEach(() => {
  load?.child.kill('SIGKILL')
})

/** The load goes on well for a while; then what it was told is compared with what there is. */
async function settle() {
  const before = (await sql`select from pairs`).count
  await waitFor('transactions', async () => (await sql`select from pairs`).count > before + 100)
  const report = await load.stop()
  const rows = await sql<{ id: string; parts: number }[]>`
    select id, count(*)::integer as parts from pairs group by id`
  const there = new Set(rows.map(({ id }) => id))
  expect(report.surprises).toEqual([])
  expect(report.slowest).toBeLessThan(SLOWEST_MS)
  expect(rows.filter(({ parts }) => parts !== 2)).toEqual([])
  expect(report.committed.filter((id) => !there.has(id))).toEqual([])
  expect(report.rolledBack.filter((id) => there.has(id))).toEqual([])
  return report
}

test('300 connections end at random moments, in every way: every transaction has its outcome, none is half there', {
  timeout: 90_000,
}, async () => {
  const FAULTS = 300
  const terminate = (condition: string) => () =>
    sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'signet' and query like ${condition} order by random() limit 1`
  const ways = (['reset', 'end', 'server', 'both'] as const).map((way) => () => proxy.cut(way))
  const faults: (() => unknown)[] = [
    ...[...ways, terminate('%'), ...ways, terminate('commit'), ...ways, terminate('insert%')],
    () => proxy.cutAll(),
    async () => {
      proxy.silence()
      await sleep(Math.random() * 100)
      proxy.cutAll()
    },
  ]
  for (let n = 0; n < FAULTS; n++) {
    await waitFor('a connection', async () => proxy.size() > 0)
    await faults[n % faults.length]?.()
    await sleep(Math.random() * 15)
  }
  const report = await settle()
  console.log(
    `${FAULTS} connections cut: ${report.committed.length} committed, ${report.rolledBack.length} rolled back, ` +
      `${report.unavailable} unavailable, the slowest after ${report.slowest} ms`,
  )
  expect(report.committed.length).toBeGreaterThan(20)
})

test('PostgreSQL is killed and comes back, three times', { timeout: 90_000 }, async () => {
  let count = 0
  for (let n = 0; n < 3; n++) {
    await sleep(Math.random() * 200)
    await server.stop(n === 1 ? 'fast' : 'immediate')
    await sleep(Math.random() * 300)
    await server.start()
    await waitFor('transactions', async () => {
      const before = count
      count = (await sql`select from pairs`).count
      return count > before
    })
  }
  const report = await settle()
  expect(report.unavailable).toBeGreaterThan(0)
})
