/** Refusals in the audit trail: all of them counted, few of them written. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type AuditEvent, insertEvents } from '../../src/audit/audit.ts'
import { createRefusals, type Refused } from '../../src/audit/refusals.ts'
import { connectAsPlatform, disconnect } from '../../src/database/database.ts'
import { newId } from '../../src/ids.ts'
import { createKeyFormat } from '../../src/keys/key-format.ts'
import { sourceOf } from '../../src/network/address.ts'
import { apiWith, createTenant } from '../support/management.ts'
import { mint, rawRequest, tokenBody } from '../support/mint.ts'
import { seedClient, seedDelegation, seedOrganization } from '../support/seed.ts'
import { setUpService, startService } from '../support/service.ts'

type Details = { operation: string | null; code: string; count: number; first_at: string; last_at: string }
const detailsOf = (event: AuditEvent) => event.details as Details
const countOf = (events: readonly AuditEvent[]) =>
  events.reduce((sum, event) => sum + detailsOf(event).count, 0)

describe('what is written', () => {
  beforeEach(() => {
    vi.useFakeTimers({ now: Date.UTC(2026, 10, 22, 12) })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  const actorOf = (clientId: string) => ({ clientId, keyId: `key_of_${clientId}`, organizationId: 'org_a' })
  const refused = (more: Partial<Refused> = {}): Refused => ({
    action: 'token.refused',
    operation: 'exchangeKey',
    code: 'key_unknown',
    actor: undefined,
    targetId: undefined,
    clientAddress: '192.0.2.1',
    requestId: 'first',
    ...more,
  })

  function setUp() {
    const written: AuditEvent[] = []
    const failures: unknown[] = []
    const database = { isDown: false }
    const refusals = createRefusals({
      async write(events) {
        if (database.isDown) throw new Error('the database is down')
        written.push(...events)
      },
      sourceOf,
      now: () => Date.now(),
      onFailure: (error) => failures.push(error),
    })
    return { refusals, written, failures, database }
  }

  test('like refusals of two seconds are one row; another code, client, target or source is another', async () => {
    const { refusals, written } = setUp()
    const target = { actor: actorOf('cli_a'), code: 'organization_not_allowed', targetId: 'org_b' }
    const kinds = [
      refused(),
      refused({ code: 'key_malformed' }),
      refused({ clientAddress: '192.0.2.2' }),
      refused(target),
      refused({ ...target, targetId: 'org_c' }),
      refused({ ...target, actor: actorOf('cli_b') }),
    ]
    for (const kind of kinds) refusals.record(kind)
    await vi.advanceTimersByTimeAsync(1500)
    for (const kind of kinds) refusals.record({ ...kind, requestId: 'second' })
    await vi.advanceTimersByTimeAsync(500)
    expect(written).toHaveLength(kinds.length)
    expect(written[0]).toMatchObject({
      action: 'token.refused',
      organizationId: null,
      actorClientId: null,
      clientIp: '192.0.2.1',
      requestId: 'first',
      details: {
        operation: 'exchangeKey',
        code: 'key_unknown',
        count: 2,
        first_at: '2026-11-22T12:00:00.000Z',
        last_at: '2026-11-22T12:00:01.500Z',
      },
    })
    expect(written[3]).toMatchObject({
      organizationId: 'org_a',
      actorClientId: 'cli_a',
      actorKeyId: 'key_of_cli_a',
      actorOrganizationId: 'org_a',
      targetId: 'org_b',
    })
    refusals.record(refused())
    await vi.advanceTimersByTimeAsync(2000)
    expect(written).toHaveLength(kinds.length + 1)
  })

  test('the /64 of an IPv6 address is one source', async () => {
    const { refusals, written } = setUp()
    for (let i = 1; i <= 50; i++) refusals.record(refused({ clientAddress: `2001:db8::${i.toString(16)}` }))
    await refusals.close()
    expect(written.map(detailsOf)).toMatchObject([{ count: 50 }])
  })

  test('one client gets a part of the rows, who is nobody another, and what is past them one row a minute', async () => {
    const { refusals, written } = setUp()
    for (let i = 0; i < 1000; i++) {
      refusals.record(refused({ clientAddress: `198.51.${i >> 8}.${i & 255}` }))
      refusals.record(refused({ actor: actorOf('cli_a'), code: 'scope_not_granted', targetId: `org_${i}` }))
      refusals.record(refused({ actor: actorOf('cli_b'), code: 'scope_not_granted' }))
    }
    await vi.advanceTimersByTimeAsync(2000)
    const rowsOf = (clientId: string | null) => written.filter((event) => event.actorClientId === clientId)
    expect([null, 'cli_a', 'cli_b'].map((id) => rowsOf(id).length)).toEqual([40, 20, 1])
    await vi.advanceTimersByTimeAsync(58_000)
    expect([null, 'cli_a', 'cli_b'].map((id) => rowsOf(id).length)).toEqual([41, 21, 1])
    expect(rowsOf('cli_a').at(-1)).toMatchObject({
      organizationId: 'org_a',
      actorKeyId: null,
      targetId: null,
      clientIp: null,
      requestId: 'first',
      details: { operation: null, code: 'scope_not_granted', count: 980 },
    })
    expect(countOf(written)).toBe(3000)
  })

  test('whoever exceeds a rate limit makes one row a minute', async () => {
    const { refusals, written } = setUp()
    for (let second = 0; second < 120; second++) {
      for (let i = 0; i < 10; i++)
        for (const [code, clientId] of [
          ['limited', 'cli_a'],
          ['limited', 'cli_b'],
          ['too_many_refusals', 'cli_a'],
        ] as const)
          refusals.record(refused({ actor: actorOf(clientId), code, targetId: `org_${i}` }))
      await vi.advanceTimersByTimeAsync(1000)
    }
    await refusals.close()
    expect(written.map((event) => detailsOf(event).count)).toEqual(Array(6).fill(600))
  })

  test('a flood by ten thousand clients from everywhere keeps to the ration of the minutes, and to its count', async () => {
    const { refusals, written } = setUp()
    const flood = () => {
      for (let i = 0; i < 10_000; i++)
        for (const code of ['scope_not_granted', 'address_not_allowed', 'limited'])
          refusals.record(
            refused({ actor: actorOf(`cli_${i}`), code, clientAddress: `10.0.${i >> 8}.${i & 255}` }),
          )
    }
    for (let minute = 1; minute <= 3; minute++) {
      flood()
      await vi.advanceTimersByTimeAsync(60_000)
      expect(written.length).toBeLessThanOrEqual(120 * minute + 50)
    }
    await refusals.close()
    expect(written.length).toBeLessThanOrEqual(3 * 120 + 50)
    expect(countOf(written)).toBe(90_000)
  })

  test('while the database is down, nothing is lost but detail, memory is bounded, and nobody hears of it', async () => {
    const { refusals, written, failures, database } = setUp()
    database.isDown = true
    for (let second = 0; second < 3600; second++) {
      for (let i = 0; i < 10; i++) {
        refusals.record(refused({ clientAddress: `10.0.${second % 250}.${i}` }))
        refusals.record(refused({ actor: actorOf(`cli_${second % 30}`), code: 'limited' }))
      }
      await vi.advanceTimersByTimeAsync(1000)
    }
    expect(failures.length).toBeGreaterThan(100)
    database.isDown = false
    await refusals.close()
    expect(written.length).toBeLessThanOrEqual(400)
    expect(countOf(written)).toBe(72_000)
    expect(new Set(written.map(({ id }) => id)).size).toBe(written.length)
  })

  test('rows whose confirmation was lost are written again as they were, whatever has been refused since', async () => {
    const attempts: AuditEvent[][] = []
    const refusals = createRefusals({
      async write(events) {
        attempts.push([...events])
        if (attempts.length === 1) throw new Error('the connection is gone')
      },
      sourceOf,
      now: () => Date.now(),
    })
    refusals.record(refused())
    await vi.advanceTimersByTimeAsync(2000)
    refusals.record(refused())
    await vi.advanceTimersByTimeAsync(2000)
    expect(attempts).toHaveLength(2)
    expect(attempts[1]?.[0]).toEqual(attempts[0]?.[0])
    expect(attempts[1]).toHaveLength(2)
    await refusals.close()
  })
})

const { database, service } = await setUpService()

type Row = {
  action: string
  organization_id: string | null
  actor_client_id: string | null
  actor_key_id: string | null
  actor_organization_id: string | null
  target_id: string | null
  client_ip: string | null
  request_id: string
  details: Details
}
const rowsOf = (action: string) => database.sql<Row[]>`
  select *, host(client_ip) as client_ip from audit_events where action = ${action} order by sequence`

test('an event that is written twice is there once, and the chain goes on', async () => {
  const pool = connectAsPlatform(database.target, { max: 1, statementTimeoutMilliseconds: 5000 })
  const event = (): AuditEvent => ({
    id: newId('auditEvent'),
    organizationId: null,
    actorClientId: null,
    actorKeyId: null,
    actorOrganizationId: null,
    action: 'test.twice',
    targetId: null,
    clientIp: null,
    requestId: null,
    details: {},
  })
  const [one, two] = [event(), event()]
  await insertEvents(pool, [one])
  await insertEvents(pool, [one, two])
  await disconnect(pool)
  const rows = await database.sql<{ id: string; sequence: string }[]>`
    select id, sequence from audit_events where action = 'test.twice' order by sequence`
  expect(rows.map(({ id }) => id)).toEqual([one.id, two.id])
  expect(Number(rows[1]?.sequence)).toBe(Number(rows[0]?.sequence) + 1)
})

test('refused requests of the management API are on record: who, what, why, from where, which request', async () => {
  const instance = await startService(database)
  const tenant = await createTenant(instance, database.sql, { scopes: ['signet:organizations:read'] })
  const { organizationId, clientId, keyId } = tenant.client
  const missing = newId('organization')
  const notFound = await tenant.api.get(`/v2/organizations/${missing}`)
  const noScope = await tenant.api.patch(`/v2/organizations/${organizationId}`, { name: 'Other' })
  const nobody = await apiWith(instance.url, 'no.valid.token').get('/v2/organizations')
  expect([notFound.status, noScope.status, nobody.status]).toEqual([404, 403, 401])
  await instance.stop()

  const actor = { actor_client_id: clientId, actor_key_id: keyId, actor_organization_id: organizationId }
  const rows = await rowsOf('request.refused')
  expect(rows).toMatchObject([
    {
      ...actor,
      organization_id: organizationId,
      target_id: missing,
      client_ip: '127.0.0.1',
      request_id: notFound.headers.get('x-request-id'),
      details: { operation: 'getOrganization', code: 'not_found', count: 1 },
    },
    {
      ...actor,
      organization_id: organizationId,
      target_id: organizationId,
      details: { operation: 'updateOrganization', code: 'insufficient_scope', count: 1 },
    },
    {
      organization_id: null,
      actor_client_id: null,
      actor_key_id: null,
      details: { operation: 'listOrganizations', code: 'invalid_token', count: 1 },
    },
  ])
})

test('refused exchanges are on record, with the client where its key proved itself, and never with a key', async () => {
  const instance = await startService(database)
  const client = await seedClient(database.sql)
  const partner = await seedClient(database.sql, { kind: 'partner' })
  const other = await seedOrganization(database.sql)
  await seedDelegation(database.sql, {
    organizationId: other,
    partnerId: partner.organizationId,
    status: 'paused',
  })
  const unknown = createKeyFormat('sgt').generate('sandbox').key
  await mint(instance.url, { ...client, key: unknown })
  await mint(instance.url, { ...client, scopes: ['not:granted'] })
  await mint(instance.url, client, { body: tokenBody(client, { extra: client.key }) })
  await mint(instance.url, { ...partner, organizationId: other })
  await mint(instance.url, { ...partner, organizationId: partner.key })
  expect((await mint(instance.url, client)).status).toBe(200)
  await instance.stop()

  const rows = await rowsOf('token.refused')
  expect(rows.map(({ actor_client_id: by, target_id, details }) => [by, details.code, target_id])).toEqual([
    [null, 'key_unknown', null],
    [client.clientId, 'scope_not_granted', client.organizationId],
    [client.clientId, 'invalid_request', null],
    [partner.clientId, 'organization_not_allowed', other],
    [partner.clientId, 'organization_not_allowed', null],
  ])
  expect(rows[1]).toMatchObject({
    actor_key_id: client.keyId,
    organization_id: client.organizationId,
    client_ip: '127.0.0.1',
    details: { operation: 'exchangeKey', count: 1 },
  })
  const texts = await database.sql<{ line: string }[]>`select a::text as line from audit_events a`
  for (const key of [unknown, client.key, partner.key])
    expect(texts.filter(({ line }) => line.includes(key.slice(9, 40)))).toEqual([])
})

test('5,000 refused exchanges make few rows, with their exact number', async () => {
  const instance = await startService(database, { config: { trustedProxies: ['127.0.0.1'] } })
  const client = await seedClient(database.sql)
  const [before] = await database.sql<{ last: string }[]>`select max(sequence) as last from audit_events`
  const unknown = createKeyFormat('sgt').generate('sandbox').key
  const flood = async (worker: number) => {
    for (let i = 0; i < 250; i++) {
      const isKnown = i % 2 === 0
      await rawRequest(instance.url, {
        headers: [
          ['Authorization', isKnown ? client.key : unknown],
          ['Content-Type', 'application/json'],
          ['X-Forwarded-For', isKnown ? '192.0.2.1' : `198.51.${worker}.${i}`],
        ],
        body: JSON.stringify(tokenBody({ ...client, scopes: [`not:granted:${i}`] })),
      })
    }
  }
  await Promise.all(Array.from({ length: 20 }, (_, worker) => flood(worker)))
  await instance.stop()
  const rows = await database.sql<Row[]>`select * from audit_events where sequence > ${before?.last ?? 0}`
  expect(rows.reduce((sum, { details }) => sum + details.count, 0)).toBe(5000)
  // Of the client at most 20 a minute and of nobody 40, the coarse rows, and all of that twice at a minute's end.
  expect(rows.length).toBeLessThanOrEqual(2 * (20 + 40 + 4))
  expect(service.logs.some((line) => line.includes('refusals were not written'))).toBe(false)
})
