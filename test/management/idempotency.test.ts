/** Idempotency-Key: one effect, one audit event and one answer per key, whoever repeats it, and for whom it counts. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { digestOf } from '../../src/management/idempotency.ts'
import { MANAGEMENT_SCOPES } from '../../src/management/scopes.ts'
import {
  type Answer,
  type Api,
  apiOfOperator,
  apiWith,
  createTenant,
  idempotencyKey,
  tokenFor,
} from '../support/management.ts'
import { type Problem, rawRequest } from '../support/mint.ts'
import { seedClient, seedKey } from '../support/seed.ts'
import { setUpService, startService, type TestService } from '../support/service.ts'

const { database, service } = await setUpService()
const { sql } = database
const operator = await apiOfOperator(service)
const platformId = service.operator?.organization_id ?? ''

const create = (api: Api, name: string, headers: Record<string, string>) =>
  api.post('/v2/organizations', { name }, headers)
const countOf = async (name: string) => (await sql`select from organizations where name = ${name}`).count
const eventsOf = async (name: string) =>
  (
    await sql`select from audit_events where action = 'organization.create' and details->'after'->>'name' = ${name}`
  ).count
const recordsOf = async (headers: Record<string, string>) =>
  (await sql`select from idempotency_keys where key = ${digestOf(headers['Idempotency-Key'] ?? '')}`).count
const isReplay = (answer: Answer) => answer.headers.get('idempotency-replayed') === 'true'
const codeOf = (answer: Answer) => (answer.body as Problem).error.code

/** Another client of the platform, with its API. */
async function platformClient() {
  const client = await seedClient(sql, {
    organizationId: platformId,
    environment: 'production',
    scopes: [...MANAGEMENT_SCOPES],
  })
  return { client, api: apiWith(service.url, await tokenFor(service.url, client)) }
}

describe('A50', () => {
  let other: TestService
  beforeAll(async () => {
    other = await startService(database)
  })
  afterAll(() => other?.stop())

  test('100 concurrent creations with one key, on two instances, make one organization and one audit event', async () => {
    const headers = idempotencyKey()
    const elsewhere = apiWith(other.url, operator.token)
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) => create(n % 2 ? operator : elsewhere, 'A50', headers)),
    )
    const made = answers.filter(({ status }) => status === 201)
    const running = answers.filter(({ status }) => status !== 201)
    expect(made.length).toBeGreaterThan(0)
    expect(new Set(made.map(({ text }) => text)).size).toBe(1)
    expect(new Set(made.map(({ headers }) => headers.get('location'))).size).toBe(1)
    expect(made.filter((answer) => !isReplay(answer))).toHaveLength(1)
    for (const answer of running) {
      expect(answer.status).toBe(409)
      expect(codeOf(answer)).toBe('conflict')
      expect(answer.headers.get('retry-after')).toMatch(/^[1-9]\d*$/)
    }
    expect([await countOf('A50'), await eventsOf('A50'), await recordsOf(headers)]).toEqual([1, 1, 1])

    for (const api of [operator, elsewhere]) {
      const again = await create(api, 'A50', headers)
      expect(again.status).toBe(201)
      expect(again.text).toBe(made[0]?.text)
      expect(isReplay(again)).toBe(true)
      for (const name of ['location', 'content-type', 'cache-control'])
        expect(again.headers.get(name), name).toBe(made[0]?.headers.get(name))
    }
    expect([await countOf('A50'), await eventsOf('A50')]).toEqual([1, 1])
  })

  test('100 concurrent refusals with one key leave one record, and no effect', async () => {
    const headers = idempotencyKey()
    const answers = await Promise.all(Array.from({ length: 100 }, () => create(operator, ' A50 ', headers)))
    expect(new Set(answers.map(({ status }) => status)).isSubsetOf(new Set([400, 409]))).toBe(true)
    expect(await recordsOf(headers)).toBe(1)
    const again = await create(operator, ' A50 ', headers)
    expect([again.status, isReplay(again)]).toEqual([400, true])
  })
})

