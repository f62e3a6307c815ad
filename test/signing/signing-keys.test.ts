/** Signing keys over the management API: rotation, and the emergency. */
import { decodeJwt, decodeProtectedHeader, SignJWT } from 'jose'
import { afterAll, describe, expect, onTestFinished, test } from 'vitest'
import { createVerifier, type JwkSet } from '#sdk'
import { PUBLISHED_AFTER_SECONDS, PUBLISHED_AHEAD_SECONDS } from '../../src/signing/rotation.ts'
import { createSealing } from '../../src/signing/sealing.ts'
import { openSigningKey } from '../../src/signing/signing-key.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import {
  type Api,
  apiOfOperator,
  apiWith,
  createTenant,
  idempotencyKey,
  tokenFor,
} from '../support/management.ts'
import { mint, tokenOf } from '../support/mint.ts'
import { startLoad } from '../support/process.ts'
import { type SeededClient, seedClient } from '../support/seed.ts'
import {
  DEFAULT_AUDIENCE,
  ISSUER,
  KEY_ENCRYPTION_KEY,
  SANDBOX_ISSUER,
  startService,
  type TestService,
  type TestServiceOptions,
} from '../support/service.ts'

type Environment = 'sandbox' | 'production'
type SigningKey = { kid: string; environment: Environment; status: string; alg: string } & Record<
  'published_at' | 'activates_at' | 'retires_at' | 'removes_at' | 'revoked_at' | 'created_at',
  string | null
>
type Page = { data: SigningKey[]; next_cursor: string | null }
type Refused = { detail: string; error: { code: string } }

/** A database of its own for each test, since its keys are; ended with it. */
async function setUp(options: TestServiceOptions = {}) {
  const database = await createTestDatabase()
  const one = await startService(database, { logLevel: 'warn' })
  const other = await startService(database, { logLevel: 'warn', ...options })
  onTestFinished(async () => {
    await Promise.all([one.stop(), other.stop()])
    await database.drop()
  })
  const operator = await apiOfOperator(one)
  return { database, one, other, operator }
}

const clientIn = (database: TestDatabase, environment: Environment) =>
  seedClient(database.sql, { environment })
const tokenFrom = async (service: TestService, client: SeededClient) =>
  (await tokenOf(await mint(service.url, client))).token
const kidOf = (token: string) => String(decodeProtectedHeader(token).kid)

const pathOf = { production: '/.well-known/jwks.json', sandbox: '/sandbox/.well-known/jwks.json' }
async function keySet(service: TestService, environment: Environment): Promise<JwkSet> {
  return (await (await fetch(service.url + pathOf[environment])).json()) as JwkSet
}
const kidsOf = (set: JwkSet) => set.keys.map((key) => (key as { kid: string }).kid)

const verify = (token: string, jwks: JwkSet, environment: Environment = 'sandbox') =>
  createVerifier({
    issuer: environment === 'sandbox' ? SANDBOX_ISSUER : ISSUER,
    audience: DEFAULT_AUDIENCE,
    jwks: () => jwks,
  }).verify(token)

/** Lets the keys of an environment be so much older: all that time does to them. */
const age = (database: TestDatabase, environment: Environment, seconds: number) =>
  database.sql`update signing_keys set published_at = published_at - ${seconds} * interval '1 s',
    activates_at = activates_at - ${seconds} * interval '1 s', retires_at = retires_at - ${seconds} * interval '1 s',
    removes_at = removes_at - ${seconds} * interval '1 s' where environment = ${environment}`

const rotate = (api: Api, environment: Environment) =>
  api.post<SigningKey & Refused>('/v2/signing-keys/rotate', { environment })
const revoke = (api: Api, kid: string, body: object = {}) =>
  api.post<SigningKey & Refused>(`/v2/signing-keys/${kid}/revoke`, body)
const listed = async (api: Api, query = '') =>
  (await api.get<Page>(`/v2/signing-keys?limit=100${query}`)).body.data
