/** The job queue on a real database: once per occurrence whoever runs, again after a failure, on after an outage. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { DatabaseTarget } from '../../src/database/database.ts'
import { createJobs, type JobTimings, type Task } from '../../src/jobs/jobs.ts'
import { createTcpProxy } from '../database/tcp-proxy.ts'
import { createTestDatabase } from '../support/database.ts'
import { createPostgresServer, findPostgresVersions } from '../support/postgres-server.ts'
import { createProcesses, waitFor } from '../support/process.ts'

const FAST: JobTimings = { delayMilliseconds: 0, pollSeconds: 1, retrySeconds: 1 }

type OnFinished = (end: () => Promise<void>) => void

async function setUp(onTestFinished: OnFinished, options: { withSchema?: boolean } = {}) {
  const database = await createTestDatabase()
  if (options.withSchema === false) await database.sql`drop schema pgboss cascade`
  const failures: { error: unknown; what: string }[] = []
  const stops: (() => Promise<void>)[] = []
  onTestFinished(async () => {
    await Promise.all(stops.map((stop) => stop()))
    await database.drop()
  })
  /** Each minute a job: the first at once, that of the minute that has begun. */
  function startOn(target: DatabaseTarget, run: Task['run'], name = 'sweep') {
    const jobs = createJobs({
      target,
      tasks: [{ name, cron: '* * * * *', run }],
      onFailure: (error, what) => failures.push({ error, what }),
      timings: FAST,
    })
    jobs.start()
    stops.push(jobs.stop)
    return jobs
  }
  const { sql, target } = database
  const jobsOf = (name = 'sweep') => sql<{ state: string; output: unknown }[]>`
    select state, output from pgboss.job where name = ${name} order by created_on`
  return { sql, target, failures, jobsOf, start: startOn.bind(undefined, target), startOn }
}

test.concurrent.for([
  ['on a database that has never seen one', false],
  ['beside others', true],
] as const)(
  'of three instances that start at once, %s, one runs each occurrence',
  async ([, withSchema], { onTestFinished }) => {
    const { sql, failures, start } = await setUp(onTestFinished, { withSchema })
    let runs = 0
    for (let i = 0; i < 3; i++) start(async () => void runs++)
    await waitFor('a run', async () => runs > 0)
    await sleep(2500)
    const occurrences = await sql<{ due: string; sent: number }[]>`
    select singleton_on::text as due, count(*)::int as sent from pgboss.job where name = '__pgboss__send-it' group by 1`
    // Where a minute begins meanwhile, it has one of its own.
    expect(occurrences.map(({ sent }) => sent)).toEqual(occurrences.map(() => 1))
    expect(runs).toBe(occurrences.length)
    expect(failures).toEqual([])
  },
)

test.concurrent('a task that fails is reported, and tried again; the job keeps nothing of the reason', async ({
  onTestFinished,
}) => {
  const { failures, jobsOf, start } = await setUp(onTestFinished)
  let runs = 0
  const run = async () => {
    if (++runs === 1) throw new Error('a secret')
  }
  start(run)
  start(run)
  await waitFor('the second try', async () => (await jobsOf()).some(({ state }) => state === 'retry'))
  expect(JSON.stringify(await jobsOf())).not.toContain('secret')
  await waitFor('its success', async () => (await jobsOf()).some(({ state }) => state === 'completed'))
  expect(failures.map(({ error, what }) => [what, String(error)])).toEqual([['sweep', 'Error: a secret']])
})

test.concurrent('stopping waits for what runs, but not for long: what does not end, another instance does', async ({
  onTestFinished,
}) => {
  const { jobsOf, start } = await setUp(onTestFinished)
  const done: string[] = []
  const first = start(async () => {
    await sleep(400)
    done.push('one that ends')
  })
  await waitFor('the job', async () => (await jobsOf()).some(({ state }) => state === 'active'))
  await first.stop()
  expect(done).toEqual(['one that ends'])
  expect((await jobsOf()).map(({ state }) => state)).toEqual(['completed'])

  const hanging = start(() => new Promise(() => {}), 'hang')
  await waitFor('the job', async () => (await jobsOf('hang')).some(({ state }) => state === 'active'))
  const began = performance.now()
  await hanging.stop()
  expect(performance.now() - began).toBeLessThan(2000 + 500)
  start(async () => void done.push('one that did not'), 'hang')
  await waitFor('the retry', async () => done.includes('one that did not'))
})

