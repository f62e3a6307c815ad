import { describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { createKeyFormat } from '../../src/keys/key-format.ts'
import { fingerprint, mint, problemOf, rawRequest, tokenBody } from '../support/mint.ts'
import {
  type ClientOptions,
  type SeededClient,
  seedClient,
  seedDelegation,
  seedOrganization,
} from '../support/seed.ts'
import { ISSUER, setUpService, startService } from '../support/service.ts'

const { database, service } = await setUpService()

const ask = (client: Pick<SeededClient, 'key'>, body: object) =>
  rawRequest(service.url, {
    headers: [
      ['Authorization', `Bearer ${client.key}`],
      ['Content-Type', 'application/json'],
    ],
    body: JSON.stringify(body),
  })

describe('each refusal has its code (design §5.4)', () => {
  const cases: [status: number, code: string, title: string, options: ClientOptions, more?: object][] = [
    [403, 'client_pending_approval', 'Client pending approval', { status: 'pending_approval' }],
    [403, 'client_suspended', 'Client suspended', { status: 'suspended' }],
    [401, 'invalid_key', 'Invalid key', { status: 'revoked' }],
    [403, 'ip_not_allowed', 'Address not allowed', { allowedCidrs: ['192.0.2.0/24'] }],
    [403, 'ip_not_allowed', 'Address not allowed', { allowedCidrs: [] }],
    [400, 'invalid_request', 'Invalid request', { maxExpirySeconds: 300 }, { expiry_seconds: 301 }],
    [400, 'invalid_request', 'Invalid request', {}, { audience: 'https://other.test' }],
    [400, 'invalid_request', 'Invalid request', {}, { unknown: 1 }],
    [429, 'rate_limited', 'Rate limited', { rateLimitPerMinute: 0 }],
  ]
  test.each(cases)('%i %s (%s) for %o', async (status, code, title, options, more) => {
    const client = await seedClient(database.sql, options)
    // What is in memory by the second time makes no difference.
    for (let i = 0; i < 2; i++) {
      const answer = await ask(client, tokenBody(client, more))
      expect(answer.status).toBe(status)
      expect(answer.headers['content-type']).toBe('application/problem+json')
      expect(answer.headers['cache-control']).toBe('no-store')
      const problem = await problemOf(answer)
      expect(problem).toMatchObject({
        title,
        status,
        error: { code },
        request_id: answer.headers['x-request-id'],
      })
      expect(problem.detail).toMatch(/\.$/)
      if (code !== 'rate_limited') expect(problem.type).toBe(`${ISSUER}/errors/${code}`)
    }
    expect(await database.sql`select from issued_tokens where client_id = ${client.clientId}`).toHaveLength(0)
  })

  test('an owner that is suspended suspends its clients', async () => {
    const client = await seedClient(database.sql)
    expect((await mint(service.url, client)).status).toBe(200)
    await database.sql`update organizations set status = 'suspended' where id = ${client.organizationId}`
    const refused = await ask(client, tokenBody(client))
    expect([refused.status, (await problemOf(refused)).error.code]).toEqual([403, 'client_suspended'])
    await database.sql`update organizations set status = 'active' where id = ${client.organizationId}`
    expect((await mint(service.url, client)).status).toBe(200)
  })

  test('the ceiling is named in the refusal, with a pointer', async () => {
    const client = await seedClient(database.sql, { maxExpirySeconds: 900 })
    const problem = await problemOf(await ask(client, tokenBody(client, { expiry_seconds: 901 })))
    expect(problem.errors).toEqual([
      { pointer: '/expiry_seconds', detail: 'must be from 300 to 900 for this key' },
    ])
    const audience = await problemOf(await ask(client, tokenBody(client, { audience: 'x' })))
    expect(audience.errors?.[0]?.pointer).toBe('/audience')
  })
})

describe('a key that is no good', () => {
  test('unknown, misspelt, forged, expired, revoked and of a revoked client: the same bytes', async () => {
    const format = createKeyFormat('sgt')
    const expired = await seedClient(database.sql, { keyExpiresAt: new Date(Date.now() - 1000) })
    const revoked = await seedClient(database.sql)
    await mint(service.url, revoked)
    await database.sql`update keys set revoked_at = now() where id = ${revoked.keyId}`
    const ofRevoked = await seedClient(database.sql, { status: 'revoked' })
    const good = await seedClient(database.sql)
    const keys = [
      format.generate('sandbox').key,
      format.generate('production').key,
      good.key.slice(0, -1) + (good.key.endsWith('0') ? '1' : '0'),
      expired.key,
      revoked.key,
      revoked.key,
      ofRevoked.key,
      'garbage',
    ]
    const answers = await Promise.all(keys.map((key) => ask({ key }, tokenBody(good))))
    const [first, ...others] = answers.map(fingerprint)
    expect(first).toMatchObject({ status: 401 })
    for (const other of others) expect(other).toEqual(first)
  })

  test('it expires by the clock, in memory or not', async () => {
    let ahead = 0
    const other = await startService(database, { now: () => Date.now() + ahead })
    try {
      const client = await seedClient(database.sql, { keyExpiresAt: new Date(Date.now() + 3_600_000) })
      expect((await mint(other.url, client)).status).toBe(200)
      ahead = 3_590_000
      expect((await mint(other.url, client)).status).toBe(200)
      ahead = 3_600_001
      expect((await mint(other.url, client)).status).toBe(401)
    } finally {
      await other.stop()
    }
  })

  test('a clock that lags behind the database lets no expired key through', async () => {
    let behind = 0
    const other = await startService(database, { now: () => Date.now() - behind })
    try {
      // Not so far that there was no signing key yet.
      behind = 500
      const client = await seedClient(database.sql, { keyExpiresAt: new Date(Date.now() - 10) })
      const answer = await mint(other.url, client)
      expect([401, 503]).toContain(answer.status)
      expect(await database.sql`select from issued_tokens where key_id = ${client.keyId}`).toHaveLength(0)
    } finally {
      await other.stop()
    }
  })
})

describe('a partner', () => {
  const seedPartner = async (options: ClientOptions = {}) => {
    const partnerId = await seedOrganization(database.sql, 'Partner')
    return seedClient(database.sql, { ...options, organizationId: partnerId, kind: 'partner' })
  }

  test('whatever keeps it from an organization, the answer is the same, to the byte', async () => {
    const partner = await seedPartner()
    const partnerId = partner.organizationId
    const seedTarget = async (delegation: Partial<Parameters<typeof seedDelegation>[1]> = {}) => {
      const organizationId = await seedOrganization(database.sql, `Target ${Math.random()}`)
      await seedDelegation(database.sql, { organizationId, partnerId, ...delegation })
      return organizationId
    }
    const suspended = await seedTarget()
    await database.sql`update organizations set status = 'suspended' where id = ${suspended}`
    const targets = [
      newId('organization'),
      await seedOrganization(database.sql, 'Stranger'),
      await seedTarget({ status: 'pending' }),
      await seedTarget({ status: 'paused' }),
      await seedTarget({ status: 'revoked' }),
      await seedTarget({ environment: 'production' }),
      await seedTarget({ partnerId: await seedOrganization(database.sql) }),
      suspended,
      partnerId,
      'x',
      'org_',
      '../../etc/passwd',
    ]
    const expected = fingerprint(
      await ask(partner, tokenBody({ ...partner, organizationId: newId('organization') })),
    )
    expect(expected).toMatchObject({ status: 403 })
    // With scopes and expiries that the delegations do not have: those must not be looked at.
    for (const organizationId of targets) {
      for (const more of [{}, { expiry_seconds: 86_400 }, { audience: 'https://other.test' }]) {
        for (const scopes of [partner.scopes, ['unknown'], ['signet:keys:read', 'a']])
          expect(fingerprint(await ask(partner, tokenBody({ organizationId, scopes }, more)))).toEqual(
            expected,
          )
      }
    }
    // And so does a client of kind organization that asks for another one's.
    const client = await seedClient(database.sql)
    for (const organizationId of targets)
      expect(fingerprint(await ask(client, tokenBody({ ...client, organizationId })))).toEqual(expected)
    expect(fingerprint(await ask(client, tokenBody({ ...client, organizationId: partnerId })))).toEqual(
      expected,
    )
  })

  test('many at once, for an organization that has not delegated: all are refused, none fails', async () => {
    const client = await seedClient(database.sql, { kind: 'partner' })
    const organizationId = await seedOrganization(database.sql)
    expect((await ask(client, tokenBody({ ...client, organizationId }))).status).toBe(403)
    const answers = await Promise.all(
      Array.from({ length: 64 }, () => ask(client, tokenBody({ ...client, organizationId }))),
    )
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([403]))
  })

  test('an outage is no refusal: the audit trail does not count it as one', async () => {
    const client = await seedClient(database.sql)
    const own = await startService(database)
    const holder = await database.sql.reserve()
    await holder`begin`
    await holder`lock table keys`
    const answer = await mint(own.url, client)
    await holder`rollback`
    holder.release()
    expect(answer.status).toBe(503)
    // Which writes what it has counted.
    await own.stop()
    const events = await database.sql`select 1 from audit_events where details ->> 'code' = 'unavailable'`
    expect(events).toEqual([])
  })

  test('a client of kind organization gets nothing from a delegation to its owner', async () => {
    const client = await seedClient(database.sql)
    const organizationId = await seedOrganization(database.sql)
    await seedDelegation(database.sql, { organizationId, partnerId: client.organizationId })
    const answer = await ask(client, tokenBody({ ...client, organizationId }))
    expect((await problemOf(answer)).error.code).toBe('organization_not_allowed')
  })

  test('a delegation caps scopes and expiry, and its change counts at once', async () => {
    const partner = await seedPartner({ scopes: ['a', 'b'], maxExpirySeconds: 900 })
    const organizationId = await seedOrganization(database.sql)
    const id = await seedDelegation(database.sql, {
      organizationId,
      partnerId: partner.organizationId,
      scopes: ['a', 'c'],
      maxExpirySeconds: 600,
    })
    const outcome = async (scopes: string[], expirySeconds: number) => {
      const answer = await ask(
        partner,
        tokenBody({ organizationId, scopes }, { expiry_seconds: expirySeconds }),
      )
      return answer.status === 200 ? 200 : (await problemOf(answer)).error.code
    }
    expect(await outcome(['a'], 600)).toBe(200)
    expect(await outcome(['a'], 601)).toBe('invalid_request')
    expect(await outcome(['a', 'b'], 600)).toBe('insufficient_scope')
    expect(await outcome(['a', 'c'], 600)).toBe('insufficient_scope')
    await database.sql`update delegations set max_expiry_seconds = 1200, scopes = '{a,b}' where id = ${id}`
    expect(await outcome(['a', 'b'], 900)).toBe(200)
    expect(await outcome(['a', 'b'], 901)).toBe('invalid_request')
    await database.sql`update delegations set status = 'paused' where id = ${id}`
    expect(await outcome(['a'], 300)).toBe('organization_not_allowed')
    await database.sql`update delegations set status = 'active' where id = ${id}`
    expect(await outcome(['a'], 300)).toBe(200)
  })
})