const statuses = async (api: Api, environment: Environment) =>
  Object.fromEntries(
    (await listed(api, `&environment=${environment}`)).map(({ kid, status }) => [kid, status]),
  )

describe('rotation', () => {
  test('A38 F9 tokens of before, between and after verify, by key sets of before and after', async () => {
    const { database, one, other, operator } = await setUp()
    const client = await clientIn(database, 'sandbox')
    const sets = [await keySet(one, 'sandbox')]
    const before = await tokenFrom(one, client)
    const first = kidOf(before)

    const rotation = await rotate(operator, 'sandbox')
    expect(rotation.status).toBe(201)
    const second = rotation.body.kid
    expect(rotation.body).toMatchObject({ environment: 'sandbox', alg: 'ES256', status: 'published' })
    // Published by the instance that answers as soon as it has answered.
    sets.push(await keySet(one, 'sandbox'))
    expect(kidsOf(sets[1] as JwkSet).sort()).toEqual([first, second].sort())
    expect(await statuses(operator, 'sandbox')).toEqual({ [first]: 'active', [second]: 'published' })
    const between = await tokenFrom(other, client)
    expect(kidOf(between)).toBe(first)

    await age(database, 'sandbox', PUBLISHED_AHEAD_SECONDS)
    expect(await statuses(operator, 'sandbox')).toEqual({ [first]: 'retiring', [second]: 'active' })
    const after = await tokenFrom(one, client)
    expect([kidOf(after), kidOf(await tokenFrom(other, client))]).toEqual([second, second])
    sets.push(await keySet(one, 'sandbox'), await keySet(other, 'sandbox'))

    for (const [n, set] of sets.entries())
      for (const token of n === 0 ? [before, between] : [before, between, after])
        expect(await verify(token, set)).toMatchObject({ sub: client.clientId })

    // When the last token of the first key has expired, and not before, it is removed.
    await age(database, 'sandbox', PUBLISHED_AFTER_SECONDS - 60)
    expect(kidOf(await tokenFrom(one, client))).toBe(second)
    expect(kidsOf(await keySet(one, 'sandbox'))).toContain(first)
    await age(database, 'sandbox', 60)
    expect(await statuses(operator, 'sandbox')).toEqual({ [first]: 'removed', [second]: 'active' })
    expect(kidOf(await tokenFrom(one, client))).toBe(second)
    expect(kidsOf(await keySet(one, 'sandbox'))).toEqual([second])
  })

  test('however many rotate at once, there is one new key; the others learn when it activates', async () => {
    const { database, one, other, operator } = await setUp()
    const elsewhere = apiWith(other.url, operator.token)
    expect(one.url).not.toBe(other.url)
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, i) => rotate(i % 2 ? operator : elsewhere, 'sandbox')),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array(9).fill(409)])
    const made = answers.find(({ status }) => status === 201)?.body
    for (const { body } of answers.filter(({ status }) => status === 409))
      expect([body.error.code, body.detail.includes(made?.activates_at ?? '?')]).toEqual(['conflict', true])
    expect((await listed(operator, '&environment=sandbox')).map(({ status }) => status)).toEqual([
      'published',
      'active',
    ])
    expect(await listed(operator, '&environment=production')).toHaveLength(1)
    const events =
      await database.sql`select target_id, details from audit_events where action = 'signing_key.rotate'`
    expect(events).toHaveLength(1)
    expect(events[0]?.target_id).toBe(made?.kid)
    expect(JSON.stringify(events)).not.toContain('sealed')
  })

  test('nobody who mints meanwhile notices', async () => {
    const { database, one, other, operator } = await setUp()
    const client = await clientIn(database, 'sandbox')
    const loads = [startLoad(one.url, client, 4), startLoad(other.url, client, 4)]
    /** Whoever waits for its token since before a change has it: an exchange gives up after three changes. */
    const catchUp = () => Promise.all([tokenFrom(one, client), tokenFrom(other, client)])
    for (let i = 0; i < 4; i++) {
      expect((await rotate(operator, 'sandbox')).status).toBe(201)
      const [token] = await catchUp()
      if (i % 2) expect((await revoke(operator, kidOf(token))).status).toBe(200)
      else await age(database, 'sandbox', PUBLISHED_AHEAD_SECONDS)
      await catchUp()
    }
    await Promise.all(loads.map((load) => load.stop()))
    for (const { statuses: counts, received } of loads) {
      expect([...counts.keys()]).toEqual([200])
      expect(received.length).toBeGreaterThan(20)
    }
  })
})

