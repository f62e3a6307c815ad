import { kill } from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, expect, test } from 'vitest'
import { startBalancer } from '../../support/balancer.ts'
import {
  compareWithLedger,
  createProcesses,
  NOTHING_WRONG,
  startLoad,
  startUnlimited,
  waitFor,
  withDatabase,
} from '../../support/process.ts'

const processes = createProcesses()
afterEach(processes.cleanUp)
afterAll(processes.close)

test('F11: rolling restarts behind a load balancer lose no request', {
  timeout: 180_000,
}, async (context) => {
  const { environment, service, demo, dataDir } = await startUnlimited(processes, {
    DRAIN_GRACE_SECONDS: '3',
  })
  const instances = [service, await processes.start(environment), await processes.start(environment)]
  const balancer = await startBalancer(
    instances.map(({ port }) => port),
    await processes.folder(),
  )
  if (!balancer) {
    const why = 'there is neither HAProxy nor nginx on this machine'
    console.log(`not run: ${why}`)
    return context.skip(why)
  }
  try {
    const load = startLoad(balancer.url, demo, 8, 20)
    for (const [index, old] of instances.entries()) {
      expect(await old.stop()).toBe(0)
      instances[index] = await processes.start({ ...environment, PORT: String(old.port) })
      // Until the balancer has seen it, too.
      await sleep(2000)
    }
    await load.stop()
    // No connection that broke, and nothing that the balancer had to say itself. A service on a machine that is too busy may
    // ask to be tried again.
    expect(load.statuses.get(0), balancer.said()).toBeUndefined()
    expect(load.surprises, balancer.said()).toEqual([])
    const { compared, ...found } = await withDatabase(dataDir, (sql) => compareWithLedger(sql, load.received))
    expect(found).toEqual(NOTHING_WRONG)
    console.log(`F11: ${compared} requests during three restarts behind ${balancer.name}, none lost`)
  } finally {
    await balancer.stop()
  }
})

test('F11: Ctrl-C does without the grace, also after SIGTERM', async () => {
  const { service, environment } = await startUnlimited(processes, { DRAIN_GRACE_SECONDS: '60' })
  kill(service.pid, 'SIGINT')
  expect(await service.exited).toEqual({ code: 0, signal: null })

  const next = await processes.start(environment)
  kill(next.pid, 'SIGTERM')
  await waitFor('503', async () => (await fetch(`${next.url}/readyz`)).status === 503)
  kill(next.pid, 'SIGINT')
  expect(await next.exited).toEqual({ code: 0, signal: null })
})
