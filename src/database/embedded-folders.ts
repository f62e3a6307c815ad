import { hash } from 'node:crypto'
import { chmod, lchown, lstat, mkdir, mkdtemp, open, readdir, realpath, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type Account,
  type Binaries,
  EmbeddedPostgresError,
  exists,
  hasCode,
  runProgram,
  USE_A_SERVER,
  withHint,
} from './embedded-program.ts'

const COPY_PREFIX = 'postgres.new-'

/** Makes the data folder, closed to others, and returns its real path: two names for it must mean one server. */
export async function prepareDataDir(dataDir: string): Promise<string> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  return realpath(dataDir)
}

/**
 * The folder of the socket, whose path may have 107 bytes on Linux and 103 on macOS, and no comma, at which postgres.js
 * would split it. Not os.tmpdir(): that comes from the environment, and two processes must find the same folder.
 */
export function socketFolder(dataDir: string, uid: number): string {
  const folder = join(dataDir, 'run')
  if (Buffer.byteLength(`${folder}/.s.PGSQL.5432`) <= 103 && !folder.includes(',')) return folder
  return `/tmp/signet-${hash('sha256', `${uid}:${dataDir}`).slice(0, 20)}`
}

/**
 * Makes the folder, or makes sure that an existing one is PostgreSQL's and closed to others. In /tmp anyone may have
 * made it first, and would then own the path to our database.
 */
export async function claimSocketFolder(folder: string, account: Account): Promise<void> {
  await mkdir(folder, { mode: 0o700 }).catch((error) => {
    if (!hasCode(error, 'EEXIST')) throw error
  })
  const found = await lstat(folder)
  const ours = found.uid === account.uid || (account.switchTo !== undefined && found.uid === 0)
  if (!found.isDirectory() || !ours || (found.mode & 0o077) !== 0) {
    throw new EmbeddedPostgresError(
      `${folder}, the folder of the embedded PostgreSQL's socket, is not a folder that belongs to user ` +
        `${account.uid} and is closed to others. Someone else may have made it: look into that, and remove it.`,
    )
  }
  if (account.switchTo) await lchown(folder, account.uid, account.gid)
}

/**
 * Makes the cluster at `<dataDir>/postgres` unless it is there: as a copy beside it, complete with our role and our
 * database, that appears under its name in one step. Killed half-way or run twice at once, it leaves nothing broken.
 */
export async function createCluster(
  dataDir: string,
  binaries: Binaries,
  account: Account,
  durable: boolean,
): Promise<void> {
  const cluster = join(dataDir, 'postgres')
  if (!(await exists(join(cluster, 'PG_VERSION')))) {
    const copy = await mkdtemp(join(dataDir, COPY_PREFIX))
    try {
      if (account.switchTo) await lchown(copy, account.uid, account.gid)
      await fillCluster(copy, binaries, account, durable)
      await rename(copy, cluster)
      if (durable) await syncFolder(dataDir)
    } catch (error) {
      // Another process was faster, and may have swept our copy away.
      if (!(await exists(join(cluster, 'PG_VERSION')))) throw error
    }
  }
  // Now that there is a cluster, every copy is a loser's or a dead process's.
  for (const name of await readdir(dataDir)) {
    if (name.startsWith(COPY_PREFIX)) {
      await rm(join(dataDir, name), { recursive: true, force: true }).catch(() => {}) // The next start tries again.
    }
  }
}

async function fillCluster(
  folder: string,
  binaries: Binaries,
  account: Account,
  durable: boolean,
): Promise<void> {
  const initdb = await runProgram(account, binaries.initdb, [
    ...['-D', folder, '--username=postgres', '--encoding=UTF8', '--no-locale'],
    ...['--auth-local=trust', '--auth-host=reject', '--no-instructions'],
    // Not /dev/shm: it has 64 MB in a container, systemd empties it as users log out, and a kill -9 leaves its own there.
    ...['-c', 'dynamic_shared_memory_type=mmap'],
    ...(durable ? [] : ['--no-sync']),
  ])
  if (initdb.code !== 0) throw creationFailed(initdb.output)

  // Single-user mode, one statement a line: no one can connect before the role and the database are there.
  const sql = [
    'CREATE ROLE signet LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION',
    'CREATE DATABASE signet OWNER signet',
  ]
  const args = ['--single', '-D', folder, '-c', `fsync=${durable ? 'on' : 'off'}`, 'postgres']
  const roles = await runProgram(account, binaries.postgres, args, sql.map((line) => `${line};\n`).join(''))
  if (roles.code !== 0 || /\b(ERROR|FATAL|PANIC):/.test(roles.output)) throw creationFailed(roles.output)
}

function creationFailed(output: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `The embedded PostgreSQL could not make its data folder. ${USE_A_SERVER}\n${withHint(output)}`,
  )
}

/**
 * Makes sure that PostgreSQL's user gets through to its folders, and hands root's cluster to that user. The cluster's
 * own folder comes last, so that a run that was cut short is noticed and done again.
 */
export async function handOver(dataDir: string, socketDir: string, account: Account): Promise<void> {
  const { mode, uid } = await lstat(dataDir)
  // Entering is not reading: the unprivileged user must pass through root's folder.
  if (account.switchTo && uid === 0) await chmod(dataDir, (mode & 0o777) | 0o011)
  const test = ['-c', 'test -x "$1" && test -w "$2"', 'sh', dataDir, socketDir]
  if ((await runProgram(account, 'sh', test)).code !== 0) {
    throw new EmbeddedPostgresError(
      `PostgreSQL refuses to run as root, and as user ${account.uid} without root's privileges it cannot enter ` +
        `${dataDir}. Run Signet as an ordinary user, or set DATA_DIR to a folder whose parents others may enter. ` +
        USE_A_SERVER,
    )
  }
  const cluster = join(dataDir, 'postgres')
  const found = await lstat(cluster).catch(() => undefined)
  if (!account.switchTo || found?.uid !== 0) return
  // lchown, and only ever from root's 0700 folder: no one else can have put a link into it.
  for (const entry of await readdir(cluster, { recursive: true })) {
    await lchown(join(cluster, entry), account.uid, account.gid)
  }
  await lchown(cluster, account.uid, account.gid)
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path)
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
