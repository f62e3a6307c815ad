/**
 * The service: reads the configuration, and serves until SIGTERM, in one process (serve.ts) or in several
 * (supervisor.ts). Logs go to the standard error; what is printed for a person, keys of a first start among it, goes to
 * the standard output.
 */
import { setFlagsFromString } from 'node:v8'
import { pino } from 'pino'
import type { Bootstrapped } from './bootstrap.ts'
import { type Config, parseConfig } from './config.ts'
import { EmbeddedPostgresError, startEmbeddedPostgres } from './database/embedded.ts'
import { StartRefusedError } from './errors.ts'
import { keepKeyEncryptionKey } from './signing/key-file.ts'
import { type Assignment, joinSupervisor, supervise } from './supervisor.ts'

/** What running requests get to finish. The longest deadline of a request's own is four seconds. */
const DRAIN_MILLISECONDS = 7_000
/** After the drain: to write what has gathered. */
const CLOSING_MILLISECONDS = 3_500

// What requests leave behind dies young. V8's helpers take longer to share out the little that is left than to move it, and
// take their time from the core that serves (docs/performance.md).
setFlagsFromString('--no-parallel-scavenge')

const parsed = parseConfig(process.env)
if (!parsed.ok) {
  console.error('Signet cannot start with this configuration:')
  for (const { name, rule } of parsed.problems) console.error(`  ${name} ${rule}`)
  process.exit(1)
}
const { config } = parsed
const supervised = joinSupervisor()
const log = pino(
  { level: config.logLevel, base: config.workers > 1 ? { pid: process.pid } : null },
  pino.destination({ dest: 2, sync: true }),
)

// The last resort: a fault nobody foresaw ends the process; what supervises it starts another.
for (const event of ['uncaughtException', 'unhandledRejection'] as const)
  process.on(event, (error) => {
    log.fatal({ err: error }, event)
    process.exit(1)
  })

const requested = new AbortController()
const hurried = new AbortController()
const stop = { requested: requested.signal, hurried: hurried.signal }
process.on('SIGTERM', () => requested.abort())
// Ctrl-C: a person waits.
process.on('SIGINT', () => {
  hurried.abort()
  requested.abort()
})

try {
  if (supervised) await serveHere(await supervised.assignment, supervised.reportReady)
  else await run()
  process.exit(0)
} catch (error) {
  if (!(error instanceof EmbeddedPostgresError || error instanceof StartRefusedError))
    log.fatal({ err: error }, 'Signet cannot go on')
  else if (supervised) await supervised.refuse(error.message)
  else console.error(error.message)
  process.exit(1)
}

/** All of the service: what its processes share, and the one or several that serve. */
async function run(): Promise<void> {
  const { workers, databaseUrl, dataDir } = config
  const embedded =
    databaseUrl === undefined
      ? await startEmbeddedPostgres({ dataDir, workers, onNotice: (notice) => log.info(notice) })
      : undefined
  try {
    const target = databaseUrl ?? embedded?.connection
    if (target === undefined) throw new Error('there is neither DATABASE_URL nor an embedded PostgreSQL')
    const keyEncryptionKeys = config.keyEncryptionKeys ?? [await keepKeyEncryptionKey(dataDir)]
    const foundation = { target, keyEncryptionKeys }
    const onReady = () => console.log(`Signet is ready at ${urlOf(config)} (issuer ${config.issuer})`)
    if (workers === 1) await serveHere({ foundation, listensAtOnce: true }, onReady)
    else {
      const patienceMilliseconds = 1000 * config.drainGraceSeconds + DRAIN_MILLISECONDS + CLOSING_MILLISECONDS
      await supervise({ workers, foundation, onReady, stop, patienceMilliseconds, log })
    }
  } finally {
    await embedded?.stop()
  }
}

async function serveHere(assignment: Assignment, onReady: () => void): Promise<void> {
  // Only where it serves: what it takes in memory, a supervisor does without.
  const { serve } = await import('./serve.ts')
  await serve({
    ...assignment,
    config,
    printKeys: (bootstrapped) => printKeys(config, bootstrapped),
    onReady,
    stop,
    drainMilliseconds: DRAIN_MILLISECONDS,
    log,
  })
}

function urlOf({ port }: Config): string {
  return `http://localhost:${port}`
}

function printKeys(config: Config, { operator, approver, demo }: Bootstrapped): void {
  console.log(`This is the first start. The operator's key is shown once, now:

  ${operator.key}

It belongs to organization ${operator.organization_id}, client ${operator.client_id}.
`)
  if (approver)
    console.log(`FOUR_EYES: what the operator asks for, this key approves (client ${approver.client_id}). Give it to another person:

  ${approver.key}
`)
  if (!demo) return
  const body = {
    expiry_seconds: 3600,
    scopes: { organization_id: demo.organization_id, scopes: demo.scopes.slice(0, 2) },
  }
  console.log(`Mint a first token with the demo organization's sandbox key:

  curl -sS ${urlOf(config)}/v2/auth/token -H 'Authorization: Bearer ${demo.key}' -H 'Content-Type: application/json' -d '${JSON.stringify(body)}'

An OAuth client uses that key as the secret of ${demo.client_id} (docs/oauth.md).
`)
}
