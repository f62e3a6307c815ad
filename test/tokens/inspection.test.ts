/** Whether a token is good, as the database says it: on every instance, in the next request. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { JwkSet } from '../../sdk/src/index.ts'
import { connectAsPlatform, disconnect } from '../../src/database/database.ts'
import { createInspectToken } from '../../src/tokens/inspection.ts'
import { INSPECTION_SETTINGS, selectInspected } from '../../src/tokens/store.ts'
import { createReadToken } from '../../src/tokens/token-reader.ts'
import { createTcpProxy } from '../database/tcp-proxy.ts'
import { createForger } from '../management/forged-token.ts'
import { connectTo, createTestDatabase, type TestDatabase } from '../support/database.ts'
import { type Api, apiOfOperator } from '../support/management.ts'
import { type SeededClient, seedClient, seedDelegation, seedKey, seedOrganization } from '../support/seed.ts'
import { ISSUER, startService, type TestService } from '../support/service.ts'
import { ask, claimsOf, flip, isActive, revoke, tokenFrom } from './calls.ts'

let database: TestDatabase
let one: TestService
let other: TestService
let operator: Api
/** Of the platform, for each environment: sees every token. */
let observer: SeededClient
beforeAll(async () => {
  database = await createTestDatabase()
  one = await startService(database)
  other = await startService(database)
  operator = await apiOfOperator(one)
  const organizationId = one.operator?.organization_id
  observer = await seedClient(database.sql, { organizationId, environment: 'production' })
})
afterAll(async () => {
  await one?.stop()
  await other?.stop()
  await database?.drop()
})

const productionClient = () => seedClient(database.sql, { environment: 'production' })
const activeOn = (service: TestService, token: string) => isActive(service.url, observer, token)
const done = async (answer: Promise<{ status: number; text: string }>) => {
  const { status, text } = await answer
  if (status >= 300) throw new Error(`${status}: ${text}`)
}

describe('§4 of RFC 7662: revoked on one instance, inactive on the other in the next request', () => {
  test('the token', async () => {
    const client = await productionClient()
    const token = await tokenFrom(one.url, client)
    expect(await activeOn(other, token)).toBe(true)
    expect(await revoke(one.url, client, token)).toBe(200)
    expect(await activeOn(other, token)).toBe(false)
    expect(await activeOn(one, token)).toBe(false)
  })

  test('a key with its tokens; not those of another key; a key without its tokens leaves them', async () => {
    const client = await productionClient()
    const [second, third] = [
      { ...client, ...(await seedKey(database.sql, client.clientId, 'production')) },
      { ...client, ...(await seedKey(database.sql, client.clientId, 'production')) },
    ]
    const [first, ofSecond, ofThird] = [
      await tokenFrom(one.url, client),
      await tokenFrom(one.url, second),
      await tokenFrom(one.url, third),
    ]
    expect(await activeOn(other, first)).toBe(true)
    await done(operator.post(`/v2/keys/${client.keyId}/revoke`, { reason: 'compromised' }))
    await done(operator.post(`/v2/keys/${second.keyId}/revoke`, {}))
    expect(await activeOn(other, first)).toBe(false)
    expect(await activeOn(other, ofSecond)).toBe(true)
    expect(await activeOn(other, ofThird)).toBe(true)
  })

  test('the client is suspended: for good, also when it goes on; what it mints then is good', async () => {
    const client = await productionClient()
    const token = await tokenFrom(one.url, client)
    expect(await activeOn(other, token)).toBe(true)
    await done(operator.post(`/v2/clients/${client.clientId}/suspend`))
    expect(await activeOn(other, token)).toBe(false)
    await database.sql`update clients set status = 'active' where id = ${client.clientId}`
    expect(await activeOn(other, token)).toBe(false)
    expect(await activeOn(other, await tokenFrom(one.url, client))).toBe(true)
  })

  test('the organization is suspended: its own, those for it, and those that it minted as a partner', async () => {
    const { sql } = database
    const [client, target] = [await productionClient(), await productionClient()]
    const partner = { environment: 'production', kind: 'partner' } as const
    const minter = await seedClient(sql, { ...partner, organizationId: client.organizationId })
    const forIt = await seedClient(sql, partner)
    const environment = 'production'
    for (const [organizationId, partnerId] of [
      [target.organizationId, minter.organizationId],
      [client.organizationId, forIt.organizationId],
    ] as const)
      await seedDelegation(sql, { organizationId, partnerId, environment })
    const tokens = [
      await tokenFrom(one.url, client),
      await tokenFrom(one.url, minter, target.organizationId),
      await tokenFrom(one.url, forIt, client.organizationId),
    ]
    const untouched = await tokenFrom(one.url, target)
    for (const token of tokens) expect(await activeOn(other, token)).toBe(true)
    await done(operator.patch(`/v2/organizations/${client.organizationId}`, { status: 'suspended' }))
    for (const token of tokens) expect(await activeOn(other, token)).toBe(false)
    await done(operator.patch(`/v2/organizations/${client.organizationId}`, { status: 'active' }))
    for (const token of tokens) expect(await activeOn(other, token)).toBe(false)
    expect(await activeOn(other, untouched)).toBe(true)
  })

  test('the delegation is paused: only what the partner minted for that organization', async () => {
    const { sql } = database
    const partner = await seedClient(sql, { environment: 'production', kind: 'partner' })
    const [delegating, second] = [await seedOrganization(sql), await seedOrganization(sql)]
    const parties = { partnerId: partner.organizationId, environment: 'production' } as const
    const delegation = await seedDelegation(sql, { ...parties, organizationId: delegating })
    await seedDelegation(sql, { ...parties, organizationId: second })
    const token = await tokenFrom(one.url, partner, delegating)
    const spared = await tokenFrom(one.url, partner, second)
    expect(await activeOn(other, token)).toBe(true)
    await done(operator.post(`/v2/delegations/${delegation}/pause`))
    expect(await activeOn(other, token)).toBe(false)
    await done(operator.post(`/v2/delegations/${delegation}/resume`))
    expect(await activeOn(other, token)).toBe(false)
    expect(await activeOn(other, spared)).toBe(true)
    expect(await activeOn(other, await tokenFrom(one.url, partner, delegating))).toBe(true)
  })
})

