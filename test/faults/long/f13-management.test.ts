/** A51: kill -9 of the service around the commit of a change, and what its repetition is told. */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { kill } from 'node:process'
import { afterAll, afterEach, expect, test } from 'vitest'
import type { BootstrappedClient } from '../../../src/bootstrap.ts'
import { createTcpProxy } from '../../database/tcp-proxy.ts'
import { createTestDatabase } from '../../support/database.ts'
import { apiWith, tokenFor } from '../../support/management.ts'
import { createProcesses, readBootstrapFile } from '../../support/process.ts'

const database = await createTestDatabase()
const proxy = await createTcpProxy(`${database.target.host}/.s.PGSQL.${database.target.port}`)
const processes = createProcesses()
afterEach(processes.cleanUp)
afterAll(async () => {
  await processes.close()
  await proxy.close()
  await database.drop()
})

const bootstrapFile = join(await processes.folder(), 'bootstrap.json')
const environment = {
  DATABASE_URL: `postgres://${database.target.username}@127.0.0.1:${proxy.port}/${database.target.database}`,
  KEY_ENCRYPTION_KEY: Buffer.alloc(32, 7).toString('base64'),
  BOOTSTRAP_FILE: bootstrapFile,
  ISSUER: 'https://signet.test',
  LOG_LEVEL: 'warn',
}

async function apiOf(url: string, operator: BootstrappedClient) {
  const { organization_id: organizationId, key } = operator
  return apiWith(url, await tokenFor(url, { organizationId, key }))
}

/** A service that is killed in the commit of its first change: before the database hears of it, or after its answer. */
async function killAtCommit(when: 'before' | 'after', name: string, headers: Record<string, string>) {
  const service = await processes.start(environment)
  const { operator } = await readBootstrapFile(bootstrapFile)
  const api = await apiOf(service.url, operator)
  const reached = Promise.withResolvers<void>()
  // From now on: the connections of the management API are made when they are first needed.
  proxy.filter(() => {
    let isCommitting = false
    return (from, bytes) => {
      if (from === 'client' && bytes.includes('\0commit\0')) {
        isCommitting = true
        if (when === 'before') reached.resolve()
        return when === 'after'
      }
      if (isCommitting && from === 'server') reached.resolve()
      return !isCommitting
    }
  })
  const answer = api.post('/v2/organizations', { name }, headers).then(
    ({ status }) => status,
    () => 'none',
  )
  await reached.promise
  kill(service.pid, 'SIGKILL')
  expect(await answer).toBe('none')
  expect((await service.exited).signal).toBe('SIGKILL')
  proxy.filter(undefined)
  return operator
}

const rowsOf = async (name: string) => {
  const organizations = await database.sql<
    { id: string }[]
  >`select id from organizations where name = ${name}`
  const events = await database.sql`
    select from audit_events where action = 'organization.create' and details->'after'->>'name' = ${name}`
  return { ids: organizations.map(({ id }) => id), events: events.count }
}

test('A51 between commit and reply, kill -9: the repetition gets the original answer; before the commit, it is the first', {
  timeout: 120_000,
}, async () => {
  const headers = { 'Idempotency-Key': randomUUID() }
  const other = { 'Idempotency-Key': randomUUID() }
  const operator = await killAtCommit('after', 'Committed', headers)
  const committed = await rowsOf('Committed')
  expect(committed).toEqual({ ids: [expect.stringMatching(/^org_/)], events: 1 })
  await killAtCommit('before', 'Not committed', other)
  expect(await rowsOf('Not committed')).toEqual({ ids: [], events: 0 })

  const service = await processes.start(environment)
  const api = await apiOf(service.url, operator)
  for (let n = 0; n < 2; n++) {
    const again = await api.post('/v2/organizations', { name: 'Committed' }, headers)
    expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([201, 'true'])
    expect(again.body).toMatchObject({ id: committed.ids[0], name: 'Committed' })
    expect(again.headers.get('location')).toBe(`/v2/organizations/${committed.ids[0]}`)
    expect((await api.get(`/v2/organizations/${committed.ids[0]}`)).text).toBe(again.text)
  }
  expect(await rowsOf('Committed')).toEqual(committed)
  expect((await api.post('/v2/organizations', { name: 'Not committed' }, headers)).status).toBe(422)
  const first = await api.post('/v2/organizations', { name: 'Not committed' }, other)
  expect([first.status, first.headers.get('idempotency-replayed')]).toEqual([201, null])
})
