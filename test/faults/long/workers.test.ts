/** WORKERS: what becomes of the others when the supervisor, or the same worker again and again, dies. */
import { kill } from 'node:process'
import { afterAll, afterEach, expect, test, vi } from 'vitest'
import { mint, mintAnew, tokenOf } from '../../support/mint.ts'
import {
  answers,
  createProcesses,
  postmasterPid,
  startUnlimited,
  waitFor,
  workerPids,
} from '../../support/process.ts'

const processes = createProcesses()
// Processes start in seconds, on a machine that has something else to do.
vi.setConfig({ testTimeout: 90_000 })
afterEach(processes.cleanUp)
afterAll(processes.close)

test('F19: kill -9 of the supervisor ends its workers, and the next start works', async () => {
  const { service, demo, dataDir, environment } = await startUnlimited(processes, { WORKERS: '2' })
  const workers = await workerPids(service.pid)
  expect(workers).toHaveLength(2)
  await service.kill()
  await waitFor('the end of the workers', async () => workers.every((pid) => !isAlive(pid)))
  expect(await postmasterPid(dataDir)).toBeDefined()

  const next = await processes.start({ ...environment, PORT: String(service.port) })
  await tokenOf(await mint(next.url, demo))
  expect(next.stdout()).not.toContain('sgt_')

  // The next one is on another port: this one's is taken.
  const refused = await processes.spawn({ ...environment, PORT: String(service.port) })
  expect((await refused.exited).code).toBe(1)
  expect(refused.stderr().split(`PORT ${service.port}: another program listens there already.`)).toHaveLength(
    2,
  )
  expect(refused.stderr()).not.toContain('a worker ended')
  expect(await answers(next.url, '/readyz', 200)()).toBe(true)
  expect(await next.stop()).toBe(0)
})

test('workers that die again and again are started at growing intervals, and the others go on', async () => {
  const { service, demo } = await startUnlimited(processes, { WORKERS: '2' })
  const [steady] = await workerPids(service.pid)
  for (let round = 1; round <= 4; round++) {
    const newest = () => workerPids(service.pid).then((pids) => pids.find((pid) => pid !== steady))
    await waitFor('a worker', async () => (await newest()) !== undefined)
    kill((await newest()) ?? 0, 'SIGKILL')
    await waitFor(
      'its end in the log',
      async () => service.stderr().split('a worker ended').length === round + 1,
    )
    expect((await mintAnew(service.url, demo)).status).toBe(200)
  }
  const pauses = [...service.stderr().matchAll(/"pauseMilliseconds":(\d+)/g)].map(([, pause]) =>
    Number(pause),
  )
  // None for the first one, if it had been ready for long; then, of at most 200, 400, 800 … ms, between a half and all.
  const failed = pauses.filter((pause) => pause > 0)
  expect(failed.length).toBeGreaterThanOrEqual(3)
  for (const [index, pause] of failed.entries()) {
    expect(pause).toBeGreaterThanOrEqual(100 * 2 ** index)
    expect(pause).toBeLessThanOrEqual(200 * 2 ** index)
  }
  expect(await workerPids(service.pid)).toContain(steady)
  expect(await service.stop()).toBe(0)
})

function isAlive(pid: number): boolean {
  try {
    return kill(pid, 0)
  } catch {
    return false
  }
}
