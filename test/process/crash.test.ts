import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { kill } from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { mint, tokenOf } from '../support/mint.ts'
import {
  answers,
  claimsOf,
  compareWithLedger,
  createProcesses,
  postmasterPid,
  readDemo,
  startLoad,
  waitFor,
  withDatabase,
} from '../support/process.ts'

const processes = createProcesses()
afterEach(processes.cleanUp)
afterAll(processes.close)

async function newEnvironment() {
  const dataDir = await processes.dataDir()
  return { DATA_DIR: dataDir, BOOTSTRAP_FILE: join(dataDir, '../bootstrap.json'), LOG_LEVEL: 'warn' }
}

/** A first start, and the demo client without a rate limit that could be felt. */
async function prepare() {
  const environment = await newEnvironment()
  const service = await processes.start(environment)
  const demo = await readDemo(environment.BOOTSTRAP_FILE)
  await withDatabase(
    environment.DATA_DIR,
    (sql) => sql`update clients set rate_limit_per_minute = 1000000000 where id = ${demo.clientId}`,
  )
  return { environment, service, demo, dataDir: environment.DATA_DIR }
}

const nothingWrong = { lost: [], doubled: [], receivedTwice: 0 }

describe('F13: kill -9 of the service', () => {
  test('leaves its PostgreSQL up, and the next start goes on with it', async () => {
    const { environment, service, demo, dataDir } = await prepare()
    const postmaster = await postmasterPid(dataDir)
    await service.kill()
    expect(await postmasterPid(dataDir)).toBe(postmaster)
    const next = await processes.start(environment)
    expect(await postmasterPid(dataDir)).toBe(postmaster)
    await tokenOf(await mint(next.url, demo))
    expect(await next.stop()).toBe(0)
    expect(await postmasterPid(dataDir)).toBeUndefined()
  })

  test('under load, twenty times: every token that a client received is in the ledger, once', {
    timeout: 120_000,
  }, async () => {
    const ROUNDS = 20
    const { environment, service, demo, dataDir } = await prepare()
    await service.stop()
    const received: string[] = []
    const surprises: string[] = []
    for (let round = 1; round <= ROUNDS; round++) {
      const victim = await processes.spawn(environment)
      // From before it listens, and after it has been killed.
      const load = startLoad(victim.url, demo)
      // Now and then before it is ready.
      if (round % 5 === 0) await waitFor('/livez', answers(victim.url, '/livez', 200))
      else await waitFor('a first token', async () => load.received.length > 0)
      await sleep(Math.random() * 300)
      await victim.kill()
      await load.stop()
      received.push(...load.received)
      surprises.push(...load.surprises)
    }
    const { compared, ...found } = await withDatabase(dataDir, (sql) => compareWithLedger(sql, received))
    console.log(`F13: ${compared} tokens compared with the ledger after ${ROUNDS} × kill -9`)
    expect(compared).toBeGreaterThan(ROUNDS)
    expect(found).toEqual(nothingWrong)
    expect(surprises).toEqual([])
  })
})

describe('kill -9 of the embedded postmaster under load', () => {
  test('loses no token, is answered with 503 at once, and the next start recovers', {
    timeout: 90_000,
  }, async () => {
    const ROUNDS = 3
    const { environment, service: first, demo, dataDir } = await prepare()
    let service = first
    const received: string[] = []
    const report: string[] = []
    for (let round = 1; round <= ROUNDS; round++) {
      const load = startLoad(service.url, demo)
      await waitFor('a first token', async () => load.received.length > 0)
      await sleep(Math.random() * 200)
      const postmaster = await postmasterPid(dataDir)
      if (postmaster === undefined) throw new Error('no postmaster')
      kill(postmaster, 'SIGKILL')
      const blindMs = await waitFor('503', async () => load.statuses.has(503))
      const outage = startLoad(service.url, demo, 4)
      await sleep(500)
      expect(service.state()).toBe('running')
      expect(await answers(service.url, '/livez', 200)()).toBe(true)
      expect(await answers(service.url, '/sandbox/.well-known/jwks.json', 200)()).toBe(true)
      await waitFor('/readyz', answers(service.url, '/readyz', 503))
      await outage.stop()
      await load.stop()
      // A backend notices the death of its postmaster when it is done with its statement: one may still have served.
      expect(outage.statuses.has(503)).toBe(true)
      expect([...outage.statuses.keys()].filter((status) => status !== 200 && status !== 503)).toEqual([])
      expect([...load.surprises, ...outage.surprises]).toEqual([])
      expect(Math.max(load.slowest(), outage.slowest())).toBeLessThan(5000)
      received.push(...load.received, ...outage.received)

      const began = performance.now()
      expect(await service.stop()).toBe(0)
      const stoppedMs = Math.round(performance.now() - began)
      service = await processes.start(environment)
      await tokenOf(await mint(service.url, demo))
      report.push(
        `first 503 after ${blindMs} ms, slowest answer ${outage.slowest()} ms, stopped in ${stoppedMs} ms, ` +
          `minting again ${Math.round(performance.now() - began - stoppedMs)} ms after that`,
      )
    }
    const { compared, ...found } = await withDatabase(dataDir, (sql) => compareWithLedger(sql, received))
    console.log(`postmaster killed: ${compared} tokens compared\n  ${report.join('\n  ')}`)
    expect(found).toEqual(nothingWrong)
  })
})