describe('A65 the emergency', () => {
  test('A65 the active key is revoked: no instance signs with it, it is out of the set, its tokens are dead', async () => {
    const { database, one, other, operator } = await setUp()
    const client = await clientIn(database, 'sandbox')
    const [stolen, old] = [await tokenFrom(one, client), await tokenFrom(other, client)]
    const kid = kidOf(stolen)
    expect(kidOf(old)).toBe(kid)

    const recorded = async () =>
      (await database.sql`select count(*)::int as n from issued_tokens where kid = ${kid}`)[0]?.n
    const load = startLoad(other.url, client, 8)
    const answer = await revoke(operator, kid, { reason: 'found in a log' })
    const atAnswer = await recorded()
    expect(answer.status).toBe(200)
    expect(answer.body).toMatchObject({ kid, status: 'revoked', revoked_at: expect.any(String) })
    const set = await keySet(one, 'sandbox')
    expect(kidsOf(set)).not.toContain(kid)

    const fresh = await tokenFrom(one, client)
    expect(kidOf(fresh)).not.toBe(kid)
    expect(await verify(fresh, set)).toMatchObject({ sub: client.clientId })
    await expect(verify(stolen, set)).rejects.toMatchObject({ status: 401 })
    expect(kidOf(await tokenFrom(other, client))).toBe(kidOf(fresh))
    await load.stop()
    expect(load.received.length).toBeGreaterThan(10)
    expect(await recorded()).toBe(atAnswer)
    expect(kidsOf(await keySet(other, 'sandbox'))).toEqual([kidOf(fresh)])
    expect(await statuses(operator, 'sandbox')).toEqual({ [kid]: 'revoked', [kidOf(fresh)]: 'active' })

    // Again: the same, and no third key.
    expect((await revoke(operator, kid)).body).toEqual(answer.body)
    expect(await listed(operator, '&environment=sandbox')).toHaveLength(2)
    const [event] = await database.sql`
      select organization_id, target_id, details from audit_events where action = 'signing_key.revoke' order by sequence`
    expect(event).toMatchObject({
      organization_id: one.operator?.organization_id,
      target_id: kid,
      details: { after: { reason: 'found in a log', successor: { kid: kidOf(fresh) } } },
    })
  })

  test('A65 the active production key: the token that asked is dead too, and a new one opens', async () => {
    const { one, operator } = await setUp()
    const kid = kidOf(operator.token)
    const headers = idempotencyKey()
    expect((await operator.post(`/v2/signing-keys/${kid}/revoke`, {}, headers)).status).toBe(200)
    expect((await operator.get('/v2/signing-keys')).status).toBe(401)
    const renewed = await apiOfOperator(one)
    expect(kidOf(renewed.token)).not.toBe(kid)
    const replayed = await renewed.post<SigningKey>(`/v2/signing-keys/${kid}/revoke`, {}, headers)
    expect([replayed.status, replayed.headers.get('idempotency-replayed')]).toEqual([200, 'true'])
    expect(await statuses(renewed, 'production')).toEqual({
      [kid]: 'revoked',
      [kidOf(renewed.token)]: 'active',
    })
  })

  test('A65 an instance whose clock is behind signs with the new key, not with the revoked one', async () => {
    const { database, other, operator } = await setUp({ now: () => Date.now() - 30_000 })
    const client = await clientIn(database, 'sandbox')
    const kid = kidOf(await tokenFrom(other, client))
    expect((await revoke(operator, kid)).status).toBe(200)
    const fresh = kidOf(await tokenFrom(other, client))
    expect(fresh).not.toBe(kid)
    expect(kidsOf(await keySet(other, 'sandbox'))).toEqual([fresh])
  })

  test('the next key takes the place of a revoked one; when it is revoked itself, the present one goes on', async () => {
    const { database, one, operator } = await setUp()
    const client = await clientIn(database, 'sandbox')
    const first = kidOf(await tokenFrom(one, client))
    const doomed = (await rotate(operator, 'sandbox')).body.kid
    expect((await revoke(operator, doomed)).status).toBe(200)
    expect(kidsOf(await keySet(one, 'sandbox'))).toEqual([first])
    await age(database, 'sandbox', 2 * PUBLISHED_AHEAD_SECONDS)
    expect(kidOf(await tokenFrom(one, client))).toBe(first)

    const next = (await rotate(operator, 'sandbox')).body.kid
    expect((await revoke(operator, first)).status).toBe(200)
    expect(kidOf(await tokenFrom(one, client))).toBe(next)
    expect(await statuses(operator, 'sandbox')).toEqual({
      [first]: 'revoked',
      [doomed]: 'revoked',
      [next]: 'active',
    })
  })
})

