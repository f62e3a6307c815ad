/** Real processes of src/main.ts, to be killed and started again; nothing of them is left behind. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, realpath, rm, statfs } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import postgres, { type Sql } from 'postgres'
import type { Bootstrapped, BootstrappedClient } from '../../src/bootstrap.ts'
import { startEmbeddedPostgres } from '../../src/database/embedded.ts'
import { recordedPostmaster } from '../../src/database/embedded-postmaster.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
/** Generous: other tests share the machine. */
const PATIENCE_MS = 30_000

export type ServiceProcess = {
  url: string
  issuer: string
  port: number
  pid: number
  stdout(): string
  stderr(): string
  /** Whether its process is there, and what it said last if not. */
  state(): string
  /** Resolves once it has said that it is ready; rejects when it ends before. */
  ready: Promise<void>
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  /** SIGTERM, and its exit code. */
  stop(): Promise<number | null>
  /** SIGKILL, and the end. */
  kill(): Promise<void>
}

export type Environment = Record<string, string>

export type Processes = {
  /** A folder that is removed with the rest. */
  folder(): Promise<string>
  /** A DATA_DIR that has a cluster but nothing in it yet: that is most of the time of a first start. */
  dataDir(): Promise<string>
  /** Without waiting for anything. */
  spawn(environment: Environment): Promise<ServiceProcess>
  /** Waits until it is ready. */
  start(environment: Environment, nodeArguments?: readonly string[]): Promise<ServiceProcess>
  /** After each test: ends what still runs, embedded postmasters too, and removes the folders. */
  cleanUp(): Promise<void>
  /** After all tests. */
  close(): Promise<void>
}

export function createProcesses(): Processes {
  const services: ServiceProcess[] = []
  const folders: string[] = []
  let template: Promise<string> | undefined

  async function folder(): Promise<string> {
    const path = await newFolder()
    folders.push(path)
    return path
  }

  async function spawnService(
    environment: Environment,
    nodeArguments: readonly string[] = [],
  ): Promise<ServiceProcess> {
    const service = await spawnMain(environment, nodeArguments)
    services.push(service)
    return service
  }

  return {
    folder,
    async dataDir() {
      template ??= newFolder().then(async (path) => {
        await (await startEmbeddedPostgres({ dataDir: join(path, 'data') })).stop()
        return path
      })
      const path = await folder()
      const copy = spawn('cp', ['-a', join(await template, 'data'), join(path, 'data')], { stdio: 'inherit' })
      const [code] = await once(copy, 'close')
      if (code !== 0) throw new Error('the template was not copied')
      return join(path, 'data')
    },
    spawn: spawnService,
    async start(environment, nodeArguments) {
      const service = await spawnService(environment, nodeArguments)
      await service.ready
      return service
    },
    async cleanUp() {
      await Promise.all(services.splice(0).map((service) => service.kill()))
      for (const path of folders.splice(0)) {
        for (const dataDir of [path, join(path, 'data')]) await stopPostmaster(dataDir)
        await rm(path, { recursive: true, force: true, maxRetries: 3 })
      }
    },
    async close() {
      if (template) await rm(await template, { recursive: true, force: true })
    },
  }
}

