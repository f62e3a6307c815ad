/** The revocation feed by itself: what is in it, when it is signed, and how old it says it is. */
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { connectAsPlatform } from '../../src/database/database.ts'
import { newId, newJti } from '../../src/ids.ts'
import type { Signer } from '../../src/signing/signer.ts'
import { buildRevoked } from '../../src/tokens/feed-format.ts'
import { createRevocationFeed, type RevocationFeed } from '../../src/tokens/revocation-feed.ts'
import { createTcpProxy, type TcpProxy } from '../database/tcp-proxy.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { type SeededClient, seedClient, seedDelegation, seedOrganization } from '../support/seed.ts'

const NOW = 1_795_300_000_000
const HOUR = 3_600_000

let database: TestDatabase
let proxy: TcpProxy
let client: SeededClient
beforeAll(async () => {
  database = await createTestDatabase()
  proxy = await createTcpProxy(`${database.target.host}/.s.PGSQL.${database.target.port}`)
  client = await seedClient(database.sql)
})
afterAll(async () => {
  await proxy?.close()
  await database?.drop()
})

let open: RevocationFeed[] = []
afterEach(async () => {
  vi.restoreAllMocks()
  await Promise.all(open.map((feed) => feed.close()))
  open = []
})

/** A feed whose signer says what it was given to sign. */
function createFeed(deadlineMilliseconds?: number) {
  const state = {
    now: NOW,
    kids: ['kid-1'],
    /** Of the database, when the signer is told to look. */
    kidsInDatabase: undefined as string[] | undefined,
    signed: 0,
    /** Until then, signing takes. */
    gate: Promise.resolve(),
    failures: [] as unknown[],
  }
  const signer: Pick<Signer, 'sign' | 'jwks' | 'reload'> = {
    async sign(environment, claims, type) {
      const [kid] = state.kids
      if (kid === undefined) return undefined
      state.signed += 1
      await state.gate
      const token = JSON.stringify({ typ: type, kid, environment, ...claims })
      return { token, kid, signingKeyVersion: 1 }
    },
    jwks: () => ({ set: { keys: state.kids.map((kid) => ({ kid })) }, body: '', etag: '' }),
    async reload() {
      state.kids = state.kidsInDatabase ?? state.kids
      return true
    },
  }
  const feed = createRevocationFeed({
    connect: (options) =>
      connectAsPlatform({ ...database.target, host: '127.0.0.1', port: proxy.port }, options),
    signer,
    issuerOf: (environment) => `https://signet.test/${environment}`,
    now: () => state.now,
    onFailure: (error) => state.failures.push(error),
    ...(deadlineMilliseconds === undefined ? {} : { deadlineMilliseconds }),
  })
  open.push(feed)
  return { feed, state }
}

const claimsOf = (feed: RevocationFeed, environment: 'sandbox' | 'production' = 'sandbox') =>
  JSON.parse(feed.current(environment)?.jwt ?? 'null')
const revokedIn = (feed: RevocationFeed) => claimsOf(feed).revoked

async function revokeToken(expiresIn = '1 hour'): Promise<string> {
  const jti = newJti()
  await database.sql`insert into revoked_tokens (jti, organization_id, client_id, expires_at)
    values (${jti}, ${client.organizationId}, ${client.clientId}, now() + ${expiresIn}::interval)`
  return jti
}

test('says who signed it, when, until when, and how old a copy may be', async () => {
  const { feed } = createFeed()
  expect(feed.current('sandbox')).toBeUndefined()
  await feed.refresh()
  for (const environment of ['sandbox', 'production'] as const)
    expect(claimsOf(feed, environment)).toMatchObject({
      typ: 'revocations+jwt',
      iss: `https://signet.test/${environment}`,
      iat: NOW / 1000,
      exp: NOW / 1000 + 3600,
      ttl: 30,
    })
})