const shared = await createTestDatabase()
const service = await startService(shared, { logLevel: 'warn' })
afterAll(async () => {
  await service.stop()
  await shared.drop()
})

test('signing keys are the platform’s alone', async () => {
  const { api } = await createTenant(service, shared.sql)
  const operator = await apiOfOperator(service)
  const [key] = await listed(operator)
  const answers = [
    await api.get<Refused>('/v2/signing-keys'),
    await rotate(api, 'sandbox'),
    await revoke(api, key?.kid ?? ''),
    await revoke(api, 'A'.repeat(43)),
  ]
  for (const { status, body } of answers)
    expect([status, body.error.code]).toEqual([403, 'insufficient_scope'])
  for (const kid of ['A'.repeat(43), 'short']) expect((await revoke(operator, kid)).status).toBe(404)
  expect((await rotate(operator, 'staging' as Environment)).status).toBe(400)
  expect(await listed(operator)).toHaveLength(2)
})

test('the list shows public members only, the newest first, by filter and page', async () => {
  const operator = await apiOfOperator(service)
  const sealed = await shared.sql`select sealed_private_jwk from signing_keys`
  const [text, all] = [(await operator.get('/v2/signing-keys')).text, await listed(operator)]
  for (const row of sealed) expect(text).not.toContain(row.sealed_private_jwk)
  expect(all[0]).toEqual({
    kid: expect.stringMatching(/^[\w-]{43}$/),
    environment: expect.stringMatching(/^(sandbox|production)$/),
    alg: 'ES256',
    status: 'active',
    public_jwk: { kty: 'EC', crv: 'P-256', x: expect.any(String), y: expect.any(String) },
    published_at: expect.any(String),
    activates_at: expect.any(String),
    retires_at: null,
    removes_at: null,
    revoked_at: null,
    created_at: expect.any(String),
  })

  // One of each status; two of them made within the same millisecond.
  const copy = (kid: string, columns: string) =>
    shared.sql.unsafe(`insert into signing_keys (kid, environment, alg, public_jwk, sealed_private_jwk, created_at,
        published_at, activates_at, retires_at, removes_at, revoked_at)
      select '${kid.padEnd(43, '0')}', environment, alg, public_jwk || '{"d": "canary"}', sealed_private_jwk, ${columns}
      from signing_keys where environment = 'sandbox' and length(kid) = 43 order by created_at desc limit 1`)
  await copy('removed', "'2026-01-01T00:00:00.000300Z', now(), now(), now(), now(), null")
  await copy('revoked', "'2026-01-01T00:00:00.000200Z', now(), now(), null, null, now()")
  await copy('retiring', "'2026-01-01T00:00:00.000100Z', now(), now(), now(), now() + interval '1 h', null")
  await copy('published', "'2026-01-01T00:00:00.000000Z', now(), now() + interval '1 h', null, null, null")
  // Active by its timestamps, but an older one than that which signs.
  await copy(
    'superseded',
    "'2025-12-31T00:00:00Z', now() - interval '1 d', now() - interval '1 d', null, null, null",
  )
  const names = ['removed', 'revoked', 'retiring', 'published', 'superseded']
  const kids = names.map((name) => name.padEnd(43, '0'))

  const everything = await listed(operator)
  expect(everything.slice(2).map(({ kid }) => kid)).toEqual(kids)
  expect(everything.slice(2).map(({ status }) => status)).toEqual([...names.slice(0, 4), 'retiring'])
  expect(JSON.stringify(everything)).not.toContain('canary')
  for (const status of ['published', 'active', 'retiring', 'removed', 'revoked'])
    for (const environment of ['sandbox', 'production', undefined]) {
      const query = `&status=${status}${environment ? `&environment=${environment}` : ''}`
      const expected = everything.filter(
        (key) => key.status === status && (environment ?? key.environment) === key.environment,
      )
      expect(await listed(operator, query), query).toEqual(expected)
    }

  const seen: string[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const { body }: { body: Page } = await operator.get<Page>(
      `/v2/signing-keys?limit=1${cursor && `&cursor=${cursor}`}`,
    )
    seen.push(...body.data.map(({ kid }) => kid))
    cursor = body.next_cursor
  }
  expect(seen).toEqual(everything.map(({ kid }) => kid))
  await shared.sql`delete from signing_keys where kid = any (${kids})`
})

