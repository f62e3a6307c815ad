import { kill } from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, expect, test } from 'vitest'
import { mint, tokenOf } from '../../support/mint.ts'
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
} from '../../support/process.ts'

const processes = createProcesses()
afterEach(processes.cleanUp)
afterAll(processes.close)

test('F13: kill -9 under load, twenty times: every token that a client received is in the ledger, once', {
  timeout: 240_000,
}, async () => {
  const ROUNDS = 20
  const { environment, service, demo, dataDir } = await startUnlimited(processes)
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
  expect(found).toEqual(NOTHING_WRONG)
  expect(surprises).toEqual([])
})

test('F2, F13: kill -9 of the embedded postmaster under load loses no token, is answered with 503 at once, and the next start recovers', {
  timeout: 90_000,
}, async () => {
  const ROUNDS = 3
  const { environment, service: first, demo, dataDir } = await startUnlimited(processes)
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
  expect(found).toEqual(NOTHING_WRONG)
})
