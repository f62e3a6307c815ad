import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import {
  claimSocketFolder,
  createCluster,
  handOver,
  prepareDataDir,
  socketFolder,
} from './embedded-folders.ts'
import {
  isPostmaster,
  type Launch,
  launchPostmaster,
  PORT,
  recordedPostmaster,
  type Server,
  shutDown,
} from './embedded-postmaster.ts'
import {
  chooseAccount,
  describe,
  EmbeddedPostgresError,
  hasCode,
  loadBinaries,
  USE_A_SERVER,
} from './embedded-program.ts'

export { EmbeddedPostgresError }

type Address<User extends string> = {
  /** The folder of the Unix socket: postgres.js takes it as a host. */
  readonly host: string
  /** Only part of the socket's name: nothing listens on TCP. */
  readonly port: number
  readonly username: User
  readonly database: User
}

export type EmbeddedPostgres = {
  /** Who the service is: neither a superuser nor able to bypass row-level security. */
  readonly connection: Address<'signet'>
  /** For the launcher and for tests. */
  readonly superuser: Address<'postgres'>
  /** The postmaster's. */
  readonly pid: number
  /** Close your pools first. The last process on the data folder shuts PostgreSQL down; the others only leave it. */
  stop(): Promise<void>
}

export type EmbeddedPostgresOptions = {
  readonly dataDir: string
  /** Processes that will connect. */
  readonly workers?: number
  /** false turns fsync off: for tests. */
  readonly durable?: boolean
  readonly onNotice?: (message: string) => void
  /** For tests of what this machine is not. */
  readonly loadPackage?: (name: string) => Promise<unknown>
  readonly unshareCommand?: string
}

const START_TIMEOUT_MS = 30_000
const RELAUNCH_TIMEOUT_MS = 10_000
const POLL_MS = 10
const ANSWER_TIMEOUT_MS = 5_000
const LEAVE_TIMEOUT_MS = 1_000

/** How the launchers' own sessions are told from the service's. */
const LAUNCHER = 'signet-embedded'
/** An advisory lock that each launcher shares while its process uses the server, and holds alone to shut it down. */
const IN_USE = 0x516e6574

/**
 * Starts the embedded PostgreSQL 18 on `<dataDir>/postgres`, or joins the one that already serves it: left behind by
 * a killed process, or shared with a living one. It listens on a Unix socket in a private folder and nowhere else.
 *
 * @throws {EmbeddedPostgresError} with a message to act on
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  try {
    return await joinOrLaunch(options)
  } catch (error) {
    if (error instanceof EmbeddedPostgresError) throw error
    throw new EmbeddedPostgresError(
      `The embedded PostgreSQL cannot be started in ${options.dataDir}: ${describe(error)}. Set DATA_DIR to a folder ` +
        `that belongs to this user and has room. ${USE_A_SERVER}`,
      { cause: error },
    )
  }
}

async function joinOrLaunch(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { durable = true, workers = 1, onNotice = () => {} } = options
  const binaries = await loadBinaries(options.loadPackage)
  const dataDir = await prepareDataDir(options.dataDir)
  const cluster = join(dataDir, 'postgres')
  const account = await chooseAccount(cluster, binaries, options.unshareCommand)
  const host = socketFolder(dataDir, account.uid)
  await claimSocketFolder(host, account)
  const server: Server = {
    cluster,
    host,
    log: join(dataDir, 'postgres.log'),
    binaries,
    account,
    durable,
    workers,
  }

  const startedAt = performance.now()
  let launch: Launch | undefined
  let prepared = false
  for (;;) {
    const waitedMs = performance.now() - startedAt
    const attempt = await joinServer(server, START_TIMEOUT_MS - waitedMs)
    if (attempt.state === 'joined') return embeddedPostgres(server, attempt, onNotice)
    if (waitedMs > START_TIMEOUT_MS) throw neverReady(server, attempt.reason)

    const recorded = await recordedPostmaster(cluster)
    // A postmaster that is coming up or going down, whoever started it: there can be only one, so wait for it.
    const wait = attempt.state === 'busy' || launch?.running() || recorded?.alive
    if (!wait) {
      const tryAgain = waitedMs < RELAUNCH_TIMEOUT_MS && (await launch?.lostRace())
      if (launch && !tryAgain) throw await launch.failure()
      if (!prepared) {
        await handOver(dataDir, host, account)
        await createCluster(dataDir, binaries, account, durable)
        prepared = true
      }
      launch = await launchPostmaster(server, recorded?.pid)
    }
    await sleep(POLL_MS)
  }
}

type Joined = { readonly state: 'joined'; readonly pid: number; readonly session: Session }
type Attempt = Joined | { readonly state: 'absent' | 'busy'; readonly reason: string }

/** Connects to the live server, makes sure that it serves our folder, and counts us among its users. */
async function joinServer(server: Server, timeoutMs: number): Promise<Attempt> {
  const session = openSession(server.host)
  try {
    const running = await within(timeoutMs, identify(session, server))
    if (!running) {
      await session.close()
      // It was stopped as we asked, or its folder was removed beneath it: it then ends itself within a minute.
      return { state: 'busy', reason: `the server on the socket in ${server.host} serves another folder` }
    }
    const { pid, fsync } = running
    if (server.durable && fsync === 'off') {
      throw new EmbeddedPostgresError(
        `The PostgreSQL that already serves ${server.cluster} (pid ${pid}) was started without fsync, for tests: ` +
          'a crash of the machine could lose what it confirms. Stop it first.',
      )
    }
    // Waits while another launcher shuts the server down, and then fails with it: we start anew.
    await within(timeoutMs, session.sql`select pg_advisory_lock_shared(${IN_USE})`)
    session.unref()
    return { state: 'joined', pid, session }
  } catch (error) {
    await session.close()
    if (error instanceof EmbeddedPostgresError) throw error
    if (hasCode(error, 'EACCES', 'EPERM')) throw error
    const state = hasCode(error, 'ENOENT', 'ECONNREFUSED') ? 'absent' : 'busy'
    return { state, reason: describe(error) }
  }
}

