/** A server of a script's own, with its own PostgreSQL in a temporary folder: started, stopped, and gone afterwards. */
import { strictEqual } from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Bootstrapped } from '../src/bootstrap.ts'
import { recordedPostmaster } from '../src/database/embedded-postmaster.ts'

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url))
const PATIENCE_MS = 30_000
/** Characters of a server’s log that are shown when it failed: the last ones. */
const LOG_SHOWN = 4_000

export type Launch = {
  /** More variables of the environment, and others than its own. */
  environment?: Record<string, string>
  /** Of node itself: before the program. */
  nodeArguments?: readonly string[]
}

export type Instance = { url: string; pid: number; stderr(): string }

export type ThrowawayServer = {
  url: string
  /** Of its embedded PostgreSQL. */
  dataDir: string
  start(launch?: Launch): Promise<Instance>
  /** Another instance of the same service, on the same database. `stop` stops it too. */
  startAnother(launch?: Launch): Promise<Instance>
  stop(): Promise<void>
  /** What the first start handed over. */
  bootstrapped(): Promise<Bootstrapped>
}

/**
 * Runs `work` with such a server, which `work` starts. Ends the process: with 0 when `work` succeeded, else with 1, the
 * reason and the server's log. An interruption cleans up too.
 */
export async function withThrowawayServer(work: (server: ThrowawayServer) => Promise<void>): Promise<never> {
  const folder = await mkdtemp(join(tmpdir(), 'signet-script-'))
  const dataDir = join(folder, 'data')
  const bootstrapFile = join(folder, 'bootstrap.json')
  const port = await findFreePort()
  const url = `http://localhost:${port}`
  let children: ChildProcess[] = []
  let log = ''
  let isEnding = false

  async function launch(
    ownPort: number,
    { environment, nodeArguments = [] }: Launch = {},
  ): Promise<Instance> {
    if (isEnding) throw new Error('it is ending')
    const started = spawn(process.execPath, [...nodeArguments, MAIN], {
      // Nothing else of the environment: a script must not touch a database that DATABASE_URL names.
      env: {
        DATA_DIR: dataDir,
        BOOTSTRAP_FILE: bootstrapFile,
        PORT: String(ownPort),
        ISSUER: url,
        LOG_LEVEL: 'warn',
        ...environment,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    children.push(started)
    const ready = Promise.withResolvers<void>()
    const timer = setTimeout(() => ready.reject(new Error('the server did not become ready')), PATIENCE_MS)
    let printed = ''
    let ownLog = ''
    started.stdout.on('data', (chunk) => {
      printed += chunk
      if (printed.includes('Signet is ready')) ready.resolve()
    })
    started.stderr.on('data', (chunk) => {
      log += chunk
      ownLog += chunk
    })
    started.once('exit', (code) => ready.reject(new Error(`the server ended with exit code ${code}`)))
    await ready.promise.finally(() => clearTimeout(timer))
    return { url: `http://localhost:${ownPort}`, pid: started.pid ?? 0, stderr: () => ownLog }
  }

  async function stop(): Promise<void> {
    const stopping = children
    children = []
    for (const each of stopping.toReversed()) await stopOne(each)
  }

  async function stopOne(stopping: ChildProcess): Promise<void> {
    if (stopping.exitCode !== null || stopping.signalCode !== null) return
    stopping.kill('SIGTERM')
    const timer = setTimeout(() => stopping.kill('SIGKILL'), PATIENCE_MS)
    const [code] = await once(stopping, 'exit')
    clearTimeout(timer)
    strictEqual(code, 0, `the server ended with exit code ${code}`)
  }

  async function cleanUp(): Promise<void> {
    isEnding = true
    // Work that was interrupted goes on, and loses its servers: nobody is left to hear of that.
    for (const event of ['uncaughtException', 'unhandledRejection'] as const) process.on(event, () => {})
    await stop().catch((error) => console.error(String(error)))
    // A server that was killed leaves its PostgreSQL behind, and one of ours with an open connection stays up. What they
    // hold is thrown away with them.
    for (const name of await readdir(folder)) await endPostmaster(join(folder, name, 'postgres'))
    await rm(folder, { recursive: true, force: true })
  }

  const interrupted = Promise.withResolvers<never>()
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => interrupted.reject(new Error('it was interrupted')))
  try {
    const bootstrapped = async () => JSON.parse(await readFile(bootstrapFile, 'utf8')) as Bootstrapped
    await Promise.race([
      work({
        url,
        dataDir,
        start: (how) => launch(port, how),
        startAnother: async (how) => launch(await findFreePort(), how),
        stop,
        bootstrapped,
      }),
      interrupted.promise,
    ])
    await cleanUp()
    process.exit(0)
  } catch (error) {
    console.error(`\nIt failed: ${error instanceof Error ? error.message : error}\n${log.slice(-LOG_SHOWN)}`)
    await cleanUp()
    process.exit(1)
  }
}

async function endPostmaster(cluster: string): Promise<void> {
  for (let sent = false, since = performance.now(); performance.now() - since < PATIENCE_MS; ) {
    const postmaster = await recordedPostmaster(cluster)
    if (!postmaster?.alive) return
    if (!sent) process.kill(postmaster.pid, 'SIGQUIT')
    sent = true
    await sleep(50)
  }
}

async function findFreePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  return typeof address === 'object' && address ? address.port : 8787
}
