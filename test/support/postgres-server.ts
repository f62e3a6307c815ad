/** A PostgreSQL server of the test's own, for DATABASE_URL: on 127.0.0.1, to be stopped and started at will. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir } from 'node:fs/promises'
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
  /** Resolves once it accepts connections. */
  start(): Promise<void>
  /** As pg_ctl stop -m does it. */
  stop(mode: 'fast' | 'immediate'): Promise<void>
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

  const port = await findFreePort()
  const url: PostgresServer['url'] = (role, database) =>
    `postgres://${role}:${PASSWORD}@127.0.0.1:${port}/${database}`
  let server: ChildProcess | undefined
  const isRunning = () => server !== undefined && server.exitCode === null && server.signalCode === null
  return {
    url,
    password: PASSWORD,
    async start() {
      if (isRunning()) return
      const { command, commandArgs, options } = commandLine(account, binaries.postgres, [
        ...['-D', cluster, '-F', '-p', String(port)],
        ...['-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories='],
        // Not in /dev/shm, where an immediate shutdown could leave something.
        ...['-c', 'dynamic_shared_memory_type=mmap'],
      ])
      server = spawn(command, commandArgs, { ...options, stdio: 'ignore' })
      await waitFor('PostgreSQL', async () => {
        const sql = postgres(url('signet', 'one'), { max: 1, connect_timeout: 1 })
        return sql`select 1`
          .then(
            () => true,
            () => false,
          )
          .finally(() => sql.end({ timeout: 1 }))
      })
    },
    async stop(mode) {
      if (!server || !isRunning()) return
      server.kill(mode === 'fast' ? 'SIGINT' : 'SIGQUIT')
      await once(server, 'exit')
    },
  }
}
