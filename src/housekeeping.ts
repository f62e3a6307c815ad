/** What is done behind the requests, once for the database, whichever instance does it. */
import type { Logger } from 'pino'
import type { Clock } from './clock.ts'
import type { Config } from './config.ts'
import type { Database, DatabaseTarget } from './database/database.ts'
import type { InTransaction } from './database/transaction.ts'
import { createJobs, type Jobs, type JobTimings } from './jobs/jobs.ts'
import { forgetAssertions } from './keys/store.ts'
import { dropOldLedger, ensureFewDays, ensureLedgerPartitions } from './ledger/retention.ts'
import { createLedgerStore } from './ledger/store.ts'
import { forgetAnswers } from './management/store.ts'
import { createScheduledRotation } from './signing/rotate.ts'
import type { Sealing } from './signing/sealing.ts'
import type { Signer } from './signing/signer.ts'

const DAY_SECONDS = 86_400
const HOUR = 3_600_000

export function createHousekeeping(options: {
  target: DatabaseTarget
  background: Database
  inTransaction: InTransaction
  sealing: Sealing
  signer: Signer
  config: Pick<Config, 'signingAlgorithm' | 'signingKeyRotationDays'>
  log: Logger
  now: Clock
  timings?: Partial<JobTimings> | undefined
}): Jobs {
  const { target, background, inTransaction, sealing, signer, config, log, now, timings } = options
  const ledger = createLedgerStore(background)
  const report = (error: unknown, what: string) => log.error({ err: error, what }, 'a job failed')
  let timer: NodeJS.Timeout | undefined

  const rotateWhatIsDue = createScheduledRotation({
    inTransaction,
    sealing,
    alg: config.signingAlgorithm,
    afterSeconds: config.signingKeyRotationDays * DAY_SECONDS,
    signer,
  })
  const jobs = createJobs({
    target,
    // Once an hour what once a day would do: an hour that is missed is soon made up for. Spread over it.
    tasks: [
      { name: 'ledger-partitions', cron: '5 * * * *', run: () => ensureLedgerPartitions(ledger, now()) },
      { name: 'ledger-retention', cron: '20 * * * *', run: () => dropOldLedger(ledger, now()) },
      { name: 'idempotency-expiry', cron: '35 * * * *', run: () => forgetAnswers(background) },
      { name: 'signing-key-rotation', cron: '50 * * * *', run: rotateWhatIsDue },
      { name: 'assertion-expiry', cron: '* * * * *', run: () => forgetAssertions(background) },
    ],
    onFailure: report,
    timings,
  })

  /** Without a partition there is no token: that must not depend on the jobs. */
  async function lookAfterLedger(): Promise<void> {
    if (await ensureFewDays(ledger, now()))
      log.error('ledger-partitions has not run for days: this instance made the partitions without it')
  }

  return {
    start() {
      timer = setInterval(
        () => lookAfterLedger().catch((error) => report(error, 'ledger partitions')),
        HOUR,
      ).unref()
      jobs.start()
    },
    stop() {
      clearInterval(timer)
      return jobs.stop()
    },
  }
}
