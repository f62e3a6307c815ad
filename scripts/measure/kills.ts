/**
 * `npm run measure -- kills [--kills 40] [--workers 1]`: kill -9 of the service under load, again and again; what clients
 * received is compared with the ledger at the end. With more workers than one, a worker is killed each time, any of
 * them, and every fifth time the supervisor. Some two seconds for each. Exits with 1 when a token that a client received
 * has no row in the ledger, or two, or when the service did not come back.
 */
import { kill } from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import {
  compareWithLedger,
  createProcesses,
  startLoad,
  startUnlimited,
  waitFor,
  withDatabase,
  workerPids,
} from '../../test/support/process.ts'
import { withProcesses } from '../processes.ts'

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: { kills: { type: 'string', default: '40' }, workers: { type: 'string', default: '1' } },
})
const KILLS = Number(values.kills)
const WORKERS = Number(values.workers)

await withProcesses(createProcesses(), async (processes) => {
  const { environment, service, demo, dataDir } = await startUnlimited(processes, { WORKERS: values.workers })
  const port = String(service.port)
  let victim = service
  const received: string[] = []
  let failed = 0
  const surprises: string[] = []
  for (let round = 1; round <= KILLS; round++) {
    const load = startLoad(victim.url, demo, 8, 2)
    await waitFor('a first token', async () => load.received.length > 0)
    await sleep(Math.random() * 300)
    const workers = WORKERS > 1 && round % 5 !== 0 ? await workerPids(victim.pid) : []
    const worker = workers[Math.floor(Math.random() * workers.length)]
    if (worker !== undefined) {
      kill(worker, 'SIGKILL')
      const minted = load.received.length
      await waitFor('tokens of the others', async () => load.received.length > minted)
      await load.stop()
      await waitFor('another worker', async () => {
        const now = await workerPids(victim.pid)
        return now.length === WORKERS && !now.includes(worker)
      })
    } else {
      await victim.kill()
      await load.stop()
      victim = await processes.start({ ...environment, PORT: port })
    }
    received.push(...load.received)
    failed += load.statuses.get(0) ?? 0
    surprises.push(...load.surprises)
    process.stdout.write(`\r${round} × kill -9, ${received.length} tokens `)
  }
  const code = await victim.stop()
  const { compared, ...found } = await withDatabase(dataDir, (sql) => compareWithLedger(sql, received))
  console.log(`\n${KILLS} × kill -9 under load, WORKERS=${WORKERS}`)
  console.log(`tokens that clients received   ${compared}`)
  console.log(`of these without a row         ${found.lost.length}`)
  console.log(`with more than one             ${found.doubled.length + found.receivedTwice}`)
  console.log(`requests without an answer     ${failed}`)
  console.log(`answers that were neither 200 nor 503  ${surprises.length}`)
  return code === 0 && found.lost.length + found.doubled.length + found.receivedTwice + surprises.length === 0
    ? 0
    : 1
})
