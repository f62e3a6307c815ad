/** What is measured, and what it stands on: the service with rows in its database, and the floor; each in its place. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import postgres from 'postgres'
import { startEmbeddedPostgres } from '../../src/database/embedded.ts'
import { type Instance, type Launch, type ThrowawayServer, withThrowawayServer } from '../throwaway-server.ts'
import { canPin, cpuByThread, cpuMicroseconds, endedMicroseconds, machineMicroseconds, pin } from './cores.ts'
import { type GENERATORS, type Load, type LoadResult, startLoad } from './load.ts'
import { populate, turnOf } from './population.ts'

export type Sample = LoadResult & {
  rps: number
  /** Microseconds of processor time per request, where the system tells. */
  serverCpu: number
  /** The same, by the names of its threads: `main` runs the JavaScript. */
  threadCpu: ReadonlyMap<string, number>
  databaseCpu: number
  /** Cores that the server had while it was measured: far below 1 with a pinned server, something disturbed it. */
  serverCores: number
  /** Cores that everything else on the machine had meanwhile. */
  otherCores: number
}

export type Stand = {
  product: Instance
  floor: Instance
  isPinned: boolean
  measure(target: Instance, seconds: number, rate?: number): Promise<Sample>
}

export type StandOptions = {
  generator: (typeof GENERATORS)[number]
  connections: number
  keys: number
  clients: number
  launch?: Launch
}

const SERVER_CORE = 0
const OTHER_CORE = 1

/** Ends the process, as withThrowawayServer does. */
export function withStand(options: StandOptions, work: (stand: Stand) => Promise<void>): Promise<never> {
  return withThrowawayServer(async (server) => {
    const isPinned = canPin()
    const [serverCore, otherCore] = isPinned ? [SERVER_CORE, OTHER_CORE] : []
    // What is started is on this process's core from its first moment: V8 counts the cores when it starts, and collects garbage
    // with as many threads.
    pin(process.pid, serverCore)
    const product = await server.start(options.launch)
    const floor = await startFloor(options.launch?.nodeArguments)
    const { turns, postmaster } = await furnish(server, options)
    pin(process.pid, otherCore)
    pin(product.pid, serverCore)
    pin(postmaster, otherCore)
    let load: Load | undefined
    try {
      pin(floor.pid, serverCore)
      load = await startLoad(options.generator, turns, otherCore)
      const generator = load
      await work({
        product,
        floor,
        isPinned,
        async measure(target, seconds, rate) {
          const url = `${target.url}/v2/auth/token`
          const look = () =>
            [cpuByThread(target.pid, postmaster), cpuMicroseconds(postmaster), others(postmaster)] as const
          const began = performance.now()
          const before = look()
          const { connections } = options
          const result = await generator.run({ url, connections, seconds, ...(rate ? { rate } : {}) })
          const after = look()
          const passed = (performance.now() - began) * 1000
          const threadCpu = new Map(
            [...(after[0] ?? [])].map(([name, total]) => [
              name,
              (total - (before[0]?.get(name) ?? 0)) / result.answered,
            ]),
          )
          const serverCpu = after[0]
            ? [...threadCpu.values()].reduce((sum, each) => sum + each, 0)
            : Number.NaN
          const databaseCpu = ((after[1] ?? Number.NaN) - (before[1] ?? 0)) / result.answered
          const { answered } = result
          if (answered === 0) throw new Error(`no request to ${url} was answered with success`)
          return {
            ...result,
            rps: answered / result.seconds,
            serverCpu,
            threadCpu,
            databaseCpu: target === floor ? 0 : databaseCpu,
            serverCores: (serverCpu * answered) / passed,
            otherCores: Math.max(0, (after[2] - before[2]) / passed),
          }
        },
      })
    } finally {
      load?.close()
      floor.stop()
    }
  })
}

/** What ran that is not ours: our processes are those that this one started, and PostgreSQL. */
function others(postmaster: number): number {
  const ours =
    (cpuMicroseconds(process.pid, postmaster) ?? Number.NaN) +
    (cpuMicroseconds(postmaster) ?? 0) +
    endedMicroseconds()
  return (machineMicroseconds() ?? Number.NaN) - ours
}

async function furnish({ dataDir }: ThrowawayServer, { keys, clients }: StandOptions) {
  const embedded = await startEmbeddedPostgres({ dataDir })
  const sql = postgres({
    ...embedded.connection,
    max: 1,
    onnotice: () => {},
    connection: { 'signet.platform': 'on' },
  })
  const presentable = await populate(sql, keys, clients)
  await sql.end()
  await embedded.stop()
  return { turns: presentable.map(turnOf), postmaster: embedded.pid }
}

async function startFloor(nodeArguments: readonly string[] = []): Promise<Instance & { stop(): void }> {
  const child = spawn(
    process.execPath,
    [...nodeArguments, fileURLToPath(new URL('floor.ts', import.meta.url))],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  let log = ''
  child.stderr.on('data', (chunk) => {
    log += chunk
  })
  const [port] = await once(child.stdout, 'data')
  return {
    url: `http://127.0.0.1:${String(port).trim()}`,
    pid: child.pid ?? 0,
    stderr: () => log,
    stop: () => void child.kill(),
  }
}
