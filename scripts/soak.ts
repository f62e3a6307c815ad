/**
 * `npm run soak [-- --minutes 10] [--rate 400]`: one server process as `npm start` runs it, for minutes, under a bounded
 * rate of requests: nine in ten mint; the others read the key set, ask about their key, or are refused. Samples the
 * resident memory of the process (RSS). Exits with 1 when that passes 200 MB, or still grows: when the last quarter lies
 * more than a tenth above the second one. Some errors are in the load (a key that is unknown, once in 50); a machine that
 * is too busy gets 503 now and then, which is counted; any other answer than the expected one fails it as well.
 */
import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createKeyFormat } from '../src/keys/key-format.ts'
import { createProcesses, startUnlimited } from '../test/support/process.ts'
import { withProcesses } from './processes.ts'

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    minutes: { type: 'string', default: '10' },
    rate: { type: 'string', default: '400' },
    /** Of node, instead of those of `npm start`. */
    flags: { type: 'string' },
  },
})
const MINUTES = Number(values.minutes)
const RATE = Number(values.rate)
const LIMIT_MB = 200
const GROWTH = 1.1
const LOOPS = 16
const SAMPLE_MS = 2_000

await withProcesses(createProcesses(), async (processes) => {
  const flags = values.flags ?? (await flagsOfStart())
  const { service, demo } = await startUnlimited(processes, {}, flags.split(' ').filter(Boolean))
  const unknown = createKeyFormat('sgt').generate('sandbox').key
  const body = JSON.stringify({
    scopes: { organization_id: demo.organizationId, scopes: demo.scopes.slice(0, 2) },
  })
  const mint = (key: string) =>
    fetch(`${service.url}/v2/auth/token`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
      body,
    })
  /** Each with the statuses that it may be answered with. */
  const calls = {
    mint: { send: () => mint(demo.key), expected: [200] },
    refused: { send: () => mint(unknown), expected: [401, 429] },
    keySet: { send: () => fetch(`${service.url}/sandbox/.well-known/jwks.json`), expected: [200] },
    validate: {
      send: () =>
        fetch(`${service.url}/v2/auth/validate`, { headers: { Authorization: `Bearer ${demo.key}` } }),
      expected: [200],
    },
  }

  let requests = 0
  const errors = new Map<string, number>()
  let stopped = false
  async function loop(): Promise<void> {
    const periodMs = (1000 * LOOPS) / RATE
    let next = performance.now() + Math.random() * periodMs
    while (!stopped) {
      await sleep(Math.max(0, next - performance.now()))
      // What could not be sent in time is not made up for.
      next = Math.max(next + periodMs, performance.now() - periodMs)
      requests++
      const { send, expected } = calls[pick(requests)]
      const status = await send()
        .then(async (response) => {
          await response.arrayBuffer()
          return response.status
        })
        .catch(() => 0)
      if (!expected.includes(status)) errors.set(String(status), (errors.get(String(status)) ?? 0) + 1)
    }
  }

  const began = performance.now()
  const atStart = await rssOf(service.pid)
  const loops = Array.from({ length: LOOPS }, loop)
  const samples: number[] = []
  while (performance.now() - began < MINUTES * 60_000) {
    await sleep(SAMPLE_MS)
    samples.push(await rssOf(service.pid))
    const seconds = Math.round((performance.now() - began) / 1000)
    process.stdout.write(`\r${seconds} s, ${requests} requests, ${mb(samples.at(-1))} MB `)
  }
  stopped = true
  await Promise.all(loops)
  const seconds = (performance.now() - began) / 1000

  const quarter = (n: number) => {
    const part = samples.slice(
      Math.floor((n * samples.length) / 4),
      Math.ceil(((n + 1) * samples.length) / 4),
    )
    return part.toSorted((a, b) => a - b)[Math.floor(part.length / 2)] ?? Number.NaN
  }
  const highest = Math.max(...samples)
  const failed = [...errors.values()].reduce((sum, count) => sum + count, 0)
  console.log(`\none process, node ${flags || 'without flags'}`)
  console.log(
    `requests   ${requests} in ${Math.round(seconds)} s (${Math.round(requests / seconds)}/s), not as expected: ${failed} ${failed > 0 ? JSON.stringify([...errors]) : ''}`,
  )
  console.log(
    `RSS in MB  start ${mb(atStart)}, middle ${mb(samples[samples.length >> 1])}, end ${mb(samples.at(-1))}, highest ${mb(highest)}`,
  )
  console.log(`medians of the quarters  ${[0, 1, 2, 3].map((n) => mb(quarter(n))).join(', ')} MB`)
  const reasons = [
    ...(highest > LIMIT_MB * 1024 ? [`it passed ${LIMIT_MB} MB`] : []),
    ...(quarter(3) > GROWTH * quarter(1) ? ['it grows'] : []),
    ...(failed > (errors.get('503') ?? 0) ? ['there were other answers than expected'] : []),
  ]
  if (reasons.length > 0) console.log(`not as promised: ${reasons.join('; ')}`)
  return reasons.length === 0 ? 0 : 1
})

function pick(number: number): 'mint' | 'refused' | 'keySet' | 'validate' {
  if (number % 50 === 0) return 'refused'
  if (number % 20 === 1) return 'keySet'
  return number % 33 === 2 ? 'validate' : 'mint'
}

async function flagsOfStart(): Promise<string> {
  const { scripts } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8'))
  return (scripts.start.match(/--\S+/g) ?? []).join(' ')
}

/** Kilobytes. */
async function rssOf(pid: number): Promise<number> {
  const ps = spawn('ps', ['-o', 'rss=', '-p', String(pid)], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  for await (const chunk of ps.stdout) output += chunk
  return Number(output)
}

function mb(kilobytes: number | undefined): string {
  return ((kilobytes ?? Number.NaN) / 1024).toFixed(0)
}
