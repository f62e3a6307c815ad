/** What a key does for itself: validation, and renewal with overlap. */
import { describe, expect, test } from 'vitest'
import { createKeyFormat } from '../../src/keys/key-format.ts'
import { apiOfOperator } from '../support/management.ts'
import {
  fingerprint,
  mint,
  problemOf,
  type RawAnswer,
  rawRequest,
  tokenBody,
  tokenOf,
} from '../support/mint.ts'
import { type ClientOptions, seedClient, seedKey } from '../support/seed.ts'
import { setUpService, startService } from '../support/service.ts'
import { bodyOf, type Headers, type RenewedKey, renew, type Validation, validate } from './calls.ts'

const { database, service } = await setUpService()
const operator = await apiOfOperator(service)
const { url } = service

const codeOf = async (answer: RawAnswer) => [answer.status, (await problemOf(answer)).error.code]
const pointersOf = async (answer: RawAnswer) => {
  const { status, errors } = await problemOf(answer)
  return [status, errors?.map(({ pointer }) => pointer)]
}
const minted = async (client: Parameters<typeof mint>[1], key: string) =>
  (await mint(url, { ...client, key })).status

describe('validation', () => {
  test('tells a key all about itself, but not itself', async () => {
    const client = await seedClient(database.sql, {
      environment: 'production',
      allowedCidrs: ['127.0.0.0/8', '2001:db8::/32'],
      allowedOrigins: ['https://app.test'],
      maxExpirySeconds: 900,
      rateLimitPerMinute: 30,
      audience: 'https://api.acme.test',
      keyExpiresAt: new Date('2999-01-01T00:00:00.500Z'),
    })
    const answer = await validate(url, client.key)
    expect(bodyOf<Validation>(answer, 200)).toEqual({
      key: {
        id: client.keyId,
        client_id: client.clientId,
        client_name: 'Integration',
        organization_id: client.organizationId,
        environment: 'production',
        prefix: client.key.slice(0, 15),
        public_jwk: null,
        created_at: expect.any(String),
        last_used_at: null,
        last_used_ip: null,
        expires_at: '2999-01-01T00:00:00.500Z',
        status: 'active',
        revoked_at: null,
        revocation_reason: null,
        tokens_revoked_at: null,
        replaces: null,
        replaced_by: null,
        created_by: null,
      },
      client: {
        id: client.clientId,
        name: 'Integration',
        environment: 'production',
        kind: 'organization',
        scopes: client.scopes,
        audience: 'https://api.acme.test',
        max_expiry_seconds: 900,
        rate_limit_per_minute: 30,
        allowed_cidrs: ['127.0.0.0/8', '2001:db8::/32'],
        allowed_origins: ['https://app.test'],
        status: 'active',
      },
      organization: { id: client.organizationId, name: 'Acme', status: 'active' },
      environment: 'production',
      scopes: client.scopes,
      limits: { max_expiry_seconds: 900, rate_limit_per_minute: 30 },
      expiry: Date.UTC(2999, 0, 1) / 1000,
    })
    expect(answer.body).not.toContain(client.key.slice(15))
    expect(answer.headers['cache-control']).toBe('no-store')
  })

  test('takes the key as the exchange does, and never an expiry for granted', async () => {
    const client = await seedClient(database.sql)
    for (const headers of [
      [['Authorization', client.key]],
      [['authorization', `bearer ${client.key}`]],
      [['X-Api-Key', client.key]],
    ] satisfies Headers[])
      expect(bodyOf<Validation>(await validate(url, headers), 200).expiry).toBeNull()
  })

  test('goes by what is in the database at that moment, not by what was', async () => {
    const client = await seedClient(database.sql)
    const { sql } = database
    expect((await mint(url, client)).status).toBe(200)
    expect((await validate(url, client.key)).status).toBe(200)
    await sql`update clients set scopes = '{a}', status = 'suspended' where id = ${client.clientId}`
    expect((await validate(url, client.key)).status).toBe(403)
    await sql`update clients set status = 'active' where id = ${client.clientId}`
    expect(bodyOf<Validation>(await validate(url, client.key), 200).client.scopes).toEqual(['a'])
    await sql`update keys set revoked_at = now() where id = ${client.keyId}`
    expect((await validate(url, client.key)).status).toBe(401)
    // And a key whose rows are gone altogether.
    const gone = await seedClient(database.sql)
    expect((await mint(url, gone)).status).toBe(200)
    await sql`delete from keys where id = ${gone.keyId}`
    expect((await validate(url, gone.key)).status).toBe(401)
  })

  test('counts as a use of the key', async () => {
    const other = await startService(database)
    const client = await seedClient(database.sql)
    await validate(other.url, client.key)
    await other.stop()
    const { key } = bodyOf<Validation>(await validate(url, client.key), 200)
    expect(key).toMatchObject({ last_used_at: expect.any(String), last_used_ip: '127.0.0.1' })
  })
})

