import { type ChildProcess, spawn } from 'node:child_process'
import { open, readFile } from 'node:fs/promises'
import { platform } from 'node:os'
import { join } from 'node:path'
import { kill } from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type Account,
  type Binaries,
  commandLine,
  EmbeddedPostgresError,
  ENVIRONMENT,
  lastLines,
  runProgram,
  USE_A_SERVER,
  withHint,
} from './embedded-program.ts'

/** Only part of the socket's name: nothing listens on TCP. */
export const PORT = 5432
const CONNECTIONS_OF_A_WORKER = 25
const POLL_MS = 10
const FAST_SHUTDOWN_MS = 10_000
const IMMEDIATE_SHUTDOWN_MS = 5_000
const LOG_LIMIT_BYTES = 10 * 1024 * 1024

export type Server = {
  readonly cluster: string
  readonly host: string
  readonly log: string
  readonly binaries: Binaries
  readonly account: Account
  readonly durable: boolean
  readonly workers: number
}

export type Launch = {
  running(): boolean
  /** Ended because there was another postmaster, or what one that was killed had left. */
  lostRace(): Promise<boolean>
  failure(): Promise<EmbeddedPostgresError>
}

export async function launchPostmaster(server: Server, stalePid: number | undefined): Promise<Launch> {
  const log = await open(server.log, 'a', 0o600)
  let child: ChildProcess
  let logStart: number
  let spawnError: Error | undefined
  try {
    await log.chmod(0o600)
    if (server.account.switchTo) await log.chown(server.account.uid, server.account.gid)
    if ((await log.stat()).size > LOG_LIMIT_BYTES) await log.truncate()
    logStart = (await log.stat()).size

    const { command, commandArgs, options } = commandLine(server.account, server.binaries.postgres, [
      ...['-D', server.cluster],
      ...Object.entries(settings(server)).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ])
    child = spawn(command, commandArgs, {
      ...options,
      // PostgreSQL takes any process with the pid of its lock file for a postmaster, unless it is its grandparent.
      // We know that this one is not; removing the file ourselves could hit that of a faster rival.
      env: { ...ENVIRONMENT, ...(stalePid && { PG_GRANDPARENT_PID: String(stalePid) }) },
      // Its own session: Ctrl-C reaches us alone, and PostgreSQL is there until we have drained.
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
    })
  } finally {
    await log.close()
  }
  child.on('error', (error) => {
    spawnError = error
  })
  child.unref()

  const ownLog = async () => (await readFile(server.log)).subarray(logStart).toString()
  return {
    running: () => child.pid !== undefined && child.exitCode === null && child.signalCode === null,
    lostRace: async () => /lock file .* already exists|is still in use/.test(await ownLog()),
    failure: async () =>
      new EmbeddedPostgresError(
        `The embedded PostgreSQL ended as it started (${server.log}). ${USE_A_SERVER}\n` +
          withHint(spawnError?.message ?? lastLines(await ownLog())),
      ),
  }
}

function settings({ host, durable, workers }: Server): Record<string, string> {
  const safe = durable ? 'on' : 'off'
  return {
    listen_addresses: '',
    port: String(PORT),
    unix_socket_directories: `"${host.replaceAll('"', '""')}"`,
    unix_socket_permissions: '0700',
    fsync: safe,
    synchronous_commit: safe,
    full_page_writes: safe,
    // One that is left running may be joined by more processes than it was started for.
    max_connections: String(Math.max(100, 35 + CONNECTIONS_OF_A_WORKER * workers)),
    shared_buffers: '128MB',
    jit: 'off',
    // Errors name statements and values in these two: secrets do not belong into a log.
    log_min_error_statement: 'panic',
    log_error_verbosity: 'terse',
    log_checkpoints: 'off',
  }
}

/** The process that postmaster.pid names, and whether it is this cluster's postmaster or a stranger, or gone. */
export async function recordedPostmaster(
  cluster: string,
): Promise<{ pid: number; alive: boolean } | undefined> {
  const file = await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => '')
  const pid = Number.parseInt(file, 10)
  return Number.isInteger(pid) && pid > 0 ? { pid, alive: await isPostmaster(pid, cluster) } : undefined
}

export async function isPostmaster(pid: number, cluster: string): Promise<boolean> {
  // Its environment and working directory are closed to root in a container; its command line never is.
  const command =
    platform() === 'linux'
      ? (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ')
      : (await runProgram({ prefix: [] }, 'ps', ['-ww', '-o', 'args=', '-p', String(pid)])).output
  return command.includes(`postgres -D ${cluster} `)
}

export async function shutDown(pid: number, { cluster, log }: Server): Promise<void> {
  // PostgreSQL's fast shutdown, and its immediate one: from that it recovers at the next start, losing nothing.
  for (const [signal, patienceMs] of [
    ['SIGINT', FAST_SHUTDOWN_MS],
    ['SIGQUIT', IMMEDIATE_SHUTDOWN_MS],
  ] as const) {
    kill(pid, signal)
    const giveUp = performance.now() + patienceMs
    while (performance.now() < giveUp) {
      if (!(await isPostmaster(pid, cluster))) return
      await sleep(POLL_MS)
    }
  }
  throw new EmbeddedPostgresError(`The embedded PostgreSQL (pid ${pid}) does not shut down: see ${log}.`)
}
