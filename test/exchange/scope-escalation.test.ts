import { decodeJwt } from 'jose'
import { describe, expect, test } from 'vitest'
import { mint, problemOf, rawRequest, tokenBody, tokenOf } from '../support/mint.ts'
import { seedClient, seedDelegation, seedOrganization } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'

const { database, service } = await setUpService()

const countTokens = async (clientId: string) => {
  const rows = await database.sql`select from issued_tokens where client_id = ${clientId}`
  return rows.length
}

describe('A14 scopes', () => {
  test('A14 one that is not granted refuses all of them, and names which', async () => {
    const client = await seedClient(database.sql, { scopes: ['read', 'write'] })
    const body = tokenBody({ ...client, scopes: ['read', 'write', 'admin'] })
    const answer = await mint(service.url, client, { body })
    expect(answer.status).toBe(403)
    const problem = await problemOf(answer)
    expect(problem.error.code).toBe('insufficient_scope')
    expect(problem.errors?.map((error) => error.pointer)).toEqual(['/scopes/scopes/2'])
    expect(await countTokens(client.clientId)).toBe(0)
  })

  test('A14 wildcards, cases and Unicode twins are names like others', async () => {
    const client = await seedClient(database.sql, { scopes: ['read:orders', 'read:*'] })
    const outcomes = async (scope: string) => {
      const body = tokenBody({ ...client, scopes: [scope] })
      const answer = await mint(service.url, client, { body })
      return answer.status === 200 ? 200 : (await problemOf(answer)).error.code
    }
    for (const scope of [
      '*',
      'read:other',
      'read:',
      'READ:ORDERS',
      'Read:orders',
      'read:orders:*',
      'read:order',
    ])
      expect(await outcomes(scope), scope).toBe('insufficient_scope')
    // RFC 6749 §3.3: what is no scope-token is nobody's scope.
    for (const scope of [
      '',
      ' ',
      'read:orders ',
      'read:orders write',
      'rеad:orders',
      'read\u0000',
      'read\n',
      '"',
      'a\\b',
    ])
      expect(await outcomes(scope), JSON.stringify(scope)).toBe('invalid_scope')
    expect(await outcomes('read:*')).toBe(200)
  })

  test('a scope that is asked for twice is granted once', async () => {
    const client = await seedClient(database.sql, { scopes: ['a', 'b'] })
    const body = tokenBody({ ...client, scopes: ['b', 'a', 'b'] })
    const { token, scopes } = await tokenOf(await mint(service.url, client, { body }))
    expect(scopes.scopes).toEqual(['b', 'a'])
    expect(decodeJwt(token).scope).toBe('b a')
  })

  test('A14 management scopes never share a token with others', async () => {
    const scopes = ['signet:keys:read', 'orders:read']
    const client = await seedClient(database.sql, { scopes, environment: 'production' })
    for (const order of [scopes, [...scopes].reverse()]) {
      const answer = await mint(service.url, client, { body: tokenBody({ ...client, scopes: order }) })
      expect(answer.status).toBe(400)
      expect(await problemOf(answer)).toMatchObject({
        error: { code: 'invalid_scope' },
        errors: [{ pointer: '/scopes/scopes/1' }],
      })
    }
  })
})

describe('A15 a token for a token', () => {
  test('A15 a minted token is no credential', async () => {
    const client = await seedClient(database.sql)
    const { token } = await tokenOf(await mint(service.url, client))
    const headers = { 'Content-Type': 'application/json' }
    const body = JSON.stringify(tokenBody(client))
    for (const way of [
      { Authorization: `Bearer ${token}` },
      { Authorization: token },
      { 'X-Api-Key': token },
    ]) {
      const answer = await rawRequest(service.url, { headers: Object.entries({ ...headers, ...way }), body })
      expect(answer.status).toBe(401)
      expect(answer.headers['www-authenticate']).toContain('error="invalid_token"')
      expect((await problemOf(answer)).error.code).toBe('access_token_not_allowed')
    }
    const [header, payload] = token.split('.')
    for (const text of [`${header}.${payload}.`, 'a.b.c', `${token}.x.y`]) {
      const answer = await mint(service.url, { ...client, key: text })
      expect(answer.status).toBe(401)
    }
    expect(await countTokens(client.clientId)).toBe(1)
  })
})

describe('A16 rights that change while they are used', () => {
  test('A16 the scopes of before or of after, never both', async () => {
    const client = await seedClient(database.sql, { scopes: ['a', 'b'] })
    const outcomes = await whileFlipping(
      async (even) => {
        await database.sql`update clients set scopes = ${even ? ['a', 'b'] : ['a', 'c']} where id = ${client.clientId}`
      },
      [['b', 'c'], ['b'], ['c'], ['a']],
      (scopes) => mint(service.url, client, { body: tokenBody({ ...client, scopes }) }),
    )
    expect(outcomes.get('b c')).not.toContain(200)
    // Both sets were in force at some time, or the above would prove nothing.
    expect(outcomes.get('b')).toContain(200)
    expect(outcomes.get('c')).toContain(200)
    expect(outcomes.get('a')).toContain(200)
  })

  test('A16 nor what client and delegation held at different times', async () => {
    const partnerId = await seedOrganization(database.sql, 'Partner')
    const organizationId = await seedOrganization(database.sql)
    const delegationId = await seedDelegation(database.sql, { organizationId, partnerId, scopes: ['b', 'x'] })
    const scopes = ['a', 'x']
    const client = await seedClient(database.sql, { organizationId: partnerId, kind: 'partner', scopes })
    const outcomes = await whileFlipping(
      (even) =>
        database.sql.begin(async (sql) => {
          await sql`update clients set scopes = ${even ? ['a', 'x'] : ['b', 'x']} where id = ${client.clientId}`
          await sql`update delegations set scopes = ${even ? ['b', 'x'] : ['a', 'x']} where id = ${delegationId}`
        }),
      [['a'], ['b'], ['x']],
      (asked) => mint(service.url, client, { body: tokenBody({ organizationId, scopes: asked }) }),
    )
    expect(outcomes.get('a')).not.toContain(200)
    expect(outcomes.get('b')).not.toContain(200)
    expect(outcomes.get('x')).toContain(200)
  })
})

/** Changes the rights 60 times while each of the sets of scopes is asked for over and over; answers by set. */
async function whileFlipping(
  flip: (even: boolean) => Promise<unknown>,
  sets: string[][],
  ask: (scopes: string[]) => Promise<Response>,
): Promise<Map<string, number[]>> {
  const outcomes = new Map(sets.map((set) => [set.join(' '), [] as number[]]))
  let flipping = true
  const askers = sets.map(async (set) => {
    while (flipping) {
      const answer = await ask(set)
      await answer.arrayBuffer()
      outcomes.get(set.join(' '))?.push(answer.status)
    }
  })
  for (let i = 1; i <= 60; i++) {
    await flip(i % 2 === 0)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  flipping = false
  await Promise.all(askers)
  return outcomes
}