test('every kind of revocation is in it, in order, each in its environment', async () => {
  const { sql } = database
  const { feed } = createFeed()
  const partnerId = await seedOrganization(sql)
  const own = await seedClient(sql)
  const delegationId = await seedDelegation(sql, { organizationId: own.organizationId, partnerId })
  const suspended = await seedOrganization(sql)
  await sql`update clients set status = 'suspended' where id = ${own.clientId}`
  await sql`update keys set tokens_revoked_at = now() where id = ${own.keyId}`
  await sql`update organizations set status = 'suspended' where id = ${suspended}`
  await sql`update delegations set status = 'paused' where id = ${delegationId}`
  await sql`insert into signing_keys (kid, environment, alg, public_jwk, sealed_private_jwk, published_at,
      activates_at, revoked_at) values ('kid-0', 'sandbox', 'ES256', '{}', '', now(), now(), now())`
  const jtis = [await revokeToken(), await revokeToken()]
  await feed.refresh()

  const [row] = await sql`select extract(epoch from now())::float8 as now`
  const soon = expect.toSatisfy((before: number) => before > row?.now - 60 && before < row?.now + 60)
  const { jti, ...cutOffs } = revokedIn(feed)
  expect(jti).toEqual(expect.arrayContaining(jtis))
  expect(jti).toEqual(jti.toSorted())
  expect(cutOffs).toEqual({
    key_id: { [own.keyId]: soon },
    client_id: { [own.clientId]: soon },
    organization_id: { [suspended]: soon },
    kid: { 'kid-0': expect.toSatisfy((before: number) => before > row?.now + 86_300) },
    delegation: [{ partner_id: partnerId, organization_id: own.organizationId, before: soon }],
  })
  // An organization has both environments; all else was sandbox’s.
  expect(claimsOf(feed, 'production').revoked).toEqual({
    jti: [],
    key_id: {},
    client_id: {},
    organization_id: { [suspended]: soon },
    kid: {},
    delegation: [],
  })
})

test('ids are data: names of a prototype too', () => {
  const rows = [{ kind: 'key_id', ids: ['__proto__', 'constructor'], partnerIds: [], befores: [1, 2] }]
  expect(JSON.stringify(buildRevoked(rows).key_id)).toBe('{"__proto__":1,"constructor":2}')
})

test('is signed once per change, whatever the number of looks, and has another tag then', async () => {
  const { feed, state } = createFeed()
  await feed.refresh()
  const before = feed.current('sandbox')
  state.now += 1000
  for (let i = 0; i < 3; i++) await feed.refresh()
  expect(state.signed).toBe(2)
  expect(feed.current('sandbox')).toMatchObject({ jwt: before?.jwt, etag: before?.etag })
  const jti = await revokeToken()
  await feed.refresh()
  // Production has not changed.
  expect(state.signed).toBe(3)
  expect(revokedIn(feed).jti).toContain(jti)
  expect(feed.current('sandbox')?.etag).toMatch(/^"[\w-]{43}"$/)
  expect(feed.current('sandbox')?.etag).not.toBe(before?.etag)
})

test('ages out: what can name no living token leaves when it is signed next, and alone is no reason to sign', async () => {
  const { feed, state } = createFeed()
  const jti = await revokeToken()
  const stays = await revokeToken('-14 minutes')
  await feed.refresh()
  expect(revokedIn(feed).jti).toEqual(expect.arrayContaining([jti, stays]))
  const { signed } = state
  await database.sql`update revoked_tokens set expires_at = now() - interval '16 minutes' where jti = ${jti}`
  await feed.refresh()
  expect(state.signed).toBe(signed)
  expect(revokedIn(feed).jti).toContain(jti)
  const another = await revokeToken()
  await feed.refresh()
  expect(revokedIn(feed).jti).toEqual(expect.arrayContaining([stays, another]))
  expect(revokedIn(feed).jti).not.toContain(jti)

  const cutOff = await seedClient(database.sql)
  await database.sql`update clients set status = 'revoked' where id = ${cutOff.clientId}`
  await feed.refresh()
  expect(revokedIn(feed).client_id).toHaveProperty(cutOff.clientId)
  await database.sql`update clients set tokens_revoked_at = now() - interval '1 day 16 minutes'
    where id = ${cutOff.clientId}`
  state.now += HOUR / 2
  await feed.refresh()
  expect(revokedIn(feed).client_id).not.toHaveProperty(cutOff.clientId)
})

test('is signed anew when half of its life has passed, or when the clock was set back', async () => {
  const { feed, state } = createFeed()
  await feed.refresh()
  state.now += HOUR / 2 - 1000
  await feed.refresh()
  expect(claimsOf(feed).iat).toBe(NOW / 1000)
  state.now += 1000
  await feed.refresh()
  expect(claimsOf(feed)).toMatchObject({ iat: NOW / 1000 + 1800, exp: NOW / 1000 + 5400 })
  state.now -= 2 * HOUR
  await feed.refresh()
  expect(claimsOf(feed).iat).toBe(state.now / 1000)
})