describe('A21 the environments share no key', () => {
  test('A21 a sandbox-signed token that claims the production issuer opens nothing', async () => {
    if (!service.operator) throw new Error('no operator')
    const { organization_id: organizationId, key } = service.operator
    const genuine = await tokenFor(service.url, { organizationId, key }, ['signet:organizations:read'])
    const sealing = createSealing([KEY_ENCRYPTION_KEY])
    const rows = await shared.sql`select * from signing_keys`
    const signedBy = async (environment: Environment, kid?: string) => {
      const row = rows.find((each) => each.environment === environment)
      const privateKey = await openSigningKey(
        { kid: row?.kid, sealedPrivateJwk: row?.sealed_private_jwk } as never,
        sealing,
      )
      return new SignJWT(decodeJwt(genuine))
        .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: kid ?? row?.kid })
        .sign(privateKey)
    }
    const productionKid = kidOf(genuine)
    const verifier = createVerifier({
      issuer: ISSUER,
      audience: ISSUER,
      jwksUri: service.url + pathOf.production,
    })
    const opens = async (token: string) => (await apiWith(service.url, token).get('/v2/organizations')).status

    // The same claims, signed as they should be.
    const proper = await signedBy('production')
    expect(await verifier.verify(proper)).toMatchObject({ iss: ISSUER })
    expect(await opens(proper)).toBe(200)
    for (const forged of [await signedBy('sandbox'), await signedBy('sandbox', productionKid)]) {
      await expect(verifier.verify(forged)).rejects.toMatchObject({ status: 401 })
      expect(await opens(forged)).toBe(401)
    }
  })

  test('A21 no key set holds a kid of the other, also after a rotation', async () => {
    const operator = await apiOfOperator(service)
    for (const environment of ['sandbox', 'production'] as const)
      expect((await rotate(operator, environment)).status).toBe(201)
    const [production, sandbox] = [
      kidsOf(await keySet(service, 'production')),
      kidsOf(await keySet(service, 'sandbox')),
    ]
    expect([production.length, sandbox.length, new Set([...production, ...sandbox]).size]).toEqual([2, 2, 4])
  })
})
