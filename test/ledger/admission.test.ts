import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { connectAsPlatform } from '../../src/database/database.ts'
import { newJti } from '../../src/ids.ts'
import {
  ADMISSION_SETTINGS,
  type Admission,
  type AdmissionRequest,
  createAdmission,
} from '../../src/ledger/admission.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { type SeededClient, seedClient } from '../support/seed.ts'
import { startService } from '../support/service.ts'

let database: TestDatabase
let admission: Admission
beforeAll(async () => {
  database = await createTestDatabase()
  // Makes the signing keys.
  await (await startService(database)).stop()
  admission = admissionOn(database.target)
})
afterAll(async () => {
  await admission?.close()
  await database?.drop()
})

const admissionOn = (target: TestDatabase['target']) =>
  createAdmission(() =>
    connectAsPlatform(target, { max: 1, statementTimeoutMilliseconds: 500, settings: ADMISSION_SETTINGS }),
  )

async function requestFor(client: SeededClient, audience = 'urn:api'): Promise<AdmissionRequest> {
  const versionOf = async (table: string, id: string) => {
    const [row] = await database.sql`select version from ${database.sql(table)} where id = ${id}`
    return { id, version: Number(row?.version) }
  }
  const [signingKey] = await database.sql`select kid, version from signing_keys where environment = 'sandbox'`
  const owner = await versionOf('organizations', client.organizationId)
  const now = Math.floor(Date.now() / 1000)
  return {
    jti: newJti(),
    issuedAt: now,
    expiresAt: now + 300,
    environment: 'sandbox',
    scopes: ['a', 'b'],
    audience,
    clientIp: '192.0.2.1',
    subjectJtis: undefined,
    requestId: 'r',
    key: await versionOf('keys', client.keyId),
    client: await versionOf('clients', client.clientId),
    owner,
    organization: owner,
    delegation: undefined,
    signingKey: { id: signingKey?.kid, version: Number(signingKey?.version) },
  }
}

const recorded = async (jti: string) =>
  (await database.sql`select * from issued_tokens where jti = ${jti}`).length

test('a batch is answered in order: admitted, limited, stale, each for itself', async () => {
  const plenty = await seedClient(database.sql)
  const one = await seedClient(database.sql, { rateLimitPerMinute: 1 })
  const changed = await requestFor(await seedClient(database.sql))
  await database.sql`update keys set revoked_at = now() where id = ${changed.key.id}`
  const batch = [
    await requestFor(plenty),
    await requestFor(one),
    changed,
    await requestFor(one),
    await requestFor(plenty),
  ]
  const verdicts = await admission.admitBatch(batch)
  expect(verdicts.map(({ outcome }) => outcome)).toEqual([
    'admitted',
    'admitted',
    'stale',
    'limited',
    'admitted',
  ])
  for (const [n, { jti }] of batch.entries())
    expect(await recorded(jti)).toBe(verdicts[n]?.outcome === 'admitted' ? 1 : 0)
})

test('each of the rows that a token was judged by makes it stale', async () => {
  const request = await requestFor(await seedClient(database.sql))
  const other = await seedClient(database.sql)
  const old = ({ id, version }: { id: string; version: number }) => ({ id, version: version - 1 })
  const stale: Partial<AdmissionRequest>[] = [
    { key: old(request.key) },
    { client: old(request.client) },
    { owner: old(request.owner) },
    { organization: old(request.organization) },
    { signingKey: old(request.signingKey) },
    { delegation: { id: 'dlg_of_nobody', version: 1 } },
    { key: { ...request.key, id: 'key_of_nobody' } },
    { organization: { id: other.organizationId, version: 1 } },
  ]
  for (const change of stale)
    expect(await admission.admitBatch([{ ...request, ...change }])).toEqual([{ outcome: 'stale' }])
  expect((await admission.admitBatch([request]))[0]?.outcome).toBe('admitted')
})

test('a row that is refused only at the commit lets no token out', async () => {
  await database.sql.unsafe(`
    create function refuse() returns trigger language plpgsql as
      $$ begin raise exception 'disk full' using errcode = '53100'; end $$;
    create constraint trigger refuse after insert on issued_tokens deferrable initially deferred
      for each row when (new.audience = 'urn:refused') execute function refuse()`)
  const request = await requestFor(await seedClient(database.sql), 'urn:refused')
  await expect(admission.admitBatch([request])).rejects.toThrow('disk full')
  expect(await recorded(request.jti)).toBe(0)
})

test('F6 connections that die in silence are replaced, and what was given up on them never runs', async () => {
  // Lets everything through, until it is told to let nothing through; new connections work all the same.
  const held: { socket: Socket; onward: Socket }[] = []
  const proxy = createServer((socket) => {
    const onward = connect(`${database.target.host}/.s.PGSQL.${database.target.port}`)
    socket.pipe(onward).pipe(socket)
    for (const each of [socket, onward]) each.on('error', () => {})
    held.push({ socket, onward })
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  const away = admissionOn({
    ...database.target,
    host: '127.0.0.1',
    port: (proxy.address() as AddressInfo).port,
  })
  try {
    const client = await seedClient(database.sql)
    const [before, lost, after] = [
      await requestFor(client),
      await requestFor(client),
      await requestFor(client),
    ]
    expect(await away.admitBatch([before])).toMatchObject([{ outcome: 'admitted' }])
    for (const { socket, onward } of held) {
      socket.unpipe(onward)
      socket.pause()
    }
    await expect(away.admitBatch([lost])).rejects.toThrow('no answer in time')
    expect(await away.admitBatch([after])).toMatchObject([{ outcome: 'admitted' }])
    expect(await recorded(lost.jti)).toBe(0)
  } finally {
    await away.close()
    for (const { socket, onward } of held) {
      socket.destroy()
      onward.destroy()
    }
    proxy.close()
  }
})

test('a server that isolates transactions more strictly by default changes nothing', async () => {
  const { database: name } = database.target
  await database.sql.unsafe(`alter database ${name} set default_transaction_isolation = 'repeatable read'`)
  const strict = admissionOn(database.target)
  try {
    const request = await requestFor(await seedClient(database.sql))
    await database.sql`update keys set revoked_at = now() where id = ${request.key.id}`
    expect(await strict.admitBatch([request])).toEqual([{ outcome: 'stale' }])
    const pool = connectAsPlatform(database.target, { max: 1, statementTimeoutMilliseconds: 500 })
    expect((await pool.$client`show transaction_isolation`)[0]).toEqual({
      transaction_isolation: 'read committed',
    })
    await pool.$client.end()
  } finally {
    await strict.close()
    await database.sql.unsafe(`alter database ${name} reset default_transaction_isolation`)
  }
})