describe('what the exchange refuses is refused here too, in the same bytes', () => {
  const exchange = (headers: Headers) =>
    rawRequest(url, {
      headers: [...headers, ['Content-Type', 'application/json']],
      body: JSON.stringify(tokenBody({ organizationId: 'org_x', scopes: ['a'] })),
    })

  async function expectSame(headers: Headers, status: number, code: string) {
    const expected = await exchange(headers)
    expect(await codeOf(expected)).toEqual([status, code])
    // What would be found wrong with the body does not come to light.
    for (const answer of [
      await validate(url, headers),
      await renew(url, headers),
      await renew(url, headers, '{"nonsense": true}'),
    ])
      expect(fingerprint(answer)).toEqual(fingerprint(expected))
  }

  test('a credential that is no key', async () => {
    const client = await seedClient(database.sql)
    const { token } = await tokenOf(await mint(url, client))
    const format = createKeyFormat('sgt')
    const unknown = format.generate('sandbox').key
    const forged = await seedClient(database.sql)
    // Right lookup id and checksum, wrong secret: as good a forgery as there is.
    await database.sql`update keys set hash = ${Buffer.alloc(32)} where id = ${forged.keyId}`
    for (const text of [unknown, forged.key, `${client.key}x`, 'garbage', ''])
      await expectSame([['Authorization', text]], 401, 'invalid_key')
    await expectSame([], 401, 'invalid_key')
    await expectSame([['Authorization', `Bearer ${token}`]], 401, 'access_token_not_allowed')
    await expectSame(
      [
        ['Authorization', client.key],
        ['X-Api-Key', client.key],
      ],
      400,
      'invalid_request',
    )
  })

  const cases: [status: number, code: string, options: ClientOptions][] = [
    [401, 'invalid_key', { keyExpiresAt: new Date(Date.now() - 1000) }],
    [401, 'invalid_key', { status: 'revoked' }],
    [403, 'ip_not_allowed', { allowedCidrs: ['192.0.2.0/24'] }],
    [403, 'client_pending_approval', { status: 'pending_approval' }],
    [403, 'client_suspended', { status: 'suspended' }],
  ]
  test.each(cases)('%i %s for %o', async (status, code, options) => {
    const client = await seedClient(database.sql, options)
    await expectSame([['X-Api-Key', client.key]], status, code)
  })

  test('a revoked key, a suspended owner, a page of a foreign origin', async () => {
    const revoked = await seedClient(database.sql)
    await mint(url, revoked)
    await database.sql`update keys set revoked_at = now() where id = ${revoked.keyId}`
    await expectSame([['Authorization', revoked.key]], 401, 'invalid_key')
    const suspended = await seedClient(database.sql)
    await database.sql`update organizations set status = 'suspended' where id = ${suspended.organizationId}`
    await expectSame([['Authorization', suspended.key]], 403, 'client_suspended')
    const client = await seedClient(database.sql, { allowedOrigins: ['https://app.test'] })
    await expectSame(
      [
        ['Authorization', client.key],
        ['Origin', 'https://evil.test'],
      ],
      403,
      'origin_not_allowed',
    )
  })

  test('a query string, whatever it says', async () => {
    const client = await seedClient(database.sql)
    for (const [method, path] of [
      ['GET', `/v2/auth/validate?key=${client.key}`],
      ['GET', '/v2/auth/validate?'],
      ['POST', '/v2/auth/renew?overlap_seconds=1'],
    ] as const) {
      const answer = await rawRequest(url, { method, path, headers: [['Authorization', client.key]] })
      expect(await codeOf(answer)).toEqual([400, 'invalid_request'])
    }
    expect(service.logs.join('\n')).not.toContain(client.key)
  })

  test('a page of an allowed origin may read the answer', async () => {
    const client = await seedClient(database.sql, { allowedOrigins: ['https://app.test'] })
    const headers: Headers = [
      ['Authorization', client.key],
      ['Origin', 'https://app.test'],
    ]
    for (const answer of [await validate(url, headers), await renew(url, headers, { overlap_seconds: -1 })])
      expect(answer.headers['access-control-allow-origin']).toBe('https://app.test')
    const preflight = await rawRequest(url, { method: 'OPTIONS', path: '/v2/auth/renew', headers })
    expect([preflight.status, preflight.headers['access-control-allow-methods']]).toEqual([
      204,
      'POST, OPTIONS',
    ])
  })

  test('A54 a source that fails too often waits, wherever it failed, before its body is read', async () => {
    const throttled = await startService(database, {
      config: { failedAuthenticationsPerMinute: 6, trustedProxies: ['127.0.0.1'] },
    })
    try {
      const from = (address: string): Headers => [['X-Forwarded-For', address]]
      const { key } = createKeyFormat('sgt').generate('sandbox')
      const good = await seedClient(database.sql)
      const revoked = await seedClient(database.sql)
      await database.sql`update keys set revoked_at = now() where id = ${revoked.keyId}`
      const bad = from('192.0.2.1')
      // Unknown, malformed, missing and revoked; at the exchange as well.
      await mint(throttled.url, { ...good, key }, { headers: { 'X-Forwarded-For': '192.0.2.1' } })
      expect((await validate(throttled.url, [['X-Api-Key', key], ...bad])).status).toBe(401)
      expect((await validate(throttled.url, [['X-Api-Key', 'x'], ...bad])).status).toBe(401)
      expect((await renew(throttled.url, bad)).status).toBe(401)
      expect((await renew(throttled.url, [['X-Api-Key', revoked.key], ...bad])).status).toBe(401)
      expect((await validate(throttled.url, [['X-Api-Key', revoked.key], ...bad])).status).toBe(401)

      const held: Headers = [['X-Api-Key', good.key], ...bad]
      const refused = await renew(throttled.url, held, 'this is no JSON')
      expect(await codeOf(refused)).toEqual([429, 'rate_limited'])
      expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)
      expect((await validate(throttled.url, held)).status).toBe(429)
      // What is wrong without any read is held up as well.
      expect((await validate(throttled.url, [['X-Api-Key', 'x'], ...bad])).status).toBe(429)
      expect((await renew(throttled.url, bad)).status).toBe(429)
      // The key that was named has lost nothing: from elsewhere it works, and once it is in memory, from here too.
      expect((await validate(throttled.url, [['X-Api-Key', good.key], ...from('192.0.2.2')])).status).toBe(
        200,
      )
      expect((await validate(throttled.url, held)).status).toBe(200)
      expect((await renew(throttled.url, held, { overlap_seconds: 60 })).status).toBe(201)
      // That holds for good ones: one that memory takes for good is found to be none, and then memory knows.
      await database.sql`update keys set revoked_at = now() where id = ${good.keyId}`
      expect((await validate(throttled.url, held)).status).toBe(401)
      expect((await validate(throttled.url, held)).status).toBe(429)
    } finally {
      await throttled.stop()
    }
  })

  test('A54 a client that is refused too often waits, here and at the exchange, and costs no reads; what is good of it does not', async () => {
    const throttled = await startService(database, { config: { trustedProxies: ['127.0.0.1'] } })
    const client = await seedClient(database.sql, { allowedCidrs: ['192.0.2.1/32'] })
    const from = (address: string): Headers => [
      ['X-Api-Key', client.key],
      ['X-Forwarded-For', address],
    ]
    try {
      // Half of them here, half of them there: a thousand a minute.
      const refused: number[] = []
      const ask = [
        () => validate(throttled.url, from('192.0.2.2')),
        () => renew(throttled.url, from('192.0.2.2'), { nonsense: true }),
        () => mint(throttled.url, client, { headers: { 'X-Forwarded-For': '192.0.2.2' } }),
        () => mint(throttled.url, client, { headers: { 'X-Forwarded-For': '192.0.2.2' } }),
      ]
      let asked = 0
      const askOn = async () => {
        while (asked < 1000) refused.push((await ask[asked++ % ask.length]?.())?.status ?? 0)
      }
      await Promise.all(Array.from({ length: 20 }, askOn))
      expect(new Set(refused)).toEqual(new Set([403]))

      await database.sql.begin(async (sql) => {
        // Whatever reads a key now waits for the end of this.
        await sql`lock table keys in access exclusive mode`
        for (const request of ask) {
          const answer = await request()
          const code = 'body' in answer && typeof answer.body === 'string' ? answer : (answer as Response)
          expect([answer.status, (await problemOf(code)).error.code]).toEqual([429, 'rate_limited'])
        }
      })
      expect((await validate(throttled.url, from('192.0.2.1'))).status).toBe(200)
      expect((await renew(throttled.url, from('192.0.2.1'))).status).toBe(201)
    } finally {
      await throttled.stop()
    }
  })

  test('a good key that is refused for something else is not a failed authentication', async () => {
    const throttled = await startService(database, { config: { failedAuthenticationsPerMinute: 2 } })
    try {
      const suspended = await seedClient(database.sql, { status: 'suspended' })
      for (let i = 0; i < 5; i++) expect((await validate(throttled.url, suspended.key)).status).toBe(403)
      const client = await seedClient(database.sql)
      for (let i = 0; i < 5; i++)
        expect((await renew(throttled.url, client.key, { overlap_seconds: -1 })).status).toBe(400)
      expect((await validate(throttled.url, client.key)).status).toBe(200)
    } finally {
      await throttled.stop()
    }
  })

  test('only these methods', async () => {
    const answers = [
      await rawRequest(url, { method: 'POST', path: '/v2/auth/validate', headers: [] }),
      await rawRequest(url, { method: 'GET', path: '/v2/auth/renew', headers: [] }),
    ]
    expect(answers.map(({ status, headers }) => [status, headers.allow])).toEqual([
      [405, 'GET, HEAD, OPTIONS'],
      [405, 'POST, OPTIONS'],
    ])
  })
})

