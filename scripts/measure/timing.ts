/**
 * `npm run measure -- timing [--samples 10000]`: whether the time of a refusal tells what was refused: a key that nobody
 * has, one whose lookup id somebody has, a revoked or expired one, one with a wrong checksum; the same at OAuth's token
 * endpoint; and an organization or a client of somebody else's that there is or is not. In the manner of dudect: the
 * classes are shuffled, Welch's t is taken of each pair with the slowest samples cropped at several places, and the
 * largest |t| counts; from 4.5 on, a pair can be told apart. A
 * server of its own, the client on the same machine; three minutes by default, half an hour for --samples 100000. Exits
 * with 1 when a pair that must not be can be told apart, and when the instrument is blind: it has to see half a
 * millisecond, a third of a read of the database.
 */
import { strictEqual } from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { parseArgs } from 'node:util'
import postgres from 'postgres'
import { startEmbeddedPostgres } from '../../src/database/embedded.ts'
import { newId } from '../../src/ids.ts'
import { checksum, createKeyFormat } from '../../src/keys/key-format.ts'
import { withThrowawayServer } from '../throwaway-server.ts'
import { type Seeds, seed, seedManager } from '../timing-seeds.ts'
import { largestT } from '../welch.ts'

const { values } = parseArgs({
  options: { samples: { type: 'string', default: '10000' } },
  args: process.argv.slice(2),
})
const SAMPLES = Number(values.samples)
/** A refused authentication waits for its tick: so many wait at once. The others are answered as soon as can be. */
const LANES = { 401: 24, 403: 4, 404: 4 } as const
const LIMIT = 4.5
const keyFormat = createKeyFormat('sgt')

/** A request, as bytes. */
type Make = () => string
type Experiment = {
  title: string
  classes: Readonly<Record<string, Make>>
  status: keyof typeof LANES
}

await withThrowawayServer(async (server) => {
  await server.start({
    environment: {
      FAILED_AUTHENTICATIONS_PER_MINUTE: '1000000',
      TRUSTED_PROXIES: '127.0.0.1,::1',
      LOG_LEVEL: 'error',
    },
  })
  const { demo } = await server.bootstrapped()
  if (!demo) throw new Error('the first start made no demo organization')
  const embedded = await startEmbeddedPostgres({ dataDir: server.dataDir })
  const sql = postgres({ ...embedded.connection, max: 1, connection: { 'signet.platform': 'on' } })
  const management = await seedManager(sql)
  const seeds = await seed(sql, {
    organizationId: demo.organization_id,
    clientId: demo.client_id,
    samples: SAMPLES,
  })
  await sql.end()
  await embedded.stop()

  const port = Number(new URL(server.url).port)
  let isBroken = false
  const bearer = await mintFor(server.url, management)
  for (const experiment of experimentsOf(seeds, bearer)) {
    const times = await run(port, experiment)
    isBroken = !report(experiment, times) || isBroken
  }
  if (isBroken) throw new Error('what must not be told apart can be')
})

async function mintFor(
  url: string,
  { organizationId, key }: { organizationId: string; key: string },
): Promise<string> {
  const response = await fetch(`${url}/v2/auth/token`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ scopes: { organization_id: organizationId, scopes: ['signet:clients:read'] } }),
  })
  strictEqual(response.status, 200, `the exchange was answered with ${response.status}`)
  return ((await response.json()) as { token: string }).token
}

function experimentsOf(seeds: Seeds, bearer: string): Experiment[] {
  const body = JSON.stringify({
    scopes: { organization_id: seeds.organizationId, scopes: ['transactions:read'] },
  })
  const exchange = (key: string, asked = body) =>
    requestOf('/v2/auth/token', ['Content-Type: application/json', `Authorization: Bearer ${key}`], asked)
  const oauth = (clientId: string, secret: string) =>
    requestOf(
      '/sandbox/oauth2/token',
      ['Content-Type: application/x-www-form-urlencoded'],
      new URLSearchParams({
        grant_type: 'client_credentials',
        client_id: clientId,
        client_secret: secret,
      }).toString(),
    )
  const read = (clientId: string) => requestOf(`/v2/clients/${clientId}`, [`Authorization: Bearer ${bearer}`])
  const unknown = () => keyFormat.generate('sandbox').key
  const nextCold = () => withAnotherSecret(seeds.cold.pop() ?? unknown())
  const forOrganization = (keys: readonly string[], organizationId: string) =>
    exchange(
      any(keys),
      JSON.stringify({ scopes: { organization_id: organizationId, scopes: ['transactions:read'] } }),
    )
  return [
    {
      title: 'POST /v2/auth/token, 401',
      status: 401,
      classes: {
        unknown: () => exchange(unknown()),
        'unknown, again': () => exchange(unknown()),
        'wrong secret': () => exchange(withAnotherSecret(any(seeds.live))),
        'wrong secret, first asked for': () => exchange(nextCold()),
        revoked: () => exchange(any(seeds.revoked)),
        expired: () => exchange(any(seeds.expired)),
        'wrong checksum': () => exchange(withWrongChecksum(unknown())),
      },
    },
    {
      title: 'POST /sandbox/oauth2/token, invalid_client',
      status: 401,
      classes: {
        'unknown client': () => oauth(newId('client'), unknown()),
        'unknown secret': () => oauth(seeds.clientId, unknown()),
        'wrong secret': () => oauth(seeds.clientId, withAnotherSecret(any(seeds.live))),
        revoked: () => oauth(seeds.clientId, any(seeds.revoked)),
      },
    },
    {
      title: 'POST /v2/auth/token for another organization, 403',
      status: 403,
      classes: {
        'there is one': () => forOrganization(seeds.crowd, any(seeds.strangers).organizationId),
        'there is none': () => forOrganization(seeds.crowd, newId('organization')),
      },
    },
    {
      title: 'POST /v2/auth/token by a partner to whom nothing was delegated, 403',
      status: 403,
      classes: {
        'there is one': () => forOrganization(seeds.partners, any(seeds.strangers).organizationId),
        'there is none': () => forOrganization(seeds.partners, newId('organization')),
      },
    },
    {
      title: 'GET /v2/clients/{client_id} of another organization, 404',
      status: 404,
      classes: {
        'there is one': () => read(any(seeds.strangers).clientId),
        'there is none': () => read(newId('client')),
      },
    },
  ]
}

