/** An instance of the service as main.ts would run it, on a real socket, in the test's own process. */
import { pino } from 'pino'
import { afterAll } from 'vitest'
import { compose, type ServiceOptions } from '../../src/compose.ts'
import { createHttpServer } from '../../src/http/server.ts'
import { createTestDatabase, type TestDatabase } from './database.ts'

export const ISSUER = 'https://signet.test'
export const SANDBOX_ISSUER = `${ISSUER}/sandbox`
export const DEFAULT_AUDIENCE = 'https://api.test'
export const KEY_ENCRYPTION_KEY = new Uint8Array(32).fill(7)

export type TestService = {
  url: string
  /** Every line that was logged, as text. */
  logs: string[]
  stop(): Promise<void>
}

export type TestServiceOptions = {
  config?: Partial<ServiceOptions['config']>
  keyEncryptionKeys?: Uint8Array[]
  now?: () => number
  logLevel?: string
}

/** Any number of them may run on one database. */
export async function startService(
  database: Pick<TestDatabase, 'target'>,
  options: TestServiceOptions = {},
): Promise<TestService> {
  const logs: string[] = []
  const service = compose({
    config: {
      issuer: ISSUER,
      defaultAudience: DEFAULT_AUDIENCE,
      signingAlgorithm: 'ES256',
      keyVendor: 'sgt',
      trustedProxies: [],
      failedAuthenticationsPerMinute: 100_000,
      ...options.config,
    },
    target: database.target,
    keyEncryptionKeys: options.keyEncryptionKeys ?? [KEY_ENCRYPTION_KEY],
    withDemo: false,
    handOver: async () => {},
    log: pino({ level: options.logLevel ?? 'trace' }, { write: (line: string) => void logs.push(line) }),
    ...(options.now ? { now: options.now } : {}),
  })
  const server = createHttpServer(service.app)
  await service.start()
  const { port } = await server.listen(0, '127.0.0.1')
  return {
    url: `http://127.0.0.1:${port}`,
    logs,
    async stop() {
      await server.drain(1000)
      await service.stop()
    },
  }
}

/** A database and a service on it for the whole test file, which ends both. To be awaited at its top. */
export async function setUpService(
  options: TestServiceOptions = {},
): Promise<{ database: TestDatabase; service: TestService }> {
  const database = await createTestDatabase()
  const service = await startService(database, options)
  afterAll(async () => {
    await service.stop()
    await database.drop()
  })
  return { database, service }
}