test('a look begins after the call: one that has read already is not waited for, and many calls are one', async () => {
  const { feed, state } = createFeed()
  const first = await revokeToken()
  const gate = Promise.withResolvers<void>()
  state.gate = gate.promise
  const running = feed.refresh()
  await vi.waitFor(() => expect(state.signed).toBe(2))
  const second = await revokeToken()
  const later = Array.from({ length: 10 }, () => feed.refresh())
  gate.resolve()
  await running
  expect(revokedIn(feed).jti).toContain(first)
  expect(revokedIn(feed).jti).not.toContain(second)
  await Promise.all(later)
  expect(revokedIn(feed).jti).toContain(second)
  expect(state.signed).toBe(3)
})

test('follow: who revokes something finds it there; what fails is told as it is', async () => {
  const { feed } = createFeed()
  const jti = await feed.follow(revokeToken())
  expect(revokedIn(feed).jti).toContain(jti)
  await expect(feed.follow(Promise.reject(new Error('refused')))).rejects.toThrow('refused')
})

test('A65 a key that is no longer published is replaced at once, though nothing else has changed', async () => {
  const { feed, state } = createFeed()
  await feed.refresh()
  state.kids = ['kid-2']
  await feed.refresh()
  expect(claimsOf(feed).kid).toBe('kid-2')
})

test('A65 another instance has revoked the signing key: the signer looks before the feed is signed', async () => {
  const { feed, state } = createFeed()
  const kid = `kid-${newId('key')}`
  state.kids = [kid]
  await feed.refresh()
  await database.sql`insert into signing_keys (kid, environment, alg, public_jwk, sealed_private_jwk, published_at,
      activates_at, revoked_at) values (${kid}, 'sandbox', 'ES256', '{}', '', now(), now(), now())`
  // The signer cannot read: what was signed before stays, and ages; the thief's key signs nothing new.
  await feed.refresh()
  expect(feed.current('sandbox')).toBeDefined()
  expect(claimsOf(feed).revoked.kid).not.toHaveProperty(kid)
  expect(state.failures).toHaveLength(1)
  state.kidsInDatabase = ['kid-3']
  await feed.refresh()
  expect(claimsOf(feed)).toMatchObject({ kid: 'kid-3', revoked: { kid: { [kid]: expect.any(Number) } } })
})

test('A65 a feed of a key that is no longer published is not shown while none can be signed', async () => {
  const { feed, state } = createFeed()
  await feed.refresh()
  state.kids = []
  await feed.refresh()
  expect(feed.current('sandbox')).toBeUndefined()
  state.kids = ['kid-2']
  await feed.refresh()
  expect(claimsOf(feed).kid).toBe('kid-2')
})

test('F2 database down: it goes on from memory, its age grows, its iat does not; then it is up to date', async () => {
  const { feed, state } = createFeed()
  await feed.refresh()
  expect(feed.current('sandbox')?.ageSeconds).toBeLessThanOrEqual(2)
  const { iat } = claimsOf(feed)
  proxy.filter(() => () => false)
  proxy.cutAll()
  const now = performance.now()
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => now + 40_000)
  state.now += 40_000
  const { feed: down, state: downState } = createFeed(300)
  for (let i = 0; i < 3; i++) await down.refresh()
  expect(down.current('sandbox')).toBeUndefined()
  // The log is not filled with it.
  expect(downState.failures).toHaveLength(1)
  expect(feed.current('sandbox')?.ageSeconds).toBeGreaterThanOrEqual(40)
  // Past its half-life it is not signed again, and past its life it is of no use.
  state.now += HOUR / 2
  expect(claimsOf(feed).iat).toBe(iat)
  state.now += HOUR / 2
  expect(feed.current('sandbox')).toBeUndefined()
  clock.mockRestore()
  proxy.filter(undefined)
  proxy.cutAll()
  await vi.waitFor(async () => {
    await feed.refresh()
    expect(feed.current('sandbox')?.ageSeconds).toBeLessThanOrEqual(2)
  }, 5000)
})

test('F6 a connection that fell silent is given up and replaced', async () => {
  const { feed, state } = createFeed(200)
  await feed.refresh()
  proxy.silence()
  await feed.refresh()
  expect(state.failures).toHaveLength(1)
  const jti = await revokeToken()
  await vi.waitFor(async () => {
    await feed.refresh()
    expect(revokedIn(feed).jti).toContain(jti)
  }, 5000)
})
