/** A service whose way to the database goes through a proxy of the test's own, to be delayed, silenced or cut. */
import { createTcpProxy, type TcpProxy } from '../database/tcp-proxy.ts'
import { createTestDatabase, type TestDatabase } from './database.ts'
import { startService, type TestService, type TestServiceOptions } from './service.ts'

export type ProxiedService = {
  database: TestDatabase
  proxy: TcpProxy
  service: TestService
  end(): Promise<void>
}

export async function startBehindProxy(options: TestServiceOptions = {}): Promise<ProxiedService> {
  const database = await createTestDatabase()
  const proxy = await createTcpProxy(`${database.target.host}/.s.PGSQL.${database.target.port}`)
  const target = { ...database.target, host: '127.0.0.1', port: proxy.port }
  const service = await startService({ target }, { logLevel: 'warn', ...options })
  async function end() {
    proxy.delay(0)
    await service.stop().finally(async () => {
      await proxy.close()
      await database.drop()
    })
  }
  return { database, proxy, service, end }
}

export type Timed = { status: number; milliseconds: number; retryAfter: string | null }

/** How it was answered, and when. */
export async function timed(asked: () => Promise<{ status: number; headers: Headers }>): Promise<Timed> {
  const began = performance.now()
  const { status, headers } = await asked()
  return {
    status,
    milliseconds: Math.round(performance.now() - began),
    retryAfter: headers.get('retry-after'),
  }
}
