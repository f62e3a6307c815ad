/**
 * Three instances of one service, on one database: two with it directly, and one through a proxy that can cut its
 * connections or let them fall silent.
 */
import { Agent, request } from 'node:http'
import postgres, { type Sql } from 'postgres'
import type { BootstrappedClient } from '../src/bootstrap.ts'
import { startEmbeddedPostgres } from '../src/database/embedded.ts'
import { keepKeyEncryptionKey } from '../src/signing/key-file.ts'
import { createTcpProxy, type TcpProxy } from '../test/database/tcp-proxy.ts'
import type { Instance, ThrowawayServer } from './throwaway-server.ts'

export type Answer = { status: number; body: string }

export type Call = {
  method?: 'POST' | 'PATCH'
  path: string
  authorization: string
  body?: object
  headers?: Record<string, string>
  /** Milliseconds after which the caller hangs up. */
  hangUpAfter?: number
}

export type Fleet = {
  instances: readonly [Instance, Instance, Instance]
  /** Between the third instance and the database. */
  proxy: TcpProxy
  sql: Sql
  operator: BootstrappedClient
  /** Rejects when the connection ends before the answer. */
  call(instance: Instance, call: Call): Promise<Answer>
  close(): Promise<void>
}

export async function startFleet(server: ThrowawayServer): Promise<Fleet> {
  // So that it is not the brake on wrong credentials that refuses them.
  const environment = { FAILED_AUTHENTICATIONS_PER_MINUTE: '1000000' }
  const first = await server.start({ environment })
  const second = await server.startAnother({ environment })
  const embedded = await startEmbeddedPostgres({ dataDir: server.dataDir })
  const { host, port, username, database } = embedded.connection
  const proxy = await createTcpProxy(`${host}/.s.PGSQL.${port}`)
  const [keyEncryptionKey = new Uint8Array()] = [await keepKeyEncryptionKey(server.dataDir)]
  const third = await server.startAnother({
    environment: {
      ...environment,
      DATABASE_URL: `postgres://${username}:none@127.0.0.1:${proxy.port}/${database}`,
      KEY_ENCRYPTION_KEY: Buffer.from(keyEncryptionKey).toString('base64'),
    },
  })
  const sql = postgres({
    ...embedded.connection,
    max: 4,
    onnotice: () => {},
    connection: { 'signet.platform': 'on', TimeZone: 'UTC' },
  })
  const { operator } = await server.bootstrapped()
  const agent = new Agent({ keepAlive: true })
  return {
    instances: [first, second, third],
    proxy,
    sql,
    operator,
    call: (instance, call) => send(agent, instance.url, call),
    async close() {
      agent.destroy()
      await sql.end({ timeout: 1 })
      await server.stop()
      await proxy.close()
      await embedded.stop()
    },
  }
}

export function exchangeCall({
  key,
  organizationId,
  scopes,
}: {
  key: string
  organizationId: string
  scopes: readonly string[]
}): Call {
  return {
    path: '/v2/auth/token',
    authorization: `Bearer ${key}`,
    body: { scopes: { organization_id: organizationId, scopes } },
  }
}

/** A token with the operator’s management scopes. */
export async function operatorToken(
  { call, operator, instances }: Fleet,
  scopes: readonly string[],
): Promise<string> {
  const { key, organization_id: organizationId } = operator
  const answer = await call(instances[0], exchangeCall({ key, organizationId, scopes }))
  if (answer.status !== 200) throw new Error(`the operator’s exchange was answered with ${answer.status}`)
  return `Bearer ${JSON.parse(answer.body).token}`
}

function send(
  agent: Agent,
  url: string,
  { method = 'POST', path, authorization, body, headers, hangUpAfter }: Call,
): Promise<Answer> {
  const text = body === undefined ? '' : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const sent = request(
      url + path,
      {
        agent,
        method,
        timeout: 20_000,
        headers: {
          Authorization: authorization,
          'Content-Length': Buffer.byteLength(text),
          ...(text === '' ? {} : { 'Content-Type': 'application/json' }),
          ...headers,
        },
      },
      (answer) => {
        let received = ''
        answer.setEncoding('utf8')
        answer.on('data', (chunk) => {
          received += chunk
        })
        answer.on('error', reject)
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body: received }))
      },
    )
    sent.on('error', reject)
    sent.on('timeout', () => sent.destroy(new Error('no answer came')))
    if (hangUpAfter !== undefined)
      setTimeout(() => sent.destroy(new Error('the caller hung up')), hangUpAfter)
    sent.end(text)
  })
}
