/**
 * `npm run measure -- outage [--seconds 30] [--returns 5]`: what goes on while the database is gone, and how soon all is well
 * again. A server of its own under load. First several short outages (PostgreSQL killed, and started again after two
 * seconds): the time to the first 503, the slowest answer, the first token after its return, and the time until 95 %
 * of the rate before. Then one of `--seconds` (600 for the full figure), during which key set, metadata, revocation feed
 * and offline verification are asked for without pause. Exits with 1 when one of those failed, when a 503 took longer
 * than a second, the first token a second, or the full rate three.
 */
import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import postgres from 'postgres'
import { createVerifier } from '#sdk'
import { startEmbeddedPostgres } from '../../src/database/embedded.ts'
import { withThrowawayServer } from '../throwaway-server.ts'

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '30' }, returns: { type: 'string', default: '5' } },
})
const SECONDS = Number(values.seconds)
const RETURNS = Number(values.returns)
const SHORT_MS = 2_000
const PARALLEL = 8
/** Over which a rate is taken. */
const WINDOW_MS = 500
const PROMISED = { refusal: 1_000, firstToken: 1_000, fullRate: 3_000 }

await withThrowawayServer(async (server) => {
  await server.start()
  const { demo } = await server.bootstrapped()
  if (!demo) throw new Error('the first start made no demo organization')
  const embedded = await startEmbeddedPostgres({ dataDir: server.dataDir })
  const sql = postgres({ ...embedded.connection, max: 1, connection: { 'signet.platform': 'on' } })
  await sql`update clients set rate_limit_per_minute = 1000000000 where id = ${demo.client_id}`
  await sql.end()

  const answers: { status: number; began: number; ended: number }[] = []
  let isOver = false
  let token = ''
  const body = JSON.stringify({
    scopes: { organization_id: demo.organization_id, scopes: demo.scopes.slice(0, 1) },
  })
  async function mintOn(): Promise<void> {
    while (!isOver) {
      const began = performance.now()
      const response = await fetch(`${server.url}/v2/auth/token`, {
        method: 'POST',
        headers: { Authorization: `Bearer ${demo?.key}`, 'Content-Type': 'application/json' },
        body,
      }).catch(() => undefined)
      const text = await response?.text()
      if (response?.status === 200) token = JSON.parse(text ?? '').token
      answers.push({ status: response?.status ?? 0, began, ended: performance.now() })
      // As a client that heeds Retry-After would, only more often.
      if (response?.status !== 200) await sleep(20)
    }
  }
  const loops = Array.from({ length: PARALLEL }, mintOn)
  /** Tokens per second up to that moment. */
  const rateAt = (moment: number) =>
    answers.filter(({ status, ended }) => status === 200 && ended > moment - WINDOW_MS && ended <= moment)
      .length *
    (1000 / WINDOW_MS)
  /** The slowest window of a steady second and a half: what is normal here, on a machine that others use too. */
  async function steadyRate(): Promise<number> {
    await sleep(2_000)
    const now = performance.now()
    return Math.min(...[0, 500, 1000].map((back) => rateAt(now - back)))
  }

  async function outage(during: () => Promise<void>) {
    const before = await steadyRate()
    const killed = performance.now()
    await killPostgres(server.dataDir)
    await during()
    await startPostgres(server.dataDir)
    const back = performance.now()
    let fullRateAt: number | undefined
    while (fullRateAt === undefined && performance.now() - back < 20_000) {
      await sleep(50)
      if (performance.now() - back > WINDOW_MS && rateAt(performance.now()) >= 0.95 * before)
        fullRateAt = performance.now()
    }
    const since = answers.filter(({ ended }) => ended >= killed)
    const refused = since.filter(({ status }) => status === 503)
    return {
      firstRefusal: (refused[0]?.ended ?? Number.NaN) - killed,
      slowest: Math.max(...refused.map(({ began, ended }) => ended - began)),
      firstToken:
        (since.find(({ status, ended }) => status === 200 && ended > back)?.ended ?? Number.NaN) - back,
      fullRate: (fullRateAt ?? Number.NaN) - back - WINDOW_MS,
      surprises: since.filter(({ status }) => status !== 200 && status !== 503).length,
      refused: refused.length,
      before,
    }
  }
  type Outage = Awaited<ReturnType<typeof outage>>
  const broken: string[] = []
  function report(name: string, found: Outage): void {
    const { before, refused, firstRefusal, slowest, firstToken, fullRate, surprises } = found
    console.log(
      `${name}: ${Math.round(before)} tokens/s before; ${refused} answers of 503, the first after ${Math.round(firstRefusal)} ms, ` +
        `the slowest ${Math.round(slowest)} ms; back: first token after ${Math.round(firstToken)} ms, ` +
        `95 % of the rate after ${Math.round(Math.max(0, fullRate))} ms`,
    )
    if (!(slowest <= PROMISED.refusal)) broken.push(`${name}: a 503 took longer than a second`)
    if (!(firstToken <= PROMISED.firstToken))
      broken.push(`${name}: the first token took longer than a second`)
    if (!(fullRate <= PROMISED.fullRate)) broken.push(`${name}: the full rate took longer than three seconds`)
    if (surprises > 0) broken.push(`${name}: ${surprises} answers were neither 200 nor 503`)
  }

  for (let n = 1; n <= RETURNS; n++) report(`outage ${n}`, await outage(() => sleep(SHORT_MS)))

  const verifier = createVerifier({
    issuer: `${server.url}/sandbox`,
    audience: `${server.url}/api`,
    jwksUri: `${server.url}/sandbox/.well-known/jwks.json`,
    revocations: { maxStaleness: 1800, uri: `${server.url}/sandbox/oauth2/revocations` },
  })
  await verifier.preload()
  const paths: Record<string, string> = {
    'key set': '/sandbox/.well-known/jwks.json',
    metadata: '/.well-known/oauth-authorization-server/sandbox',
    'revocation feed': '/sandbox/oauth2/revocations',
  }
  const counts = new Map([...Object.keys(paths), 'verification'].map((name) => [name, { good: 0, bad: 0 }]))
  async function count(name: string, work: Promise<boolean>): Promise<void> {
    const found = counts.get(name)
    if (await work.catch(() => false)) found && found.good++
    else found && found.bad++
  }
  const long = await outage(async () => {
    for (const until = performance.now() + SECONDS * 1000; performance.now() < until; await sleep(20))
      await Promise.all([
        ...Object.entries(paths).map(([name, path]) =>
          count(
            name,
            fetch(server.url + path).then(
              async (response) => (await response.text()) !== '' && response.status === 200,
            ),
          ),
        ),
        count(
          'verification',
          verifier.verify(token).then(() => true),
        ),
      ])
  })
  verifier.close()
  report(`outage of ${SECONDS} s`, long)
  for (const [name, { good, bad }] of counts) {
    console.log(`  ${name}: ${good} of ${good + bad} (${((100 * good) / (good + bad)).toFixed(3)} %)`)
    if (bad > 0 || good === 0) broken.push(`${name} failed ${bad} times`)
  }
  isOver = true
  await Promise.all(loops)
  await embedded.stop()
  if (broken.length > 0) throw new Error(broken.join('; '))
})

/** As pg_ctl stop -m immediate: the clients learn of it from their connections. */
async function killPostgres(dataDir: string): Promise<void> {
  const pid = Number((await readFile(join(dataDir, 'postgres/postmaster.pid'), 'utf8')).split('\n')[0])
  process.kill(pid, 'SIGQUIT')
  for (;;) {
    try {
      process.kill(pid, 0)
    } catch {
      return
    }
    await sleep(10)
  }
}

/** In a process of its own, which leaves it running: as whoever operates it would. Resolves once it takes connections. */
async function startPostgres(dataDir: string): Promise<void> {
  const launcher = `import { startEmbeddedPostgres } from ${JSON.stringify(new URL('../../src/database/embedded.ts', import.meta.url).href)}
    await startEmbeddedPostgres({ dataDir: process.argv[1] })
    process.exit(0)`
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', launcher, dataDir], {
    stdio: 'inherit',
  })
  const [code] = (await new Promise<[number | null]>((resolve) =>
    child.once('exit', (exit) => resolve([exit])),
  )) ?? [1]
  if (code !== 0) throw new Error('PostgreSQL did not start again')
}