describe('A51', () => {
  test('the same key with another body is refused, and the first answer stands', async () => {
    const headers = idempotencyKey()
    const made = await create(operator, 'First', headers)
    const refused = await create(operator, 'Second', headers)
    expect(refused.status).toBe(422)
    expect(codeOf(refused)).toBe('idempotency_mismatch')
    expect(refused.text).not.toContain(headers['Idempotency-Key'])
    expect(await countOf('Second')).toBe(0)
    expect((await create(operator, 'First', headers)).text).toBe(made.text)
  })

  test('another spelling of the same request is the same request', async () => {
    const key = randomUUID()
    const path = `/v2/organizations/${(await create(operator, 'Spelled', {})).body.id}`
    const patch = (idempotency: string, body: string) =>
      rawRequest(service.url, {
        method: 'PATCH',
        path,
        headers: [
          ['Authorization', `Bearer ${operator.token}`],
          ['Content-Type', 'application/json'],
          ['Idempotency-Key', idempotency],
        ],
        body,
      })
    const first = await patch(key, '{"name":"Spelled anew","status":"active"}')
    expect(first.status).toBe(200)
    for (const [idempotency, body] of [
      [key, ' { "status" : "active",\r\n\t"name" : "Spelled \\u0061new" } '],
      [`"${key}"`, '{"name":"Spelled anew","status":"active"}'],
    ] as const) {
      const again = await patch(idempotency, body)
      expect([again.status, again.body, again.headers['idempotency-replayed']]).toEqual([
        200,
        first.body,
        'true',
      ])
    }
  })

  test('a client’s keys are its own, and each route has its own', async () => {
    const headers = idempotencyKey()
    const own = await create(operator, 'Scoped', headers)
    const colleague = await platformClient()
    const others = await create(colleague.api, 'Scoped', headers)
    expect([others.status, isReplay(others)]).toEqual([201, false])
    expect(others.body.id).not.toBe(own.body.id)

    const path = `/v2/organizations/${own.body.id}`
    const renamed = await operator.patch(path, { name: 'Scoped' }, headers)
    expect([renamed.status, isReplay(renamed)]).toEqual([200, false])
    // The same route for another resource is another request with the same key.
    expect(
      (await operator.patch(`/v2/organizations/${others.body.id}`, { name: 'Scoped' }, headers)).status,
    ).toBe(422)
    const tenants = [await createTenant(service, sql), await createTenant(service, sql)]
    for (const { api, client } of tenants) {
      const answer = await api.patch(
        `/v2/organizations/${client.organizationId}`,
        { name: 'Scoped' },
        headers,
      )
      expect([answer.status, isReplay(answer), answer.body.id]).toEqual([200, false, client.organizationId])
    }
    expect(await countOf('Scoped')).toBe(4)
  })

  test('what is asked for in a query counts: without it, it is not the same request', async () => {
    const headers = idempotencyKey()
    expect((await operator.post('/v2/organizations?name=x', { name: 'Queried' }, headers)).status).toBe(400)
    const made = await create(operator, 'Queried', headers)
    expect([made.status, isReplay(made)]).toEqual([201, false])
    expect((await operator.post('/v2/organizations?name=x', { name: 'Queried' }, headers)).status).toBe(400)
  })

  test('an answer counts for a day', async () => {
    const headers = idempotencyKey()
    const made = await create(operator, 'Daily', headers)
    const age = (interval: string) =>
      sql`update idempotency_keys set created_at = now() - ${interval}::interval
        where key = ${digestOf(headers['Idempotency-Key'] ?? '')}`
    await age('23 hours 59 minutes')
    expect((await create(operator, 'Daily', headers)).text).toBe(made.text)
    await age('24 hours 1 second')
    const next = await create(operator, 'Daily', headers)
    expect([next.status, isReplay(next)]).toEqual([201, false])
    expect(next.body.id).not.toBe(made.body.id)
    // The younger answer has taken its place.
    expect((await create(operator, 'Daily', headers)).text).toBe(next.text)
    expect(await recordsOf(headers)).toBe(1)
    await age('25 hours')
    expect((await create(operator, 'Renamed daily', headers)).status).toBe(201)
  })
})

