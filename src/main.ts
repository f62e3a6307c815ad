/**
 * The service: reads the configuration, composes, listens, and drains on SIGTERM. Logs go to the standard error;
 * what is printed for a person, keys of a first start among it, goes to the standard output.
 */
import { pino } from 'pino'
import { type Bootstrapped, writeBootstrapFile } from './bootstrap.ts'
import { compose, type Service } from './compose.ts'
import { type Config, parseConfig } from './config.ts'
import { EmbeddedPostgresError, startEmbeddedPostgres } from './database/embedded.ts'
import { UnsafeRoleError } from './database/migrate.ts'
import { createHttpServer } from './http/server.ts'
import { keepKeyEncryptionKey } from './signing/key-file.ts'

const DRAIN_MILLISECONDS = 8_000
const START_GRACE_MILLISECONDS = 3_000

const parsed = parseConfig(process.env)
if (!parsed.ok) {
  console.error('Signet cannot start with this configuration:')
  for (const { name, rule } of parsed.problems) console.error(`  ${name} ${rule}`)
  process.exit(1)
}
const { config } = parsed
const log = pino({ level: config.logLevel, base: null }, pino.destination({ dest: 2, sync: true }))

// The last resort: a fault nobody foresaw ends the process; what supervises it starts another.
for (const event of ['uncaughtException', 'unhandledRejection'] as const)
  process.on(event, (error) => {
    log.fatal({ err: error }, event)
    process.exit(1)
  })

const stopRequested = new AbortController()
/** A start that is under way when it should stop may finish, for a while. */
const givenUp = new Promise<void>((resolve) => {
  stopRequested.signal.addEventListener('abort', () => setTimeout(resolve, START_GRACE_MILLISECONDS))
})
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stopRequested.abort())

try {
  await run(config)
  process.exit(0)
} catch (error) {
  if (error instanceof EmbeddedPostgresError || error instanceof UnsafeRoleError) console.error(error.message)
  else if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')
    console.error(`HOST ${config.host}, PORT ${config.port}: another program listens there already.`)
  else log.fatal({ err: error }, 'Signet cannot go on')
  process.exit(1)
}

async function run(config: Config): Promise<void> {
  const embedded =
    config.databaseUrl === undefined
      ? await startEmbeddedPostgres({ dataDir: config.dataDir, onNotice: (notice) => log.info(notice) })
      : undefined
  try {
    const service = compose({
      config,
      target: config.databaseUrl ?? embeddedTarget(embedded),
      keyEncryptionKeys: config.keyEncryptionKeys ?? [await keepKeyEncryptionKey(config.dataDir)],
      withDemo: config.databaseUrl === undefined,
      async handOver(bootstrapped) {
        if (config.bootstrapFile !== undefined) await writeBootstrapFile(config.bootstrapFile, bootstrapped)
        printKeys(config, bootstrapped)
      },
      log,
    })
    const server = createHttpServer(service.app)
    try {
      await server.listen(config.port, config.host)
      await startPatiently(service)
      if (!stopRequested.signal.aborted) {
        console.log(`Signet is ready at ${urlOf(config)} (issuer ${config.issuer})`)
        await new Promise((resolve) =>
          stopRequested.signal.addEventListener('abort', resolve, { once: true }),
        )
      }
      log.info('draining')
      await server.drain(DRAIN_MILLISECONDS)
    } finally {
      await service.stop()
    }
  } finally {
    await embedded?.stop()
  }
}

function embeddedTarget(embedded: Awaited<ReturnType<typeof startEmbeddedPostgres>> | undefined) {
  if (!embedded) throw new Error('there is neither DATABASE_URL nor an embedded PostgreSQL')
  return embedded.connection
}

/** A database that is not there yet is waited for: /livez answers meanwhile, /readyz says no. */
async function startPatiently(service: Service): Promise<void> {
  for (let attempt = 1; !stopRequested.signal.aborted; attempt++) {
    try {
      const starting = service.start()
      starting.catch(() => {})
      return await Promise.race([starting, givenUp])
    } catch (error) {
      if (error instanceof UnsafeRoleError) throw error
      log.error({ err: error, attempt }, 'not started yet')
    }
    const milliseconds = Math.min(100 * 2 ** attempt, 5000) * (0.5 + Math.random() / 2)
    await new Promise((resolve) => {
      setTimeout(resolve, milliseconds)
      stopRequested.signal.addEventListener('abort', resolve, { once: true })
    })
  }
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
