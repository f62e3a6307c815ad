/**
 * `npm run measure -- restarts [--restarts 20] [--grace 3] [--balancer haproxy|nginx]`: three instances behind a load
 * balancer, under load; each in turn is told to end (SIGTERM) and started again. Counts the requests that were not
 * answered with a token, and compares those that were with the ledger. Some seven seconds for each restart. Exits with 1
 * when one was lost, and with 2 where there is neither HAProxy nor nginx.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startBalancer } from '../../test/support/balancer.ts'
import {
  answers,
  compareWithLedger,
  createProcesses,
  type Load,
  type ServiceProcess,
  startLoad,
  startUnlimited,
  waitFor,
  withDatabase,
} from '../../test/support/process.ts'
import { withProcesses } from '../processes.ts'

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    restarts: { type: 'string', default: '20' },
    grace: { type: 'string', default: '3' },
    balancer: { type: 'string' },
  },
})
const RESTARTS = Number(values.restarts)
const programs = (['haproxy', 'nginx'] as const).filter((name) => name === (values.balancer ?? name))
/** Loops, and what each pauses between two requests: some hundred requests a second. */
const LOAD = { parallel: 8, pauseMs: 15 }

/** 503 without Retry-After: the balancer had nobody to ask. */
const proxied = ({ surprises }: Load) => surprises.filter((surprise) => surprise.startsWith('503')).length

await withProcesses(createProcesses(), async (processes) => {
  const { environment, service, demo, dataDir } = await startUnlimited(processes, {
    DRAIN_GRACE_SECONDS: values.grace,
  })
  const instances: ServiceProcess[] = [service]
  for (let more = 1; more <= 2; more++) instances.push(await processes.start(environment))
  const balancer = await startBalancer(
    instances.map(({ port }) => port),
    await processes.folder(),
    programs,
  )
  if (!balancer) {
    console.log(`not measured: there is no ${programs.join(' and no ')} on this machine`)
    return 2
  }
  try {
    const load = startLoad(balancer.url, demo, LOAD.parallel, LOAD.pauseMs)
    const began = performance.now()
    const lost = () => {
      const all = [...load.statuses].filter(([status]) => status !== 200)
      return all.reduce((sum, [, count]) => sum + count, 0)
    }
    let slowestStop = 0
    for (let restart = 0; restart < RESTARTS; restart++) {
      const index = restart % instances.length
      const old = instances[index]
      if (!old) throw new Error('there is no such instance')
      const before = performance.now()
      const code = await old.stop()
      if (code !== 0) throw new Error(`an instance ended with exit code ${code}: ${old.stderr()}`)
      slowestStop = Math.max(slowestStop, performance.now() - before)
      const next = await processes.start({ ...environment, PORT: String(old.port) })
      await waitFor('/readyz', answers(next.url, '/readyz', 200))
      instances[index] = next
      // Until the balancer has seen it, too.
      await sleep(2000)
      process.stdout.write(`\r${restart + 1} restarts, ${load.received.length} tokens, ${lost()} lost `)
    }
    await load.stop()
    const seconds = (performance.now() - began) / 1000
    const { compared, ...found } = await withDatabase(dataDir, (sql) => compareWithLedger(sql, load.received))
    console.log(
      `\n${RESTARTS} rolling restarts of three instances behind ${balancer.name}, DRAIN_GRACE_SECONDS=${values.grace}`,
    )
    console.log(`requests      ${compared + lost()} (${Math.round((compared + lost()) / seconds)}/s)`)
    const refused = load.statuses.get(503) ?? 0
    console.log(
      `not answered with a token  ${lost()} ${lost() > 0 ? JSON.stringify([...load.statuses]) : ''}`,
    )
    console.log(
      `  of these, by the service itself, which asked to be tried again: ${refused - proxied(load)}`,
    )
    console.log(`not in the ledger ${found.lost.length}, there twice ${found.doubled.length}`)
    console.log(`slowest answer ${load.slowest()} ms, slowest stop ${Math.round(slowestStop)} ms`)
    if (lost() > 0) console.log(balancer.said().slice(-3000))
    for (const surprise of load.surprises.slice(0, 5)) console.log(`  ${surprise.slice(0, 300)}`)
    return lost() + found.lost.length + found.doubled.length === 0 ? 0 : 1
  } finally {
    await balancer.stop()
  }
})
