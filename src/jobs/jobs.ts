/**
 * What has to be done again and again, once for the database and not once for each instance: on pg-boss, whose queue is
 * the schema `pgboss` of the same database. Each occurrence of a task is a job, taken by one instance; one that fails is
 * tried again, by any. No job carries data: a task finds in the database what there is to do, so one run too many
 * changes nothing, and one that is missed is made up for by the next.
 *
 * Nothing here may stop the service: without a database, the jobs rest until it is back.
 */
import type { PgBoss } from 'pg-boss'
import { inTime } from '../clock.ts'
import type { DatabaseTarget } from '../database/database.ts'
import { connectJobs, type JobConnection } from './store.ts'

export type Task = {
  /** Of its queue. */
  name: string
  /** When, in cron's five fields, UTC. What came due while no instance ran is made up for, once. */
  cron: string
  run(): Promise<unknown>
}

export type Jobs = {
  /** Begins in the background, a while later. */
  start(): void
  /** Within two seconds. What does not end by then is another instance's to do again. */
  stop(): Promise<void>
}

export type JobTimings = {
  /** Until the first statement: a start has done what is urgent, and a fleet that starts at once spreads. */
  delayMilliseconds: number
  /** Between two looks for jobs, per task and instance; and between two looks at what is due. At most 45. */
  pollSeconds: number
  /** Until the first retry; later ones wait longer and longer. */
  retrySeconds: number
}

const TIMINGS: JobTimings = { delayMilliseconds: 15_000, pollSeconds: 30, retrySeconds: 30 }

const DAY_SECONDS = 86_400
/** Whatever a task does in that time, its statements are bounded more tightly. */
const EXPIRE_SECONDS = 120
const MAX_BEGIN_WAIT_MILLISECONDS = 60_000
const TASKS_END_MILLISECONDS = 1_000
const STOP_MILLISECONDS = 1_700
/** An outage is one thing to report, not one for each question that goes unanswered. */
const REPORT_EVERY_MILLISECONDS = 60_000

/** pg-boss's own queue of occurrences on their way to their tasks. */
const OCCURRENCES = '__pgboss__send-it'

export function createJobs(options: {
  target: DatabaseTarget
  tasks: readonly Task[]
  /** `what` failed: a task by its name, or the queue itself. */
  onFailure: (error: unknown, what: string) => void
  timings?: Partial<JobTimings> | undefined
}): Jobs {
  const { target, tasks, onFailure } = options
  const { delayMilliseconds, pollSeconds, retrySeconds } = { ...TIMINGS, ...options.timings }
  let timer: NodeJS.Timeout | undefined
  let connection: JobConnection | undefined
  let boss: PgBoss | undefined
  let beginning: Promise<void> | undefined
  let isStopped = false
  let quietUntil = 0

  function reportQueue(error: unknown): void {
    const now = performance.now()
    if (isStopped || now < quietUntil) return
    quietUntil = now + REPORT_EVERY_MILLISECONDS
    onFailure(error instanceof Error ? error : Object.assign(new Error(), error), 'the job queue')
  }

  function beginIn(milliseconds: number, attempt: number): void {
    timer = setTimeout(() => {
      beginning = begin().catch((error) => {
        reportQueue(error)
        if (!isStopped)
          beginIn(jittered(Math.min(1000 * 2 ** attempt, MAX_BEGIN_WAIT_MILLISECONDS)), attempt + 1)
      })
    }, milliseconds).unref()
  }

  async function begin(): Promise<void> {
    const { PgBoss } = await importQueue()
    if (isStopped) return
    connection = connectJobs(target)
    boss = new PgBoss({
      db: connection,
      schema: 'pgboss',
      cronMonitorIntervalSeconds: pollSeconds,
      cronWorkerIntervalSeconds: pollSeconds,
      // Dependencies between jobs are not used; it looks for some all the same.
      flowIntervalSeconds: 3600,
      bamIntervalSeconds: 600,
      // A few thousand rows: vacuum and indexes are the database's own affair.
      monitorVacuum: false,
      reindex: false,
    })
    boss.on('error', reportQueue)
    boss.on('warning', ({ message }) => reportQueue(new Error(message)))
    try {
      await boss.start()
      await boss.updateQueue(OCCURRENCES, { deleteAfterSeconds: DAY_SECONDS })
      for (const task of tasks) await define(boss, task)
      for (const task of tasks)
        await boss.work(task.name, { pollingIntervalSeconds: pollSeconds }, () => perform(task))
    } catch (error) {
      await end(boss, connection)
      throw error
    }
  }

  async function define(boss: PgBoss, { name, cron }: Task): Promise<void> {
    const settings = {
      expireInSeconds: EXPIRE_SECONDS,
      retryLimit: 5,
      retryDelay: retrySeconds,
      retryBackoff: true,
      deleteAfterSeconds: 2 * DAY_SECONDS,
    }
    // exclusive: while one waits or runs, another would do the same.
    await boss.createQueue(name, { policy: 'exclusive', ...settings })
    await boss.updateQueue(name, settings)
    await boss.schedule(name, cron, null, { missed: 'once' })
  }

  async function perform({ name, run }: Task): Promise<void> {
    try {
      await run()
    } catch (error) {
      onFailure(error, name)
      // This is what is kept of it with the job: a driver's error holds the statement and its values.
      throw Object.assign(new Error('it failed: the log says why'), { stack: undefined })
    }
  }

  return {
    start() {
      if (isStopped) return
      // Now, while nobody waits for an answer: to take it in holds the process up for a fifth of a second.
      importQueue().catch(() => {})
      beginIn(jittered(delayMilliseconds), 0)
    },
    async stop() {
      isStopped = true
      clearTimeout(timer)
      if (boss && connection) await end(boss, connection)
      await beginning
    },
  }
}

/** It brings a driver of its own, which nobody here uses, and calendars. */
const importQueue = () => import('pg-boss')

/** Lets running tasks end, a bounded time, gives back what has not ended, and lets go of the database. */
async function end(boss: PgBoss, connection: JobConnection): Promise<void> {
  await inTime(boss.stop({ timeout: TASKS_END_MILLISECONDS }), STOP_MILLISECONDS).catch(() => {})
  await connection.close()
}

const jittered = (milliseconds: number): number => milliseconds * (0.5 + Math.random() / 2)