describe('a renewal', () => {
  test('gives a new key of the same client; both work until the overlap ends', async () => {
    const client = await seedClient(database.sql, { maxExpirySeconds: 900 })
    const before = Date.now()
    const answer = await renew(url, client.key, { overlap_seconds: 600 })
    const renewed = bodyOf<RenewedKey>(answer, 201)
    expect(renewed).toMatchObject({
      client_id: client.clientId,
      organization_id: client.organizationId,
      environment: 'sandbox',
      prefix: renewed.key.slice(0, 15),
      status: 'active',
      expires_at: null,
      replaces: client.keyId,
      replaced_by: null,
      notice: null,
      replaced: { id: client.keyId },
    })
    expect(answer.headers.location).toBe(`/v2/keys/${renewed.id}`)
    expect(answer.headers['cache-control']).toBe('no-store')
    const overlap = Date.parse(renewed.replaced.expires_at) - before
    expect(overlap).toBeGreaterThan(590_000)
    expect(overlap).toBeLessThan(610_000)

    for (const key of [client.key, renewed.key]) {
      expect(await minted(client, key)).toBe(200)
      // The same policy, to the last ceiling.
      const tooLong = tokenBody(client, { expiry_seconds: 901 })
      expect((await mint(url, { ...client, key }, { body: tooLong })).status).toBe(400)
    }
    const [old, young] = [
      bodyOf<Validation>(await validate(url, client.key), 200),
      bodyOf<Validation>(await validate(url, renewed.key), 200),
    ]
    expect(young.client).toEqual(old.client)
    expect(old.key).toMatchObject({ replaced_by: renewed.id, expires_at: renewed.replaced.expires_at })
    const found = await operator.get(`/v2/keys/${client.keyId}`)
    expect(found.body).toMatchObject({ status: 'active', replaced_by: renewed.id })

    // The overlap ends: the database's clock is past it.
    await database.sql`update keys set expires_at = now() where id = ${client.keyId}`
    expect(await minted(client, client.key)).toBe(401)
    expect((await validate(url, client.key)).status).toBe(401)
    expect((await renew(url, client.key)).status).toBe(401)
    expect(await minted(client, renewed.key)).toBe(200)
    expect((await renew(url, renewed.key)).status).toBe(201)
  })

  test('without a body overlaps by a day', async () => {
    const client = await seedClient(database.sql)
    const { replaced } = bodyOf<RenewedKey>(await renew(url, client.key), 201)
    const [row] = await database.sql`
      select extract(epoch from expires_at - now())::float8 as left from keys where id = ${client.keyId}`
    expect(row?.left).toBeGreaterThan(86_300)
    expect(row?.left).toBeLessThanOrEqual(86_400)
    expect(replaced.id).toBe(client.keyId)
  })

  test('with no overlap ends the old key at once', async () => {
    const client = await seedClient(database.sql)
    expect(await minted(client, client.key)).toBe(200)
    const { key, replaced } = bodyOf<RenewedKey>(await renew(url, client.key, { overlap_seconds: 0 }), 201)
    expect(Date.parse(replaced.expires_at)).toBeLessThanOrEqual(Date.now())
    expect(await minted(client, client.key)).toBe(401)
    expect((await validate(url, client.key)).status).toBe(401)
    expect(await minted(client, key)).toBe(200)
  })

  test('never makes the old key live longer than it would have', async () => {
    const expiresAt = new Date(Date.now() + 60_000)
    const client = await seedClient(database.sql, { keyExpiresAt: expiresAt })
    const { replaced } = bodyOf<RenewedKey>(await renew(url, client.key, { overlap_seconds: 2_592_000 }), 201)
    expect(replaced.expires_at).toBe(expiresAt.toISOString())
  })

  test('happens once: a second one is a conflict, and so are nine of ten at once', async () => {
    const client = await seedClient(database.sql)
    const answers = await Promise.all(Array.from({ length: 10 }, () => renew(url, client.key)))
    expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array(9).fill(409)])
    expect(await codeOf(await renew(url, client.key))).toEqual([409, 'conflict'])
    expect(await database.sql`select from keys where client_id = ${client.clientId}`).toHaveLength(2)

    // Without overlap, who comes too late is not asked any more whether it was renewed.
    const other = await seedClient(database.sql)
    const atOnce = await Promise.all(
      Array.from({ length: 10 }, () => renew(url, other.key, { overlap_seconds: 0 })),
    )
    expect(atOnce.filter(({ status }) => status === 201)).toHaveLength(1)
    for (const { status } of atOnce) expect([201, 401, 409]).toContain(status)
  })

  test('and a revocation at the same time: whichever comes first, the old key is dead', async () => {
    for (let i = 0; i < 5; i++) {
      const client = await seedClient(database.sql)
      const [renewed, revoked] = await Promise.all([
        renew(url, client.key),
        operator.post(`/v2/keys/${client.keyId}/revoke`),
      ])
      expect(revoked.status).toBe(200)
      expect([201, 401]).toContain(renewed.status)
      expect((await validate(url, client.key)).status).toBe(401)
      // Who revokes learns of the new key, and may revoke it too.
      const found = await operator.get(`/v2/keys/${client.keyId}`)
      const replacedBy = renewed.status === 201 ? bodyOf<RenewedKey>(renewed, 201).id : null
      expect(found.body).toMatchObject({ status: 'revoked', replaced_by: replacedBy })
    }
  })

  test('of a revoked or expired key does not happen', async () => {
    const revoked = await seedClient(database.sql)
    await operator.post(`/v2/keys/${revoked.keyId}/revoke`)
    const expired = await seedClient(database.sql, { keyExpiresAt: new Date(Date.now() - 1000) })
    for (const client of [revoked, expired]) {
      expect(await codeOf(await renew(url, client.key))).toEqual([401, 'invalid_key'])
      expect(await database.sql`select from keys where client_id = ${client.clientId}`).toHaveLength(1)
    }
  })

  test('begets no longer life than the old key was given', async () => {
    const hour = 3_600_000
    const client = await seedClient(database.sql, { keyExpiresAt: new Date(Date.now() + hour / 2) })
    // Made half an hour ago, for an hour.
    await database.sql`update keys set created_at = now() - interval '30 minutes' where id = ${client.keyId}`
    const tooLate = new Date(Date.now() + hour + 60_000).toISOString()
    expect(await pointersOf(await renew(url, client.key, { expires_at: tooLate }))).toEqual([
      400,
      ['/expires_at'],
    ])
    const { key, expires_at } = bodyOf<RenewedKey>(await renew(url, client.key), 201)
    expect(Math.abs(Date.parse(expires_at ?? '') - Date.now() - hour)).toBeLessThan(10_000)

    // Less is possible, and is what its own descendants get.
    const sooner = new Date(Date.now() + hour / 2).toISOString()
    const next = bodyOf<RenewedKey>(await renew(url, key, { expires_at: sooner }), 201)
    expect(next.expires_at).toBe(sooner)
    expect(await pointersOf(await renew(url, next.key, { expires_at: expires_at ?? '' }))).toEqual([
      400,
      ['/expires_at'],
    ])
    // A key without an expiry may beget one with any.
    const endless = await seedClient(database.sql)
    const expires = '2999-01-01T00:00:00.000Z'
    expect(bodyOf<RenewedKey>(await renew(url, endless.key, { expires_at: expires }), 201).expires_at).toBe(
      expires,
    )
  })

  test('counts against the limit of five, in which an old key without overlap has no part', async () => {
    const client = await seedClient(database.sql)
    for (let i = 0; i < 4; i++) await seedKey(database.sql, client.clientId, 'sandbox')
    expect(await codeOf(await renew(url, client.key))).toEqual([409, 'conflict'])
    // Nothing of it has happened.
    expect(bodyOf<Validation>(await validate(url, client.key), 200).key.expires_at).toBeNull()
    expect((await renew(url, client.key, { overlap_seconds: 0 })).status).toBe(201)
  })

  test('takes nothing that is not of it', async () => {
    const client = await seedClient(database.sql)
    for (const [body, pointer] of [
      [{ overlap_seconds: -1 }, '/overlap_seconds'],
      [{ overlap_seconds: 2_592_001 }, '/overlap_seconds'],
      [{ overlap_seconds: 1.5 }, '/overlap_seconds'],
      [{ overlap_seconds: '60' }, '/overlap_seconds'],
      [{ overlap_seconds: null }, '/overlap_seconds'],
      [{ expires_at: '2020-01-01T00:00:00Z' }, '/expires_at'],
      [{ expires_at: '9999-12-31T23:59:59-14:00' }, '/expires_at'],
      [{ scopes: [] }, '/scopes'],
    ] as const)
      expect(await pointersOf(await renew(url, client.key, body))).toEqual([400, [pointer]])
    expect((await renew(url, client.key, '{')).status).toBe(400)
    expect(await pointersOf(await renew(url, client.key, 'null'))).toEqual([400, ['']])
    const plain = await rawRequest(url, {
      path: '/v2/auth/renew',
      headers: [
        ['Authorization', client.key],
        ['Content-Type', 'text/plain'],
      ],
      body: '{}',
    })
    expect(plain.status).toBe(415)
    expect(await database.sql`select from keys where client_id = ${client.clientId}`).toHaveLength(1)
  })

  test('A20 touches no row but its own', async () => {
    const client = await seedClient(database.sql)
    await seedKey(database.sql, client.clientId, 'sandbox')
    const others = () =>
      database.sql`select id, version, revoked_at, expires_at from keys where id <> ${client.keyId} order by id`
    const before = await others()
    const { id } = bodyOf<RenewedKey>(await renew(url, client.key), 201)
    expect((await others()).filter((row) => row.id !== id)).toEqual(before)
  })
})