/** Asks the server itself which folder it serves, so that no name, mount or stale file can deceive us. */
async function identify(
  session: Session,
  server: Server,
): Promise<{ pid: number; fsync: string } | undefined> {
  const [row] = await session.sql<{ pid_file: string | null; fsync: string }[]>`
    select pg_read_file('postmaster.pid', true) as pid_file, current_setting('fsync') as fsync`
  const theirs = row?.pid_file ?? ''
  const ours = await readFile(join(server.cluster, 'postmaster.pid'), 'utf8').catch(() => '')
  // Its first lines are pid, folder and time of start; a later one changes as the server comes up.
  const identity = (pidFile: string) => pidFile.split('\n', 3).join('\n')
  if (!row || ours === '' || identity(theirs) !== identity(ours)) return undefined
  return { pid: Number.parseInt(theirs, 10), fsync: row.fsync }
}

function neverReady(server: Server, reason: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `The embedded PostgreSQL did not accept connections within ${START_TIMEOUT_MS / 1000} s (${reason}). It may ` +
      `still be recovering from a crash: see ${server.log}, and start again. ${USE_A_SERVER}`,
  )
}

function embeddedPostgres(
  server: Server,
  { pid, session }: Joined,
  onNotice: (message: string) => void,
): EmbeddedPostgres {
  let stopped: Promise<void> | undefined
  return {
    connection: { host: server.host, port: PORT, username: 'signet', database: 'signet' },
    superuser: superuser(server.host),
    pid,
    stop: () => {
      stopped ??= leave(server, session, onNotice)
      return stopped
    },
  }
}

async function leave(server: Server, session: Session, onNotice: (message: string) => void): Promise<void> {
  try {
    session.ref()
    // Connects anew if the server was killed: someone may have started another since.
    const running = await within(ANSWER_TIMEOUT_MS, identify(session, server))
    if (!running) return
    const others =
      (await within(ANSWER_TIMEOUT_MS, findOthers(session))) ?? (await outOfReach(running.pid, server))
    if (others) onNotice(`The embedded PostgreSQL (pid ${running.pid}) stays up: ${others}.`)
    else await shutDown(running.pid, server)
  } catch (error) {
    if (error instanceof EmbeddedPostgresError) throw error
    // A drain must not fail because the database was down already.
    if (!hasCode(error, 'ENOENT', 'ECONNREFUSED', 'ESRCH'))
      onNotice(`The embedded PostgreSQL may stay up: ${describe(error)}.`)
  } finally {
    await session.close()
  }
}

/** On a shared volume the postmaster may belong to another container, where its pid is another process's than here. */
async function outOfReach(pid: number, { cluster }: Server): Promise<string | undefined> {
  return (await isPostmaster(pid, cluster)) ? undefined : 'its process is not to be seen from here'
}

/**
 * Who else uses the server, in words. When there is no one, we hold the lock alone from here on: a launcher that
 * arrives now waits for the shutdown, and starts the server again.
 */
async function findOthers({ sql }: Session): Promise<string | undefined> {
  // First ours, then all: of two that leave at once, one is the last.
  await sql`select pg_advisory_unlock_shared(${IN_USE})`
  const [lock] = await sql<{ alone: boolean }[]>`select pg_try_advisory_lock(${IN_USE}) as alone`
  if (!lock?.alone) return 'another process works with it'

  const giveUp = performance.now() + LEAVE_TIMEOUT_MS
  for (;;) {
    const [clients] = await sql<{ count: number }[]>`
      select count(*)::int as count from pg_stat_activity
      where backend_type = 'client backend' and application_name <> ${LAUNCHER}`
    if (clients?.count === 0) return undefined
    // Sessions that were closed a moment ago are still listed.
    if (performance.now() > giveUp) return `it has open sessions (${clients?.count})`
    await sleep(POLL_MS)
  }
}

function superuser(host: string): Address<'postgres'> {
  return { host, port: PORT, username: 'postgres', database: 'postgres' }
}

/** One connection as superuser, opened by its first query. It counts for the server as long as our process lives. */
type Session = { readonly sql: postgres.Sql; ref(): void; unref(): void; close(): Promise<void> }

function openSession(host: string): Session {
  let socket: Socket | undefined
  const sql = postgres({
    ...superuser(host),
    // A socket of our own making, because postgres.js cannot unref its.
    socket: async () => {
      socket = connect(`${host}/.s.PGSQL.${PORT}`)
      await once(socket, 'connect')
      return socket
    },
    max: 1,
    ssl: false,
    connect_timeout: ANSWER_TIMEOUT_MS / 1000,
    idle_timeout: 0,
    max_lifetime: null,
    fetch_types: false,
    connection: { application_name: LAUNCHER },
    onnotice: () => {},
  } as postgres.Options<Record<string, never>>)
  return {
    sql,
    ref: () => socket?.ref(),
    unref: () => socket?.unref(),
    close: async () => {
      await sql.end({ timeout: 0 })
      socket?.destroy()
    },
  }
}

async function within<T>(timeoutMs: number, promise: PromiseLike<T>): Promise<T> {
  const { promise: expired, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(
    () => reject(new Error('the embedded PostgreSQL does not answer')),
    Math.max(0, timeoutMs),
  )
  try {
    return await Promise.race([promise, expired])
  } finally {
    clearTimeout(timer)
  }
}
