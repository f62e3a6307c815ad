/**
 * `npm run measure -- floods [--seconds 15]`: what others notice of an attack. One client exchanges its key a hundred times a
 * second, by the clock, whether or not the last answer has come; meanwhile a process of its own sends, one after the
 * other: slow heads and bodies on 2,000 sockets, bodies of 10 GB, tokens with unknown kids, unknown keys from many
 * sources, requests that are none. In between, nothing: what each flood is compared with. The attackers' rate is bounded
 * (it is printed), since they share the machine with what they attack; takes three minutes. Each flood comes five
 * times; the median of its five p99 counts, and that of the idle ones: so it is the flood that is seen, and not what else
 * the machine has to do for a moment. Exits with 1 when a p99 is more than twice the idle one.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import postgres from 'postgres'
import type { BootstrappedClient } from '../../src/bootstrap.ts'
import { startEmbeddedPostgres } from '../../src/database/embedded.ts'
import { FLOODS } from '../floods.ts'
import { withThrowawayServer } from '../throwaway-server.ts'

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '15' } },
  args: process.argv.slice(2),
})
const SECONDS = Number(values.seconds)
const RATE = 100
/** Each flood comes so often, for its share of the time: what else happens on the machine then happens to all of them. */
const ROUNDS = 5
const PROMISE = 2
const ATTACKER = fileURLToPath(new URL('../attacker.ts', import.meta.url))

await withThrowawayServer(async (server) => {
  const instance = await server.start({
    environment: { TRUSTED_PROXIES: '127.0.0.1,::1,::ffff:127.0.0.1', LOG_LEVEL: 'error' },
  })
  const { demo } = await server.bootstrapped()
  if (!demo) throw new Error('the first start made no demo organization')
  const embedded = await startEmbeddedPostgres({ dataDir: server.dataDir })
  const sql = postgres({ ...embedded.connection, max: 1, connection: { 'signet.platform': 'on' } })
  await sql`update clients set rate_limit_per_minute = 1000000 where id = ${demo.client_id}`
  await sql.end()
  await embedded.stop()

  const agent = new Agent({ keepAlive: true })
  const measure = (seconds: number) => exchangeByTheClock({ url: instance.url, agent, demo, seconds })
  await measure(5)

  const idle: number[][] = []
  const floods = new Map(Object.keys(FLOODS).map((name) => [name, { windows: [] as number[][], sent: 0 }]))
  for (let round = 0; round < ROUNDS; round++)
    for (const [name, flood] of floods) {
      idle.push(await measure(SECONDS / ROUNDS / 2))
      const child = spawn(process.execPath, [ATTACKER, name, new URL(instance.url).port], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const ended = once(child, 'close')
      child.stdout.on('data', (chunk) => {
        flood.sent += Number(chunk)
      })
      // Until it is at its full rate.
      await sleep(1500)
      flood.windows.push(await measure(SECONDS / ROUNDS))
      child.kill('SIGTERM')
      await ended
      // And until the last of it is gone.
      await sleep(1000)
    }
  agent.destroy()

  const atIdle = typical(idle, 0.99)
  console.log(`${RATE} exchanges a second; idle: ${show(idle)}`)
  let worst = 0
  for (const [name, { windows, sent }] of floods) {
    const ratio = typical(windows, 0.99) / atIdle
    worst = Math.max(worst, ratio)
    const about = `${sent} ${FLOODS[name]?.about}`
    console.log(`${name.padEnd(16)} ${show(windows)}  ${ratio.toFixed(2)} × idle  (${about})`)
  }
  if (!(worst <= PROMISE)) throw new Error(`a p99 is more than ${PROMISE} × the idle one`)
})

/** Milliseconds from the moment at which each should have been sent to its answer. Throws where one fails. */
async function exchangeByTheClock(options: {
  url: string
  agent: Agent
  demo: BootstrappedClient
  seconds: number
}): Promise<number[]> {
  const { url, agent, demo, seconds } = options
  const body = JSON.stringify({
    scopes: { organization_id: demo.organization_id, scopes: demo.scopes.slice(0, 2) },
  })
  const headers = {
    Authorization: `Bearer ${demo.key}`,
    'Content-Type': 'application/json',
    'Content-Length': String(body.length),
  }
  const exchange = (due: number) =>
    new Promise<number>((resolve, reject) => {
      const call = request(`${url}/v2/auth/token`, { method: 'POST', agent, headers }, (answer) => {
        answer.resume()
        answer.on('end', () => {
          if (answer.statusCode === 200) resolve(performance.now() - due)
          else reject(new Error(`a good client was answered with ${answer.statusCode}`))
        })
      })
      call.on('error', reject)
      call.end(body)
    })
  const began = performance.now()
  const times: Promise<number>[] = []
  for (let i = 0; i < RATE * seconds; i++) {
    const due = began + (i * 1000) / RATE
    const early = due - performance.now()
    if (early > 0) await sleep(early)
    times.push(exchange(Math.max(due, performance.now() - 2)))
  }
  return Promise.all(times)
}

function at(times: readonly number[], share: number): number {
  return times.toSorted((a, b) => a - b)[Math.ceil(share * times.length) - 1] ?? Number.NaN
}

/** The median of the windows'. */
function typical(windows: readonly (readonly number[])[], share: number): number {
  return at(
    windows.map((times) => at(times, share)),
    0.5,
  )
}

function show(windows: readonly (readonly number[])[]): string {
  const [p50, p99] = [0.5, 0.99].map((share) => typical(windows, share).toFixed(2).padStart(7))
  return `p50 ${p50} ms p99 ${p99} ms`
}