describe('a renewal with an Idempotency-Key', () => {
  const once = (key: string): Headers => [['Idempotency-Key', key]]

  test('A52 happens once; its repetition has no key, and says so', async () => {
    const client = await seedClient(database.sql)
    const first = bodyOf<RenewedKey>(await renew(url, client.key, {}, once('a')), 201)
    const again = await renew(url, client.key, {}, once('a'))
    expect(again.headers['idempotency-replayed']).toBe('true')
    expect(bodyOf<RenewedKey>(again, 201)).toEqual({
      ...first,
      key: null,
      notice: expect.stringContaining('shown once'),
    })
    expect((await renew(url, client.key, { overlap_seconds: 1 }, once('a'))).status).toBe(422)
    expect((await renew(url, client.key, {}, once('b'))).status).toBe(409)
    expect(await database.sql`select from keys where client_id = ${client.clientId}`).toHaveLength(2)
  })

  test('A50 twenty at once: one key is shown, once', async () => {
    const client = await seedClient(database.sql)
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => renew(url, client.key, undefined, once('c'))),
    )
    const made = answers.filter(({ status }) => status === 201).map(({ body }) => JSON.parse(body))
    expect(made.filter(({ key }) => key !== null)).toHaveLength(1)
    for (const { status } of answers) expect([201, 409]).toContain(status)
    expect(await database.sql`select from audit_events where actor_key_id = ${client.keyId}`).toHaveLength(1)
  })

  test('is of the key that asked: another one of the client does not get its answer', async () => {
    const client = await seedClient(database.sql)
    const other = await seedKey(database.sql, client.clientId, 'sandbox')
    expect((await renew(url, client.key, {}, once('d'))).status).toBe(201)
    expect((await renew(url, other.key, {}, once('d'))).status).toBe(422)
    // Another client's are its own.
    const stranger = await seedClient(database.sql)
    expect((await renew(url, stranger.key, {}, once('d'))).status).toBe(201)
  })

  test('is not repeated to a key that has been revoked since', async () => {
    const client = await seedClient(database.sql)
    expect((await renew(url, client.key, {}, once('e'))).status).toBe(201)
    await operator.post(`/v2/keys/${client.keyId}/revoke`)
    expect((await renew(url, client.key, {}, once('e'))).status).toBe(401)
  })
})

test('what is refused is told to the audit trail, by no more than was proved', async () => {
  const audited = await startService(database)
  const suspended = await seedClient(database.sql, { status: 'suspended' })
  const unknown = createKeyFormat('sgt').generate('sandbox').key
  await validate(audited.url, suspended.key)
  await renew(audited.url, unknown)
  await audited.stop()
  const events = await database.sql`
    select actor_client_id, details->>'operation' as operation, details->>'code' as code from audit_events
    where action = 'request.refused' and (actor_client_id = ${suspended.clientId} or actor_client_id is null)
    order by sequence`
  expect(events).toContainEqual({
    actor_client_id: suspended.clientId,
    operation: 'validateKey',
    code: 'client_suspended',
  })
  expect(events).toContainEqual({ actor_client_id: null, operation: 'renewKey', code: 'invalid_key' })
})