describe('a refusal', () => {
  const missing = '/v2/organizations/org_01jzzzzzzzzzzzzzzzzzzzzzzz'

  test.each([
    ['404', () => operator.patch.bind(operator), missing, { name: 'X' }],
    ['400', () => operator.patch.bind(operator), missing, { nothing: 'X' }],
    ['409', () => operator.patch.bind(operator), `/v2/organizations/${platformId}`, { status: 'suspended' }],
  ] as const)('of %s lasts: it is repeated to the byte', async (status, call, path, body) => {
    const headers = idempotencyKey()
    const first = await call()(path, body, headers)
    expect([first.status, isReplay(first)]).toEqual([Number(status), false])
    const again = await call()(path, body, headers)
    expect([again.status, isReplay(again), again.text]).toEqual([Number(status), true, first.text])
    expect(again.headers.get('content-type')).toBe('application/problem+json')
    expect((await call()(path, { name: 'Y' }, headers)).status).toBe(422)
  })

  test('of 403 does not last: with the scope, the same request is made', async () => {
    const headers = idempotencyKey()
    const { client } = await platformClient()
    const weak = apiWith(service.url, await tokenFor(service.url, client, ['signet:organizations:read']))
    expect((await create(weak, 'Refused', headers)).status).toBe(403)
    const tenant = await createTenant(service, sql)
    const path = `/v2/organizations/${tenant.client.organizationId}`
    expect((await tenant.api.patch(path, { status: 'active' }, headers)).status).toBe(403)
    expect(await recordsOf(headers)).toBe(0)
    const made = await create(apiWith(service.url, await tokenFor(service.url, client)), 'Refused', headers)
    expect([made.status, isReplay(made)]).toEqual([201, false])
  })

  test('of 413 and 415 does not last', async () => {
    const headers = idempotencyKey()
    expect((await create(operator, 'x'.repeat(20_000), headers)).status).toBe(413)
    expect(
      (await operator.post('/v2/organizations', {}, { ...headers, 'Content-Type': 'text/plain' })).status,
    ).toBe(415)
    expect((await create(operator, 'Then well', headers)).status).toBe(201)
  })

  test('of 503 does not last, and leaves nothing: neither organization nor event nor record', async () => {
    const headers = idempotencyKey()
    // Nobody can write an audit event: the change fails in its last statements.
    await sql`create function fail_audit() returns trigger language plpgsql as
      $$ begin raise exception 'full' using errcode = 'disk_full'; end $$`
    await sql`create trigger fail_audit before insert on audit_events for each row execute function fail_audit()`
    const failed = await create(operator, 'Failed', headers).finally(
      () => sql`drop trigger fail_audit on audit_events`,
    )
    expect([failed.status, failed.headers.get('retry-after')]).toEqual([503, '1'])
    expect([await countOf('Failed'), await eventsOf('Failed'), await recordsOf(headers)]).toEqual([0, 0, 0])
    const made = await create(operator, 'Failed', headers)
    expect([made.status, isReplay(made)]).toEqual([201, false])
  })
})

describe('after a loss of permission a replay discloses nothing', () => {
  const losses = {
    'the client is suspended': [
      401,
      ({ clientId }) => sql`update clients set status = 'suspended' where id = ${clientId}`,
    ],
    'the client has lost the scope': [
      403,
      ({ clientId }) => sql`update clients set scopes = '{signet:organizations:read}' where id = ${clientId}`,
    ],
    'the key’s tokens are revoked': [
      401,
      ({ keyId }) => sql`update keys set tokens_revoked_at = now(), revoked_at = now() where id = ${keyId}`,
    ],
  } satisfies Record<string, [number, (client: { clientId: string; keyId: string }) => Promise<unknown>]>

  test.each(Object.entries(losses))('%s', async (_what, [status, lose]) => {
    const headers = idempotencyKey()
    const { client, api } = await platformClient()
    const made = await create(api, 'Confidential', headers)
    expect(made.status).toBe(201)
    await lose(client)
    const refused = await create(api, 'Confidential', headers)
    expect([refused.status, isReplay(refused)]).toEqual([status, false])
    expect(refused.text).not.toMatch(/Confidential|org_/)
    // Not even whether the key was used.
    expect((await create(api, 'Another', headers)).status).toBe(status)
  })

  test('and another token of the client, with the scope, gets it', async () => {
    const headers = idempotencyKey()
    const { client, api } = await platformClient()
    const made = await create(api, 'Kept', headers)
    const next = await seedKey(sql, client.clientId, 'production')
    const again = await create(
      apiWith(service.url, await tokenFor(service.url, { ...client, ...next })),
      'Kept',
      headers,
    )
    expect([again.status, isReplay(again), again.text]).toEqual([201, true, made.text])
  })
})