async function spawnMain(
  environment: Environment,
  nodeArguments: readonly string[],
): Promise<ServiceProcess> {
  const port = Number(environment.PORT ?? (await findFreePort()))
  const child: ChildProcess = spawn(process.execPath, [...nodeArguments, MAIN], {
    env: { PATH: process.env.PATH ?? '', PORT: String(port), DRAIN_GRACE_SECONDS: '0', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  const ready = Promise.withResolvers<void>()
  const timer = setTimeout(() => ready.reject(new Error(`not ready in time:\n${stderr}`)), PATIENCE_MS)
  timer.unref()
  child.stdout?.on('data', (chunk) => {
    stdout += chunk
    if (stdout.includes('Signet is ready at ')) ready.resolve()
  })
  child.stderr?.on('data', (chunk) => {
    stderr += chunk
  })
  // 'close', not 'exit': by then all that it printed has arrived.
  const exited = once(child, 'close').then(([code, signal]) => {
    clearTimeout(timer)
    ready.reject(new Error(`ended (${code ?? signal}) before it was ready:\n${stderr}`))
    return { code, signal }
  })
  ready.promise.catch(() => {}) // Not everyone waits for it.

  const send = (signal: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    return exited
  }
  return {
    url: `http://127.0.0.1:${port}`,
    issuer: environment.ISSUER ?? `http://localhost:${port}`,
    port,
    pid: child.pid ?? -1,
    stdout: () => stdout,
    stderr: () => stderr,
    state: () =>
      child.exitCode === null && child.signalCode === null ? 'running' : `ended: ${stderr.slice(-2000)}`,
    ready: ready.promise,
    exited,
    stop: async () => (await send('SIGTERM')).code,
    kill: async () => void (await send('SIGKILL')),
  }
}

/** In memory where there is room: processes are killed here, not machines. */
async function newFolder(): Promise<string> {
  const memory = await statfs('/dev/shm').catch(() => undefined)
  const roomy = memory !== undefined && memory.bavail * memory.bsize > 2 ** 31
  return realpath(await mkdtemp(join(roomy ? '/dev/shm' : tmpdir(), 'signet-process-')))
}

export async function findFreePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  if (typeof address !== 'object' || !address) throw new Error('no port')
  return address.port
}

/** The processes that serve for a supervisor. */
export async function workerPids(supervisor: number): Promise<number[]> {
  const list = spawn('ps', ['-A', '-o', 'pid=,ppid=,args='], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  for await (const chunk of list.stdout) output += chunk
  return output.split('\n').flatMap((line) => {
    const [pid, parent] = line.trim().split(/\s+/)
    return Number(parent) === supervisor && line.includes(MAIN) ? [Number(pid)] : []
  })
}

/** The pid of the embedded postmaster that serves the folder, if there is one. */
export async function postmasterPid(dataDir: string): Promise<number | undefined> {
  const recorded = await recordedPostmaster(join(dataDir, 'postgres'))
  return recorded?.alive ? recorded.pid : undefined
}

/** It outlives a kill -9 of the service: whoever joins it and leaves as the last stops it. */
async function stopPostmaster(dataDir: string): Promise<void> {
  if ((await postmasterPid(dataDir)) !== undefined) await (await startEmbeddedPostgres({ dataDir })).stop()
}

/** Works on the embedded database as the service's role, beside the service or without it. */
export async function withDatabase<T>(dataDir: string, work: (sql: Sql) => Promise<T>): Promise<T> {
  const embedded = await startEmbeddedPostgres({ dataDir })
  const sql = postgres({
    ...embedded.connection,
    max: 1,
    onnotice: () => {},
    connection: { 'signet.platform': 'on' },
  })
  try {
    return await work(sql)
  } finally {
    await sql.end()
    await embedded.stop()
  }
}

export const readBootstrapFile = async (path: string): Promise<Bootstrapped> =>
  JSON.parse(await readFile(path, 'utf8'))

/** The demo client of a first start, and the form in which test/support/mint.ts takes clients. */
export async function readDemo(path: string) {
  const { demo } = await readBootstrapFile(path)
  if (!demo) throw new Error('there is no demo client')
  return mintable(demo)
}

export const mintable = (client: BootstrappedClient) => ({
  organizationId: client.organization_id,
  clientId: client.client_id,
  keyId: client.key_id,
  key: client.key,
  scopes: client.scopes,
})

export const claimsOf = (token: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())

export async function waitFor(what: string, holds: () => Promise<boolean>, patienceMs = PATIENCE_MS) {
  const began = performance.now()
  while (!(await holds())) {
    if (performance.now() - began > patienceMs) throw new Error(`waited in vain for: ${what}`)
    await sleep(20)
  }
  return Math.round(performance.now() - began)
}

export const answers = (url: string, path: string, status: number) => async () =>
  (await fetch(url + path).catch(() => undefined))?.status === status

export type Load = {
  /** The jti of every token that arrived whole. */
  received: string[]
  /** How many answers there were of each status; 0 stands for a connection that failed. */
  statuses: Map<number, number>
  /** The longest wait for an answer, milliseconds. */
  slowest(): number
  /** Answers of 503 without Retry-After, and other surprises. */
  surprises: string[]
  stop(): Promise<void>
}

/** Mints in parallel loops until it is stopped, whatever happens to the service; with a pause between two of a loop. */
export function startLoad(
  url: string,
  client: { organizationId: string; key: string; scopes: string[] },
  parallel = 8,
  pauseMs = 0,
): Load {
  const received: string[] = []
  const statuses = new Map<number, number>()
  const surprises: string[] = []
  let slowest = 0
  let stopped = false

  async function mintOnce(): Promise<number> {
    const response = await fetch(`${url}/v2/auth/token`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${client.key}`, 'Content-Type': 'application/json' },
      body: JSON.stringify({
        scopes: { organization_id: client.organizationId, scopes: client.scopes.slice(0, 2) },
      }),
      signal: AbortSignal.timeout(PATIENCE_MS),
    })
    const text = await response.text()
    if (response.status === 200) received.push(String(claimsOf(JSON.parse(text).token).jti))
    else if (response.status !== 503 || !response.headers.has('retry-after'))
      surprises.push(`${response.status} ${text}`)
    return response.status
  }

  async function mintOn(): Promise<void> {
    while (!stopped) {
      const began = performance.now()
      const status = await mintOnce().catch(() => 0)
      slowest = Math.max(slowest, performance.now() - began)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
      const pauseNow = status === 200 ? pauseMs : Math.max(10, pauseMs)
      if (pauseNow > 0) await sleep(pauseNow)
    }
  }

  const loops = Array.from({ length: parallel }, mintOn)
  return {
    received,
    statuses,
    slowest: () => Math.round(slowest),
    surprises,
    async stop() {
      stopped = true
      await Promise.all(loops)
    },
  }
}

/** What of the tokens that clients hold is not in the ledger exactly once. */
export async function compareWithLedger(sql: Sql, received: readonly string[]) {
  const rows = await sql<{ jti: string; count: number }[]>`
    select jti, count(*)::int as count from issued_tokens where jti = any (${received as string[]}) group by jti`
  const recorded = new Map(rows.map(({ jti, count }) => [jti, count]))
  return {
    lost: received.filter((jti) => !recorded.has(jti)),
    doubled: rows.filter(({ count }) => count > 1).map(({ jti }) => jti),
    compared: received.length,
    receivedTwice: received.length - new Set(received).size,
  }
}

/** What compareWithLedger finds where all is well, beside how many it compared. */
export const NOTHING_WRONG = { lost: [], doubled: [], receivedTwice: 0 }

export type Prepared = {
  environment: Environment
  dataDir: string
  service: ServiceProcess
  demo: Awaited<ReturnType<typeof readDemo>>
}

/** A first start, and the demo client without a rate limit that could be felt. */
export async function startUnlimited(
  processes: Processes,
  more: Environment = {},
  nodeArguments?: readonly string[],
): Promise<Prepared> {
  const dataDir = await processes.dataDir()
  const bootstrapFile = join(dataDir, '../bootstrap.json')
  const environment = { DATA_DIR: dataDir, BOOTSTRAP_FILE: bootstrapFile, LOG_LEVEL: 'warn', ...more }
  const service = await processes.start(environment, nodeArguments)
  const demo = await readDemo(bootstrapFile)
  await withDatabase(
    dataDir,
    (sql) => sql`update clients set rate_limit_per_minute = 1000000000 where id = ${demo.clientId}`,
  )
  return { environment, dataDir, service, demo }
}
