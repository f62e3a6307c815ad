/** WORKERS: what is promised of one process holds for several on one port. */
import { kill } from 'node:process'
import { afterAll, afterEach, expect, test, vi } from 'vitest'
import { apiWith, tokenFor } from '../support/management.ts'
import { mintAnew, rawRequest, untilMinuteHasLeft } from '../support/mint.ts'
import {
  compareWithLedger,
  createProcesses,
  mintable,
  NOTHING_WRONG,
  postmasterPid,
  readBootstrapFile,
  type ServiceProcess,
  startLoad,
  startUnlimited,
  waitFor,
  withDatabase,
  workerPids,
} from '../support/process.ts'

const processes = createProcesses()
// Processes start in seconds, on a machine that has something else to do.
vi.setConfig({ testTimeout: 90_000 })
afterEach(processes.cleanUp)
afterAll(processes.close)

const readyAnew = (url: string) =>
  rawRequest(url, { method: 'GET', path: '/readyz', headers: [['Connection', 'close']] })

/** Who was being handed to the one that died is cut off, and comes again. */
const twice = <T>(ask: () => Promise<T>): Promise<T> => ask().catch(ask)

const readyWorkers = (service: ServiceProcess) => service.stderr().split('a worker is ready').length - 1

/** How many of these requests each process logged. */
function served(service: ServiceProcess, route: string): Map<number, number> {
  const counts = new Map<number, number>()
  for (const line of service.stderr().split('\n').filter(Boolean)) {
    if (!line.startsWith('{')) continue
    const entry = JSON.parse(line)
    if (entry.route === route) counts.set(entry.pid, (counts.get(entry.pid) ?? 0) + 1)
  }
  return counts
}

test('two workers share one limit to the token, and a revocation counts for both from its answer on', async () => {
  const LIMIT = 30
  const { service, demo, dataDir, environment } = await startUnlimited(processes, {
    WORKERS: '2',
    LOG_LEVEL: 'debug',
  })
  expect(await workerPids(service.pid)).toHaveLength(2)
  const { operator } = await readBootstrapFile(environment.BOOTSTRAP_FILE ?? '')
  // Once each.
  for (const once of [operator.key, demo.key, 'Signet is ready at ', 'This is the first start'])
    expect(service.stdout().split(once)).toHaveLength(2)

  const limited = { ...mintable(operator), scopes: ['signet:keys:read'] }
  await withDatabase(dataDir, async (sql) => {
    await sql`update clients set rate_limit_per_minute = ${LIMIT} where id = ${limited.clientId}`
    await untilMinuteHasLeft(sql, 8)
  })
  // The first of this minute is management's.
  const scopes = ['signet:keys:read', 'signet:keys:write']
  const api = apiWith(service.url, await tokenFor(service.url, limited, scopes))
  const statuses = (
    await Promise.all(Array.from({ length: 5 * LIMIT - 1 }, () => mintAnew(service.url, limited)))
  ).map(({ status }) => status)
  expect(statuses.filter((status) => status === 200)).toHaveLength(LIMIT - 1)
  expect(statuses.filter((status) => status === 429)).toHaveLength(4 * LIMIT)
  // What they logged arrives when it does.
  await waitFor(
    'the log of both',
    async () =>
      [...served(service, '/v2/auth/token').values()].reduce((sum, n) => sum + n, 0) >= 5 * LIMIT - 1,
  )
  const byProcess = served(service, '/v2/auth/token')
  expect([...byProcess.keys()].sort()).toEqual((await workerPids(service.pid)).sort())
  for (const count of byProcess.values()) expect(count).toBeGreaterThan(LIMIT)

  // Both know it by heart.
  for (let i = 0; i < 4; i++) expect((await mintAnew(service.url, demo)).status).toBe(200)
  expect((await api.post(`/v2/keys/${demo.keyId}/revoke`, {})).status).toBe(200)
  const refused = await Promise.all(Array.from({ length: 8 }, () => mintAnew(service.url, demo)))
  expect(refused.map(({ status }) => status)).toEqual(Array(8).fill(401))
})

test('F13, F11: kill -9 of a worker under load: the port keeps answering, another one takes its place; then SIGTERM loses nothing', async () => {
  const { service, demo, dataDir } = await startUnlimited(processes, { WORKERS: '2', LOG_LEVEL: 'info' })
  const load = startLoad(service.url, demo, 16)
  await waitFor('tokens', async () => load.received.length > 50)
  for (let round = 1; round <= 2; round++) {
    const before = await workerPids(service.pid)
    const [victim] = before
    if (victim === undefined) throw new Error('there is no worker')
    kill(victim, 'SIGKILL')
    await waitFor('its end', async () => !(await workerPids(service.pid)).includes(victim))
    for (let i = 0; i < 20; i++) {
      expect((await twice(() => readyAnew(service.url))).status).toBe(200)
      expect((await twice(() => mintAnew(service.url, demo))).status).toBe(200)
    }
    const minted = load.received.length
    await waitFor('tokens of the others', async () => load.received.length > minted + 50)
    await waitFor('another worker', async () => readyWorkers(service) === 2 + round)
  }
  // Nobody was sent to one that could not answer yet.
  expect([...load.statuses.keys()].sort()).toEqual([0, 200])
  expect(service.stderr().match(/a worker ended/g)).toHaveLength(2)

  const began = performance.now()
  expect(await service.stop()).toBe(0)
  const stoppedMs = Math.round(performance.now() - began)
  expect(stoppedMs).toBeLessThan(15_000)
  await load.stop()
  expect(load.surprises).toEqual([])
  const { compared, ...found } = await withDatabase(dataDir, (sql) => compareWithLedger(sql, load.received))
  expect(found).toEqual(NOTHING_WRONG)
  console.log(
    `WORKERS=2: ${compared} tokens compared after 2 × kill -9; ${load.statuses.get(0)} connections failed; stopped in ${stoppedMs} ms`,
  )
  expect(await postmasterPid(dataDir)).toBeUndefined()
})