describe('what is asked of the database', () => {
  /** As the service inspects production's tokens, counting the reads. */
  async function createCounting() {
    const jwks = (await (await fetch(`${one.url}/.well-known/jwks.json`)).json()) as JwkSet
    const reads: string[] = []
    const readToken = createReadToken({ jwks: () => jwks, issuerOf: () => ISSUER })
    const store = {
      async find(jti: string) {
        reads.push(jti)
        return undefined
      },
    }
    return { inspect: createInspectToken({ readToken, store, now: Date.now }), reads }
  }

  test('A39 nothing, of what our keys have not signed or what is over', async () => {
    const { inspect, reads } = await createCounting()
    const client = await productionClient()
    const forger = await createForger(database)
    const token = await tokenFrom(one.url, client)
    const [, payload, signature] = token.split('.')
    const now = Math.floor(Date.now() / 1000)
    for (let i = 0; i < 200; i++) {
      const kid = `${i}`.padStart(43, 'x')
      const header = Buffer.from(JSON.stringify({ alg: 'ES256', typ: 'at+jwt', kid })).toString('base64url')
      expect(await inspect(`${header}.${payload}.${signature}`, 'production')).toBeUndefined()
    }
    for (const foreign of [
      'x',
      flip(token),
      await forger.sign(client, { exp: now }),
      await forger.sign(client, { iat: now + 120, exp: now + 420 }),
      await forger.sign(client, { iss: 'https://other.test' }),
      await forger.sign(client, { jti: 'tok_x' }),
    ])
      expect(await inspect(foreign, 'production')).toBeUndefined()
    expect(reads).toEqual([])
    expect(await inspect(token, 'production')).toBeUndefined()
    expect(reads).toEqual([claimsOf(token).jti])
  })

  test('A61 the same one read, whether a token is active, revoked, unknown or another’s', async () => {
    const { inspect, reads } = await createCounting()
    const client = await productionClient()
    const revoked = await tokenFrom(one.url, client)
    await revoke(one.url, client, revoked)
    const tokens = [
      await tokenFrom(one.url, client),
      revoked,
      await (await createForger(database)).sign(client),
      await tokenFrom(one.url, await productionClient()),
    ]
    for (const [index, token] of tokens.entries()) {
      await inspect(token, 'production')
      expect(reads).toHaveLength(index + 1)
    }
  })

  test('one statement, of which every branch is led by an index, and one partition is read', async () => {
    const platform = connectAsPlatform(database.target, { max: 1, statementTimeoutMilliseconds: 5_000 })
    const { sql: text } = selectInspected(platform).toSQL()
    await disconnect(platform)
    const connection = connectTo(database.target, { 'signet.platform': 'on', ...INSPECTION_SETTINGS })
    const { jti, iat } = claimsOf(await tokenFrom(one.url, await productionClient()))
    const plan = await connection.begin(async (transaction) => {
      await transaction.unsafe(`prepare inspection (text, float8) as ${text}`)
      return transaction.unsafe(`explain (analyze, costs off) execute inspection ('${jti}', ${iat})`)
    })
    await connection.end()
    const lines = plan.map((row) => String(row['QUERY PLAN']))
    expect(lines.filter((line) => /Seq Scan/.test(line))).toEqual([])
    const using = (name: RegExp) => lines.filter((line) => /Index/.test(line) && name.test(line))
    for (const index of [
      /using keys_pkey/,
      /using clients_pkey/,
      /using organizations_pkey/,
      /on delegations_/,
    ])
      expect(using(index)).not.toEqual([])
    expect(using(/signing_keys_pkey/)).toHaveLength(1)
    // Of the view, each question leaves one branch.
    expect(using(/revoked_tokens_pkey/)).toHaveLength(1)
    expect(using(/issued_tokens_\d{8}_\w+ on issued_tokens/)).toHaveLength(1)
    // Not all clients of an organization, nor of all.
    expect(using(/clients_of_organization/).filter((line) => !line.includes('never executed'))).toEqual([])
    expect(lines.some((line) => /Subplans Removed/.test(line))).toBe(true)
  })
})

