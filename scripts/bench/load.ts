/**
 * The load, in a process of its own so that it can be pinned: autocannon, or wrk where it is installed. Every client
 * takes its turn, and each connection begins at another one, so that what is under way at a time is of many clients.
 */
import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pin } from './cores.ts'

export type Turn = { authorization: string; body: string }

export type LoadOptions = {
  /** Where the requests go: the whole URL. */
  url: string
  connections: number
  seconds: number
  /** Requests per second, spaced at random. Undefined: as many as are answered. */
  rate?: number
}

export type LoadResult = {
  /** Answers with a status of 2xx, and all else: other answers, cut connections, waits that were given up. */
  answered: number
  failed: number
  seconds: number
  /** Milliseconds. */
  p50: number
  p99: number
}

export type Load = {
  pid: number
  run(options: LoadOptions): Promise<LoadResult>
  close(): void
}

export const GENERATORS = ['autocannon', 'wrk'] as const

/** With a rate, whichever of them it is, the requests come from paced.ts. */
export async function startLoad(
  generator: (typeof GENERATORS)[number],
  turns: readonly Turn[],
  core: number | undefined,
): Promise<Load> {
  const own = startChild(turns, core)
  if (generator === 'autocannon') return own
  const wrk = await startWrk(turns, core)
  return {
    pid: own.pid,
    run: (options) => (options.rate === undefined ? wrk : own).run(options),
    close() {
      own.close()
      wrk.close()
    },
  }
}

function startChild(turns: readonly Turn[], core: number | undefined): Load {
  const child = fork(fileURLToPath(new URL('load-child.ts', import.meta.url)), { stdio: 'inherit' })
  pin(child.pid ?? 0, core)
  child.send({ turns })
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`the load generator ended with exit code ${code}`)
  })
  ended.catch(() => {})
  return {
    pid: child.pid ?? 0,
    async run(options) {
      child.send(options)
      const [result] = await Promise.race([once(child, 'message'), ended])
      return result as LoadResult
    },
    close: () => void child.kill(),
  }
}

async function startWrk(turns: readonly Turn[], core: number | undefined): Promise<Omit<Load, 'pid'>> {
  const folder = await mkdtemp(join(tmpdir(), 'signet-wrk-'))
  const script = join(folder, 'turns.lua')
  await writeFile(script, wrkScript(turns))
  return {
    async run({ url, connections, seconds }) {
      const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', script, url]
      const [command = '', ...rest] =
        core === undefined ? ['wrk', ...args] : ['taskset', '-c', String(core), 'wrk', ...args]
      const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'inherit'] })
      let printed = ''
      child.stdout.on('data', (chunk) => {
        printed += chunk
      })
      await once(child, 'close')
      const line = /^result (.*)$/m.exec(printed)?.[1]
      if (!line) throw new Error(`wrk printed no result: ${printed}`)
      const [microseconds = 0, answers = 0, refused = 0, broken = 0, p50 = 0, p99 = 0] = line
        .split(' ')
        .map(Number)
      return {
        answered: answers - refused,
        failed: refused + broken,
        seconds: microseconds / 1e6,
        p50: p50 / 1000,
        p99: p99 / 1000,
      }
    },
    close: () => void rm(folder, { recursive: true, force: true }),
  }
}

/** One thread, so one place in the order of turns for all connections. */
const wrkScript = (turns: readonly Turn[]) => `
local turns = {
${turns.map(({ authorization, body }) => `{ [==[${authorization}]==], [==[${body}]==] }`).join(',\n')}
}
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init()
  refused = 0
  place = 0
  ready = {}
  for i, turn in ipairs(turns) do
    local headers = { ["Authorization"] = turn[1], ["Content-Type"] = "application/json" }
    ready[i] = wrk.format("POST", nil, headers, turn[2])
  end
end
function request()
  place = place % #ready + 1
  return ready[place]
end
function response(status) if status < 200 or status > 299 then refused = refused + 1 end end
function done(summary, latency)
  local refusals = 0
  for _, thread in ipairs(threads) do refusals = refusals + thread:get("refused") end
  local e = summary.errors
  print(string.format("result %d %d %d %d %d %d", summary.duration, summary.requests, refusals,
    e.connect + e.read + e.write + e.timeout, latency:percentile(50), latency:percentile(99)))
end
`
