/**
 * A service whose issuer is its own URL, as discovery demands (RFC 8414 §3.3): the port is taken before the service
 * starts, and whatever arrives there is passed on to it.
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { afterAll } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { startService, type TestService, type TestServiceOptions } from '../support/service.ts'

export async function setUpAtOwnUrl(config: TestServiceOptions['config'] = {}): Promise<{
  database: TestDatabase
  service: TestService
  issuers: { production: string; sandbox: string }
}> {
  let port: number | undefined
  const sockets = new Set<Socket>()
  const listener = createServer((down) => {
    const up = connect(port ?? 0, '127.0.0.1')
    for (const [socket, other] of [
      [down, up],
      [up, down],
    ] as const) {
      sockets.add(socket)
      socket.pipe(other)
      // Either end ends both; why, is for whoever reads there to see.
      socket.on('error', () => other.destroy())
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
  }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const url = `http://127.0.0.1:${(listener.address() as AddressInfo).port}`

  const database = await createTestDatabase()
  const service = await startService(database, { config: { ...config, issuer: url } })
  port = Number(new URL(service.url).port)
  afterAll(async () => {
    try {
      for (const socket of sockets) socket.destroy()
      listener.close()
      await service.stop()
    } finally {
      await database.drop()
    }
  })
  return { database, service: { ...service, url }, issuers: { production: url, sandbox: `${url}/sandbox` } }
}
