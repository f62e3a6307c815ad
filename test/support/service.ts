/**
 * An instance of the service as main.ts would run it, on a real socket, in the test's own process. Whatever it answers
 * is held against its own OpenAPI document; `stop` throws when an answer was not what that says.
 */
import { pino } from 'pino'
import { afterAll } from 'vitest'
import type { BootstrappedClient } from '../../src/bootstrap.ts'
import { compose, type Service, type ServiceOptions } from '../../src/compose.ts'
import type { OpenApiDocument } from '../../src/http/openapi.ts'
import { createHttpServer } from '../../src/http/server.ts'
import type { Operation } from '../../src/management/operation.ts'
import { type Contract, createContract, type Fetch, watch } from './contract.ts'
import { createTestDatabase, type TestDatabase } from './database.ts'

export const ISSUER = 'https://signet.test'
export const SANDBOX_ISSUER = `${ISSUER}/sandbox`
export const DEFAULT_AUDIENCE = 'https://api.test'
export const KEY_ENCRYPTION_KEY = new Uint8Array(32).fill(7)

export type TestService = {
  url: string
  app: Service['app']
  /** The operator's client, where this service was the first on its database. */
  operator: BootstrappedClient | undefined
  /** With fourEyes. */
  approver: BootstrappedClient | undefined
  operations: readonly Operation[]
  /** Every line that was logged, as text. */
  logs: string[]
  stop(): Promise<void>
}

export type TestServiceOptions = {
  config?: Partial<ServiceOptions['config']>
  keyEncryptionKeys?: Uint8Array[]
  now?: () => number
  logLevel?: string
  /** Default: failed authentications are answered at once. */
  failureMilliseconds?: number
  jobTimings?: ServiceOptions['jobTimings']
}

/** Any number of them may run on one database. */
export async function startService(
  database: Pick<TestDatabase, 'target'>,
  options: TestServiceOptions = {},
): Promise<TestService> {
  const logs: string[] = []
  let operator: BootstrappedClient | undefined
  let approver: BootstrappedClient | undefined
  const service = compose({
    config: {
      issuer: ISSUER,
      defaultAudience: DEFAULT_AUDIENCE,
      signingAlgorithm: 'ES256',
      signingKeyRotationDays: 30,
      keyVendor: 'sgt',
      trustedProxies: [],
      failedAuthenticationsPerMinute: 100_000,
      fourEyes: false,
      acceptTokenEndpointAudience: false,
      ...options.config,
    },
    target: database.target,
    keyEncryptionKeys: options.keyEncryptionKeys ?? [KEY_ENCRYPTION_KEY],
    withDemo: false,
    failureMilliseconds: options.failureMilliseconds ?? 0,
    async handOver(bootstrapped) {
      operator = bootstrapped.operator
      approver = bootstrapped.approver
    },
    log: pino({ level: options.logLevel ?? 'trace' }, { write: (line: string) => void logs.push(line) }),
    ...(options.now ? { now: options.now } : {}),
    ...(options.jobTimings ? { jobTimings: options.jobTimings } : {}),
  })
  let contract: Contract | undefined
  const { router } = service.app
  const watched = watch({ fetch: router.fetch as Fetch, doors: service.app.doors }, () => contract)
  router.fetch = watched.fetch as typeof router.fetch
  const server = createHttpServer({ ...service.app, doors: watched.doors })
  await service.start()
  const { port } = await server.listen(0, '127.0.0.1')
  const url = `http://127.0.0.1:${port}`
  contract = contractOf(await (await fetch(`${url}/openapi.json`)).text())
  return {
    url,
    app: service.app,
    operator,
    approver,
    operations: service.operations,
    logs,
    async stop() {
      await server.drain(1000)
      await service.stop()
      if (watched.violations.size > 0)
        throw new Error(
          [
            'answers that the OpenAPI document does not allow:',
            ...[...watched.violations].slice(0, 20).flat(),
          ].join('\n  '),
        )
    },
  }
}

/** Services that say the same of themselves share one. */
const contracts = new Map<string, Contract>()
function contractOf(document: string): Contract {
  const contract = contracts.get(document) ?? createContract(JSON.parse(document) as OpenApiDocument)
  contracts.set(document, contract)
  return contract
}

/** A database and a service on it for the whole test file, which ends both. To be awaited at its top. */
export async function setUpService(
  options: TestServiceOptions = {},
): Promise<{ database: TestDatabase; service: TestService }> {
  const database = await createTestDatabase()
  const service = await startService(database, options)
  afterAll(async () => {
    try {
      await service.stop()
    } finally {
      await database.drop()
    }
  })
  return { database, service }
}