describe('F2 F3 the database does not answer', () => {
  test('is down: introspection and revocation answer 503 with Retry-After; they are well when it is', async () => {
    const proxy = await createTcpProxy(`${database.target.host}/.s.PGSQL.${database.target.port}`)
    const target = { ...database.target, host: '127.0.0.1', port: proxy.port }
    const service = await startService({ target })
    const client = await productionClient()
    const token = await tokenFrom(service.url, client)
    expect(await isActive(service.url, client, token)).toBe(true)
    proxy.filter(() => () => false)
    proxy.silence()
    for (const endpoint of ['introspect', 'revoke'] as const) {
      const began = performance.now()
      const answer = await ask(service.url, endpoint, client, { token })
      expect(performance.now() - began).toBeLessThan(1500)
      expect(answer.status).toBe(503)
      expect(answer.headers.get('retry-after')).toMatch(/^\d+$/)
      expect(await answer.json()).toMatchObject({ error: 'temporarily_unavailable' })
    }
    proxy.filter(undefined)
    proxy.cutAll()
    await expect
      .poll(() => isActive(service.url, client, token).catch(() => undefined), { timeout: 10_000 })
      .toBe(true)
    await service.stop()
    await proxy.close()
  })

  test('reads that wait are bounded', async () => {
    const client = await productionClient()
    const token = await tokenFrom(one.url, client)
    const jwks = (await (await fetch(`${one.url}/.well-known/jwks.json`)).json()) as JwkSet
    const waiting = Promise.withResolvers<undefined>()
    let reads = 0
    const inspect = createInspectToken({
      readToken: createReadToken({ jwks: () => jwks, issuerOf: () => ISSUER }),
      store: {
        find() {
          reads++
          return waiting.promise
        },
      },
      now: Date.now,
    })
    const asked = Array.from({ length: 400 }, () => inspect(token, 'production').catch((error) => error.code))
    const outcomes = await Promise.all(asked)
    // Those that were let in waited for as long as a read may take.
    expect(reads).toBe(300)
    expect(outcomes.filter((outcome) => outcome === 'unavailable')).toHaveLength(400)
    waiting.resolve(undefined)
    await waiting.promise
    expect(await inspect(token, 'production')).toBeUndefined()
  })
})

// Last: after it, the tokens of before are over.
test('A65 the signing key is revoked: its tokens are over on the other instance too, the new key’s are good', async () => {
  const client = await productionClient()
  const sandboxClient = await seedClient(database.sql, { organizationId: observer.organizationId })
  const token = await tokenFrom(one.url, client)
  const sandboxToken = await tokenFrom(one.url, sandboxClient)
  expect(await activeOn(other, token)).toBe(true)
  const { kid } = JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString())
  await done(operator.post(`/v2/signing-keys/${kid}/revoke`))
  expect(await activeOn(other, token)).toBe(false)
  expect(await activeOn(one, token)).toBe(false)
  expect(await isActive(other.url, sandboxClient, sandboxToken)).toBe(true)
  expect(await activeOn(one, await tokenFrom(one.url, client))).toBe(true)
})