function any<T>(from: readonly T[]): T {
  return from[Math.floor(Math.random() * from.length)] as T
}

/** The lookup id of this key, a secret that is not its own, and the checksum of that. */
function withAnotherSecret(key: string): string {
  const start = key.length - 6 - 32
  const text = key.slice(0, start) + unknownSecret()
  return text + checksum(text)
}
function unknownSecret(): string {
  return keyFormat.generate('sandbox').key.slice(-38, -6)
}

function withWrongChecksum(key: string): string {
  return key.slice(0, -1) + (key.endsWith('0') ? '1' : '0')
}

function requestOf(path: string, fields: readonly string[], body?: string): string {
  if (body === undefined) return [`GET ${path} HTTP/1.1`, 'Host: localhost', ...fields, '', ''].join('\r\n')
  const head = [`POST ${path} HTTP/1.1`, 'Host: localhost', ...fields, `Content-Length: ${body.length}`]
  return [...head, '', body].join('\r\n')
}

/** Milliseconds of each sample, by class. */
async function run(port: number, { classes, status }: Experiment): Promise<Map<string, Float64Array>> {
  const names = Object.keys(classes)
  const times = new Map(names.map((name) => [name, [] as number[]]))
  const warmUp = 200 * names.length
  const schedule: string[] = []
  const rounds = SAMPLES + 200
  for (let i = 0; i < rounds; i++) schedule.push(...shuffled(names))
  let next = 0
  let outages = 0
  const lane = async (socket: Socket) => {
    for (;;) {
      const index = next++
      const name = schedule[index]
      if (name === undefined) break
      const bytes = classes[name]?.() ?? ''
      const { milliseconds, head } = await ask(socket, bytes)
      const answered = head.slice(9, 12)
      // A machine that others use may be too slow for a moment; not for long.
      if (answered === '503' && ++outages < rounds / 100) continue
      strictEqual(answered, String(status), `${name} was answered with: ${head.slice(0, 200)}`)
      if (index >= warmUp) times.get(name)?.push(milliseconds)
    }
    socket.destroy()
  }
  const failed = Promise.withResolvers<never>()
  const open = () => connect({ port, host: 'localhost', noDelay: true }).once('error', failed.reject)
  await Promise.race([Promise.all(Array.from({ length: LANES[status] }, () => lane(open()))), failed.promise])
  return new Map([...times].map(([name, list]) => [name, Float64Array.from(list)]))
}

function ask(socket: Socket, bytes: string): Promise<{ milliseconds: number; head: string }> {
  return new Promise((resolve) => {
    let head = ''
    const onData = (chunk: Buffer) => {
      const arrived = performance.now()
      head += chunk.toString('latin1')
      const end = head.indexOf('\r\n\r\n')
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1])
      if (end === -1 || head.length < end + 4 + length) return
      socket.off('data', onData)
      resolve({ milliseconds: arrived - began, head })
    }
    socket.on('data', onData)
    const began = performance.now()
    socket.write(bytes)
  })
}

function shuffled<T>(list: readonly T[]): T[] {
  const copy = [...list]
  for (let i = copy.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1))
    ;[copy[i], copy[j]] = [copy[j] as T, copy[i] as T]
  }
  return copy
}

/** Prints; whether the promise holds. */
function report({ title, classes }: Experiment, times: ReadonlyMap<string, Float64Array>): boolean {
  const names = Object.keys(classes)
  const of = (name: string) => times.get(name) ?? new Float64Array()
  console.log(`\n${title}: ${of(names[0] ?? '').length} samples of each`)
  for (const name of names)
    console.log(`  ${name.padEnd(32)} p50 ${at(of(name), 0.5)} ms  p99 ${at(of(name), 0.99)} ms`)
  let holds = true
  for (const [i, a] of names.entries())
    for (const b of names.slice(i + 1)) {
      const t = largestT(of(a), of(b))
      const isTold = Math.abs(t) >= LIMIT
      if (isTold) holds = false
      const verdict = isTold ? 'TOLD APART' : 'not told apart'
      console.log(`  ${`${a} | ${b}`.padEnd(64)} |t| ${Math.abs(t).toFixed(2).padStart(8)}  ${verdict}`)
    }
  // The same samples with a known difference: what cannot see that proves nothing.
  const first = of(names[0] ?? '')
  const shifted = of(names[1] ?? '').map((each) => each + 0.5)
  const seen = Math.abs(largestT(first, shifted))
  console.log(`  (half a millisecond more in one of the first two would be |t| ${seen.toFixed(2)})`)
  if (seen < LIMIT) console.log('  THE INSTRUMENT IS BLIND: more samples, or a quieter machine')
  return holds && seen >= LIMIT
}

function at(samples: Float64Array, share: number): string {
  return (samples.toSorted()[Math.ceil(share * samples.length) - 1] ?? Number.NaN).toFixed(3).padStart(7)
}
