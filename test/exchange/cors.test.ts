import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { mint, problemOf, rawRequest, tokenBody } from '../support/mint.ts'
import { type SeededClient, seedClient } from '../support/seed.ts'
import { ISSUER, startService, type TestService } from '../support/service.ts'

const ORIGIN = 'https://app.test'

let database: TestDatabase
let service: TestService
let client: SeededClient
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService(database)
  client = await seedClient(database.sql, { allowedOrigins: [ORIGIN, 'https://other.test'] })
})
afterAll(async () => {
  await service?.stop()
  await database?.drop()
})

/** fetch would not let Origin be set. */
const from = (origin: string, who: Pick<SeededClient, 'key'>, body: object = tokenBody(client)) =>
  rawRequest(service.url, {
    headers: [
      ['Origin', origin],
      ['Authorization', who.key],
      ['Content-Type', 'application/json'],
    ],
    body: JSON.stringify(body),
  })

describe('a preflight', () => {
  test('tells any page how to ask; it promises no credentials', async () => {
    const answer = await rawRequest(service.url, {
      method: 'OPTIONS',
      headers: [
        ['Origin', ORIGIN],
        ['Access-Control-Request-Method', 'POST'],
        ['Access-Control-Request-Headers', 'authorization,content-type'],
      ],
    })
    expect(answer.status).toBe(204)
    expect(answer.headers).toMatchObject({
      'access-control-allow-origin': ORIGIN,
      'access-control-allow-methods': 'POST, OPTIONS',
      'access-control-allow-headers': 'authorization, x-api-key, content-type, idempotency-key',
      vary: 'Origin',
    })
    expect(answer.headers['access-control-allow-credentials']).toBeUndefined()
  })

  test('without an origin is a plain OPTIONS', async () => {
    const answer = await rawRequest(service.url, { method: 'OPTIONS', headers: [] })
    expect([answer.status, answer.headers.allow]).toEqual([204, 'POST, OPTIONS'])
    expect(answer.headers['access-control-allow-origin']).toBeUndefined()
  })
})

test('a page of Signet’s own, its reference, needs no allow-list: it is no other page', async () => {
  const none = await seedClient(database.sql, { allowedOrigins: [] })
  expect((await from(ISSUER, none, tokenBody(none))).status).toBe(200)
  for (const origin of [`${ISSUER}:443`, `${ISSUER}.evil.test`, ISSUER.toUpperCase(), 'null', ''])
    expect((await problemOf(await from(origin, none, tokenBody(none)))).error.code, origin).toBe(
      'origin_not_allowed',
    )
})

describe('a page of an allowed origin', () => {
  test('may read the token, the limits and the id', async () => {
    const answer = await from(ORIGIN, client)
    expect(answer.status).toBe(200)
    expect(answer.headers['access-control-allow-origin']).toBe(ORIGIN)
    expect(answer.headers['access-control-expose-headers']).toBe(
      'RateLimit, RateLimit-Policy, Retry-After, X-Request-Id, Location, Idempotency-Replayed',
    )
    expect(answer.headers.vary).toBe('Origin')
    expect(answer.headers['access-control-allow-credentials']).toBeUndefined()
  })

  test('may read a refusal of what it asked for', async () => {
    const bodies = [tokenBody({ ...client, scopes: ['admin'] }), tokenBody(client, { expiry_seconds: 1 }), {}]
    for (const body of bodies) {
      const answer = await from('https://other.test', client, body)
      expect(answer.status).toBeGreaterThanOrEqual(400)
      expect(answer.headers['access-control-allow-origin']).toBe('https://other.test')
    }
    const limited = await seedClient(database.sql, { allowedOrigins: [ORIGIN], rateLimitPerMinute: 0 })
    const answer = await from(ORIGIN, limited, tokenBody(limited))
    expect(answer.status).toBe(429)
    expect(answer.headers['access-control-allow-origin']).toBe(ORIGIN)
  })

  test('may read the first token after its origin was added', async () => {
    const added = await seedClient(database.sql, { allowedOrigins: [] })
    expect((await mint(service.url, added)).status).toBe(200)
    await database.sql`update clients set allowed_origins = ${[ORIGIN]} where id = ${added.clientId}`
    const answer = await from(ORIGIN, added, tokenBody(added))
    expect([answer.status, answer.headers['access-control-allow-origin']]).toEqual([200, ORIGIN])
  })
})

describe('a page of a foreign origin', () => {
  test('gets a 403 that it may not read', async () => {
    const origins = [
      'https://evil.test',
      'null',
      '',
      `${ORIGIN}.evil`,
      `${ORIGIN}/`,
      'http://app.test',
      'https://APP.test',
    ]
    for (const origin of [...origins, `${ORIGIN}, ${ORIGIN}`, '*']) {
      const answer = await from(origin, client)
      expect(answer.status, origin).toBe(403)
      expect((await problemOf(answer)).error.code).toBe('origin_not_allowed')
      expect(answer.headers['access-control-allow-origin']).toBeUndefined()
    }
  })

  test('gets it too where no list was made', async () => {
    for (const allowedOrigins of [null, []]) {
      const closed = await seedClient(database.sql, { allowedOrigins })
      const answer = await from(ORIGIN, closed, tokenBody(closed))
      expect([answer.status, answer.headers['access-control-allow-origin']]).toEqual([403, undefined])
      expect((await mint(service.url, closed)).status).toBe(200)
    }
  })

  test('learns nothing of a key that is no good', async () => {
    const answer = await from(ORIGIN, { key: 'sgt_test_x' })
    expect([answer.status, answer.headers['access-control-allow-origin']]).toEqual([401, undefined])
  })
})