describe('F19: two services on one DATA_DIR', () => {
  test('started at once on an empty folder, make one set of keys, share PostgreSQL, and see each other’s revocations', async () => {
    const environment = await newEnvironment()
    const [one, other] = await Promise.all([processes.start(environment), processes.start(environment)])
    await waitFor('the keys', async () => (one.stdout() + other.stdout()).includes('curl '))
    expect((one.stdout() + other.stdout()).match(/sgt_live_/g)).toHaveLength(1)
    const demo = await readDemo(environment.BOOTSTRAP_FILE)
    const kids = new Set<unknown>()
    for (const { url } of [one, other]) {
      const { token } = await tokenOf(await mint(url, demo))
      kids.add(JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()).kid)
    }
    expect(kids.size).toBe(1)

    await withDatabase(
      environment.DATA_DIR,
      (sql) => sql`update keys set revoked_at = now() where id = ${demo.keyId}`,
    )
    for (const { url } of [one, other]) expect((await mint(url, demo)).status).toBe(401)

    const postmaster = await postmasterPid(environment.DATA_DIR)
    expect(await one.stop()).toBe(0)
    expect(await postmasterPid(environment.DATA_DIR)).toBe(postmaster)
    expect(await answers(other.url, '/readyz', 200)()).toBe(true)
    expect(await other.stop()).toBe(0)
    expect(await postmasterPid(environment.DATA_DIR)).toBeUndefined()
  })
})

describe('F11: SIGTERM', () => {
  test('under load: running requests finish, nothing new is taken, no token is lost, and it exits with 0', async () => {
    const { service, demo, dataDir } = await prepare()
    const load = startLoad(service.url, demo, 16)
    await waitFor('tokens', async () => load.received.length > 50)
    const began = performance.now()
    expect(await service.stop()).toBe(0)
    const stoppedMs = Math.round(performance.now() - began)
    await load.stop()
    expect(stoppedMs).toBeLessThan(15_000)
    expect(load.surprises).toEqual([])
    // Nothing but tokens, and connections that it no longer took.
    expect([...load.statuses.keys()].sort()).toEqual([0, 200])
    const { compared, ...found } = await withDatabase(dataDir, (sql) => compareWithLedger(sql, load.received))
    expect(found).toEqual(nothingWrong)
    console.log(`F11: stopped under load in ${stoppedMs} ms; ${compared} tokens compared`)
    expect(await postmasterPid(dataDir)).toBeUndefined()
  })

  test('lets requests finish that it has only half of, says Connection: close, and then waits for nothing', async () => {
    const { service, demo, dataDir } = await prepare()
    const agent = new Agent({ keepAlive: true })
    const calls = Array.from({ length: 5 }, () => halfSent(service.url, demo, agent))
    await Promise.all(calls.map(({ connected }) => connected))
    await sleep(200)

    const began = performance.now()
    const stopping = service.stop()
    await waitFor('the closed port', async () =>
      fetch(service.url).then(
        () => false,
        () => true,
      ),
    )
    const answered = await Promise.all(calls.map(({ finish }) => finish()))
    for (const { status, connection } of answered)
      expect({ status, connection }).toEqual({ status: 200, connection: 'close' })
    expect(await stopping).toBe(0)
    const stoppedMs = Math.round(performance.now() - began)
    console.log(`F11: stopped ${stoppedMs} ms after SIGTERM with requests half sent`)
    expect(stoppedMs).toBeLessThan(8000) // Not the 10 s after which it cuts connections.
    agent.destroy()

    const jtis = answered.map(({ body }) => String(claimsOf(JSON.parse(body).token).jti))
    const { compared, ...found } = await withDatabase(dataDir, (sql) => compareWithLedger(sql, jtis))
    expect(found).toEqual(nothingWrong)
    expect(compared).toBe(5)
  })
})

/** A mint whose head and half of whose body are sent; `finish` sends the rest. */
function halfSent(
  url: string,
  client: { organizationId: string; key: string; scopes: string[] },
  agent: Agent,
) {
  const body = JSON.stringify({ scopes: { organization_id: client.organizationId, scopes: client.scopes } })
  const call = request(`${url}/v2/auth/token`, {
    agent,
    method: 'POST',
    headers: {
      Authorization: `Bearer ${client.key}`,
      'Content-Type': 'application/json',
      'Content-Length': body.length,
    },
  })
  const connected = new Promise<void>((resolve) =>
    call.on('socket', (socket) => socket.once('connect', () => resolve())),
  )
  const answer = new Promise<{ status: number | undefined; connection: string | undefined; body: string }>(
    (resolve, reject) => {
      call.on('error', reject)
      call.on('response', async (response) => {
        const chunks: Buffer[] = []
        for await (const chunk of response) chunks.push(chunk)
        const text = Buffer.concat(chunks).toString()
        resolve({ status: response.statusCode, connection: response.headers.connection, body: text })
      })
    },
  )
  answer.catch(() => {})
  call.write(body.slice(0, 20))
  return {
    connected,
    finish() {
      call.end(body.slice(20))
      return answer
    },
  }
}
