/** A PostgreSQL server of the test's own, for DATABASE_URL: on 127.0.0.1, to be stopped and started at will. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import postgres from 'postgres'
import {
  type Account,
  type Binaries,
  chooseAccount,
  commandLine,
  exists,
  loadBinaries,
  runProgram,
} from '../../src/database/embedded-program.ts'
import { findFreePort, waitFor } from './process.ts'

const PASSWORD = 'a-password-that-no-log-may-hold'

export type PostgresVersion = { version: string; binaries: Binaries }

export type PostgresServer = {
  /** The role `signet`, which is no superuser, owns the first two databases. */
  url(role: 'signet' | 'postgres', database: 'one' | 'two' | 'unsafe'): string
  password: string
  port: number
  /** Its data. */
  cluster: string
  /** Resolves once it accepts connections. `settings` go on the command line. */
  start(settings?: Record<string, string>): Promise<void>
  /** As pg_ctl stop -m does it. */
  stop(mode: 'fast' | 'immediate'): Promise<void>
  /** SIGSTOP to all of its processes, or to those that serve connections: sockets stay open, and nobody answers. */
  freeze(which?: 'all' | 'backends'): Promise<void>
  thaw(): Promise<void>
  /** A server that follows this one, which is stopped for the copy, and is not started. */
  createStandby(folder: string, applicationName: string): Promise<PostgresServer>
  /** Of a standby: it becomes a primary, on a new timeline. Resolves once it takes writes. */
  promote(): Promise<void>
}

/** The npm packages' PostgreSQL, and those of other versions that the system has. */
export async function findPostgresVersions(): Promise<PostgresVersion[]> {
  const folders = (await readdir('/usr/lib/postgresql').catch(() => [])).map(
    (name) => `/usr/lib/postgresql/${name}/bin`,
  )
  const found = new Map<string, Binaries>()
  for (const binaries of [
    await loadBinaries(),
    ...folders.map((folder) => ({ postgres: join(folder, 'postgres'), initdb: join(folder, 'initdb') })),
  ]) {
    if (!(await exists(binaries.postgres)) || !(await exists(binaries.initdb))) continue
    const { output } = await runProgram({ prefix: [] }, binaries.postgres, ['--version'])
    const version = output.match(/\d+(\.\d+)?/)?.[0] ?? output
    if (!found.has(version)) found.set(version, binaries)
  }
  return [...found].map(([version, binaries]) => ({ version, binaries }))
}

export async function createPostgresServer(folder: string, binaries: Binaries): Promise<PostgresServer> {
  const cluster = join(folder, 'cluster')
  await mkdir(cluster, { mode: 0o700 })
  const account: Account = await chooseAccount(cluster, binaries)
  if (account.switchTo) throw new Error('this test needs unshare --user to run PostgreSQL as root')
  const run = async (program: string, args: string[], input?: string) => {
    const { code, output } = await runProgram(account, program, args, input)
    if (code !== 0) throw new Error(output)
  }
  await run(binaries.initdb, [
    ...['-D', cluster, '--username=postgres', '--encoding=UTF8', '--no-locale', '--no-sync'],
    ...['--auth-local=trust', '--auth-host=scram-sha-256'],
  ])
  const statements = [
    `ALTER ROLE postgres PASSWORD '${PASSWORD}'`,
    `CREATE ROLE signet LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD '${PASSWORD}'`,
    'CREATE DATABASE one OWNER signet',
    'CREATE DATABASE two OWNER signet',
    'CREATE DATABASE unsafe',
  ]
  await run(
    binaries.postgres,
    ['--single', '-D', cluster, '-F', 'postgres'],
    statements.map((statement) => `${statement};\n`).join(''),
  )

  return serverOf({ cluster, account, binaries, port: await findFreePort() })
}

function serverOf(options: {
  cluster: string
  account: Account
  binaries: Binaries
  port: number
}): PostgresServer {
  const { cluster, account, binaries, port } = options
  const url: PostgresServer['url'] = (role, database) =>
    `postgres://${role}:${PASSWORD}@127.0.0.1:${port}/${database}`
  let server: ChildProcess | undefined
  const frozen: number[] = []
  const isRunning = () => server !== undefined && server.exitCode === null && server.signalCode === null
  async function asks<T>(work: (sql: postgres.Sql) => Promise<T>): Promise<T | undefined> {
    const sql = postgres(url('signet', 'one'), { max: 1, connect_timeout: 1, onnotice: () => {} })
    return work(sql)
      .catch(() => undefined)
      .finally(() => sql.end({ timeout: 1 }))
  }

  async function stop(mode: 'fast' | 'immediate'): Promise<void> {
    if (!server || !isRunning()) return
    thaw()
    server.kill(mode === 'fast' ? 'SIGINT' : 'SIGQUIT')
    await once(server, 'exit')
  }

  function thaw(): void {
    for (const pid of frozen.splice(0)) send(pid, 'SIGCONT')
  }

  return {
    url,
    password: PASSWORD,
    port,
    cluster,
    async start(settings = {}) {
      if (isRunning()) return
      const { command, commandArgs, options } = commandLine(account, binaries.postgres, [
        ...['-D', cluster, '-F', '-p', String(port)],
        ...['-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories='],
        // Not in /dev/shm, where an immediate shutdown could leave something.
        ...['-c', 'dynamic_shared_memory_type=mmap'],
        ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
      ])
      server = spawn(command, commandArgs, { ...options, stdio: 'ignore' })
      await waitFor('PostgreSQL', async () => (await asks((sql) => sql`select 1`)) !== undefined)
    },
    stop,
    async freeze(which = 'all') {
      const postmaster = server?.pid ?? 0
      if (which === 'all') {
        frozen.push(postmaster)
        send(postmaster, 'SIGSTOP')
      }
      for (const pid of await childrenOf(postmaster)) {
        const title = await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')
        if (which === 'backends' && !title.includes('signet')) continue
        frozen.push(pid)
        send(pid, 'SIGSTOP')
      }
    },
    async thaw() {
      thaw()
    },
    async createStandby(folder, applicationName) {
      await stop('fast')
      const copy = join(folder, 'cluster')
      await cp(cluster, copy, { recursive: true, preserveTimestamps: true })
      const standby = serverOf({ ...options, cluster: copy, port: await findFreePort() })
      await writeFile(join(copy, 'standby.signal'), '')
      await appendFile(
        join(copy, 'postgresql.auto.conf'),
        `primary_conninfo = 'host=127.0.0.1 port=${port} user=postgres password=${PASSWORD} application_name=${applicationName}'\n`,
      )
      return standby
    },
    async promote() {
      // As pg_ctl promote does it.
      await writeFile(join(cluster, 'promote'), '')
      server?.kill('SIGUSR1')
      await waitFor('a primary', async () => {
        const rows = await asks((sql) => sql`select pg_is_in_recovery() as is_standby`)
        return rows?.[0]?.is_standby === false
      })
    },
  }
}

/** One that has ended in the meantime has no need of it. */
function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {}
}

async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return text.trim().split(' ').filter(Boolean).map(Number)
}
