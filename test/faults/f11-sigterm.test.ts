import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, expect, test, vi } from 'vitest'
import {
  claimsOf,
  compareWithLedger,
  createProcesses,
  NOTHING_WRONG,
  postmasterPid,
  startLoad,
  startUnlimited,
  waitFor,
  withDatabase,
} from '../support/process.ts'

const processes = createProcesses()
// Processes start in seconds, on a machine that has something else to do.
vi.setConfig({ testTimeout: 90_000 })
afterEach(processes.cleanUp)
afterAll(processes.close)

test('F11: SIGTERM under load: for its grace it says that it goes and serves on; then running requests finish, also those it has half of, and no token is lost', async () => {
  const { service, demo, dataDir } = await startUnlimited(processes, { DRAIN_GRACE_SECONDS: '1' })
  const load = startLoad(service.url, demo, 16)
  await waitFor('tokens', async () => load.received.length > 50)
  const agent = new Agent({ keepAlive: true })
  const calls = Array.from({ length: 5 }, () => halfSent(service.url, demo, agent))
  await Promise.all(calls.map(({ connected }) => connected))
  await sleep(200)

  const began = performance.now()
  const stopping = service.stop()
  await waitFor('503', async () => (await fetch(`${service.url}/readyz`)).status === 503)
  const readiness = await fetch(`${service.url}/readyz`)
  expect(await readiness.json()).toEqual({ status: 'not_ready', reason: 'draining' })
  expect(readiness.headers.get('connection')).toBe('close')
  // Who has not noticed yet is served: on new connections, as each answer ends its own.
  const before = load.received.length
  await waitFor('more tokens', async () => load.received.length > before + 50)
  expect([...load.statuses.keys()]).toEqual([200])

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
  await load.stop()
  agent.destroy()
  expect(stoppedMs).toBeLessThan(8000) // Not the time after which connections are cut.
  expect(load.surprises).toEqual([])
  // Nothing but tokens, and connections that it no longer took.
  expect([...load.statuses.keys()].sort()).toEqual([0, 200])

  const halves = answered.map(({ body }) => String(claimsOf(JSON.parse(body).token).jti))
  const { compared, ...found } = await withDatabase(dataDir, (sql) =>
    compareWithLedger(sql, [...load.received, ...halves]),
  )
  expect(found).toEqual(NOTHING_WRONG)
  console.log(`F11: stopped under load in ${stoppedMs} ms, 1000 ms of grace; ${compared} tokens compared`)
  expect(await postmasterPid(dataDir)).toBeUndefined()
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
