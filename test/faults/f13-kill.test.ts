import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, expect, test, vi } from 'vitest'
import {
  answers,
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

const ROUNDS = 3

test('F13, F19: kill -9 under load: every token that a client received is in the ledger, once; the PostgreSQL that is left running serves the next start', async () => {
  const { environment, service, demo, dataDir } = await startUnlimited(processes)
  const postmaster = await postmasterPid(dataDir)
  const received: string[] = []
  let victim = service
  for (let round = 1; round <= ROUNDS; round++) {
    const load = startLoad(victim.url, demo)
    // The last one before it is ready.
    if (round === ROUNDS) await waitFor('/livez', answers(victim.url, '/livez', 200))
    else await waitFor('a first token', async () => load.received.length > 0)
    await sleep(Math.random() * 200)
    await victim.kill()
    await load.stop()
    expect(load.surprises).toEqual([])
    received.push(...load.received)
    expect(await postmasterPid(dataDir)).toBe(postmaster)
    victim = await processes.spawn(environment)
  }
  const { compared, ...found } = await withDatabase(dataDir, (sql) => compareWithLedger(sql, received))
  console.log(`F13: ${compared} tokens compared with the ledger after ${ROUNDS} × kill -9`)
  expect(found).toEqual(NOTHING_WRONG)
  expect(compared).toBeGreaterThan(ROUNDS)
  await victim.ready
  expect(await victim.stop()).toBe(0)
  expect(await postmasterPid(dataDir)).toBeUndefined()
})