test.concurrent('F2 without a database the jobs rest, say so once, and go on when it is back', async ({
  onTestFinished,
}) => {
  const { sql, target, failures, startOn } = await setUp(onTestFinished)
  const proxy = await createTcpProxy(`${target.host}/.s.PGSQL.${target.port}`)
  onTestFinished(() => proxy.close())
  // From the start on there is none.
  const silence = () => {
    proxy.filter(() => () => false)
    proxy.cutAll()
  }
  silence()
  let runs = 0
  startOn({ ...target, host: '127.0.0.1', port: proxy.port }, async () => void runs++)
  await waitFor('the report', async () => failures.length > 0)
  proxy.filter(undefined)
  await waitFor('a run', async () => runs === 1)

  silence()
  await sleep(2500)
  proxy.filter(undefined)
  proxy.cutAll()
  await sql`insert into pgboss.job (name) values ('sweep')`
  await waitFor('another run', async () => runs >= 2)
  expect(failures.map(({ what }) => what)).toEqual(['the job queue'])
})

test.concurrent('a statement that fails within a transaction leaves the connection usable', async ({
  onTestFinished,
}) => {
  const { sql, start, failures } = await setUp(onTestFinished, { withSchema: false })
  // What pg-boss makes its schema with fails on the way, which it takes for another instance's having made it.
  await sql`create schema pgboss`
  await sql`create table pgboss.queue (in_the_way integer)`
  let runs = 0
  start(async () => void runs++)
  await waitFor('the report', async () => failures.length > 0)
  // Not that the transaction is aborted.
  expect(String(failures[0]?.error)).toContain('job_now() does not exist')
  await sql`drop table pgboss.queue`
  await waitFor('a run', async () => runs > 0)
})

test.concurrent('an instance of this version goes on beside a schema that a later one has changed', async ({
  onTestFinished,
}) => {
  const { sql, start, failures } = await setUp(onTestFinished)
  await sql`update pgboss.version set version = version + 1`
  let runs = 0
  start(async () => void runs++)
  await waitFor('a run', async () => runs > 0)
  expect(failures).toEqual([])
})

test.concurrent('before its time, a stop costs nothing, and nothing has been asked of the database', async ({
  onTestFinished,
}) => {
  const { sql, target } = await setUp(onTestFinished)
  const jobs = createJobs({ target, tasks: [], onFailure: () => {} })
  jobs.start()
  await sleep(100)
  const began = performance.now()
  await jobs.stop()
  expect(performance.now() - began).toBeLessThan(200)
  const [row] = await sql`select count(*)::int as n from pgboss.queue`
  expect(row?.n).toBe(0)
})

const versions = (await findPostgresVersions()).filter(({ version }) => !version.startsWith('18'))
if (versions.length === 0) console.log('jobs on an older PostgreSQL: not tried, there is none here')

test.concurrent.for(versions)(
  'on PostgreSQL $version, as a role that owns its database',
  async ({ binaries }, { onTestFinished }) => {
    const processes = createProcesses()
    const server = await createPostgresServer(await processes.folder(), binaries)
    onTestFinished(async () => {
      await server.stop('immediate')
      await processes.cleanUp()
    })
    await server.start()
    const failures: unknown[] = []
    let runs = 0
    const jobs = createJobs({
      target: server.url('signet', 'one'),
      tasks: [{ name: 'sweep', cron: '* * * * *', run: async () => void runs++ }],
      onFailure: (error) => failures.push(error),
      timings: FAST,
    })
    jobs.start()
    await waitFor('a run', async () => runs > 0)
    await jobs.stop()
    expect(failures).toEqual([])
  },
)
