/** RFC 7009: token revocation. */
import * as oauth from 'oauth4webapi'
import { describe, expect, test } from 'vitest'
import { createForger } from '../management/forged-token.ts'
import { apiOfOperator } from '../support/management.ts'
import { type SeededClient, seedClient, seedDelegation, seedKey } from '../support/seed.ts'
import { ISSUER, setUpService } from '../support/service.ts'
import { ask, basic, claimsOf, flip, isActive, revoke, revokedAmong, tokenFrom } from '../tokens/calls.ts'

const { database, service } = await setUpService()
const { sql } = database
const { url } = service
const client = await seedClient(sql, { environment: 'production' })
const minted = (of: SeededClient = client) => tokenFrom(url, of)
const eventsOf = (jti: string) =>
  sql<{ action: string }[]>`select * from audit_events where target_id = ${jti} order by sequence`

describe('§2.1 the request', () => {
  test.each(['GET', 'HEAD', 'PUT', 'DELETE'])('%s is not for it: 405, with Allow', async (method) => {
    const answer = await fetch(`${url}/oauth2/revoke`, { method })
    expect(answer.status).toBe(405)
    expect(answer.headers.get('allow')).toBe('POST')
  })

  test('the token is missing, or empty, or in the query: invalid_request', async () => {
    for (const body of ['', 'token=']) {
      const answer = await ask(url, 'revoke', client, body)
      expect(answer.status).toBe(400)
      expect(answer.headers.get('cache-control')).toBe('no-store')
      expect(await answer.json()).toMatchObject({ error: 'invalid_request' })
    }
    const token = await minted()
    const answer = await fetch(`${url}/oauth2/revoke?token=${token}`, {
      method: 'POST',
      headers: { Authorization: basic(client), 'Content-Type': 'application/x-www-form-urlencoded' },
      body: '',
    })
    expect(answer.status).toBe(400)
    expect(await isActive(url, client, token)).toBe(true)
  })

  test('JSON, a parameter that stands twice: invalid_request', async () => {
    const token = await minted()
    const json = { 'Content-Type': 'application/json' }
    expect((await ask(url, 'revoke', client, JSON.stringify({ token }), json)).status).toBe(400)
    expect((await ask(url, 'revoke', client, `token=${token}&token=${token}`)).status).toBe(400)
    expect(await isActive(url, client, token)).toBe(true)
  })

  test('the client is authenticated first, whatever the token', async () => {
    const token = await minted()
    const wrong = { ...client, key: flip(client.key) }
    for (const body of [{ token }, { token: 'x' }, {}] as Record<string, string>[]) {
      const answer = await ask(url, 'revoke', wrong, body)
      expect(answer.status).toBe(401)
      expect(answer.headers.get('www-authenticate')).toMatch(/^Basic /)
      expect(await answer.json()).toMatchObject({ error: 'invalid_client' })
    }
    const nobody = await fetch(`${url}/oauth2/revoke`, {
      method: 'POST',
      body: new URLSearchParams({ token }),
    })
    expect(nobody.status).toBe(401)
    const bearer = await ask(url, 'revoke', client, { token }, { Authorization: `Bearer ${token}` })
    expect(bearer.status).toBe(401)
    expect(await isActive(url, client, token)).toBe(true)
  })

  test.each(['access_token', 'refresh_token', 'urn:unknown', ''])(
    '§2.1 token_type_hint %j does not keep it from being found',
    async (hint) => {
      const token = await minted()
      expect((await ask(url, 'revoke', client, { token, token_type_hint: hint })).status).toBe(200)
      expect(await isActive(url, client, token)).toBe(false)
    },
  )
})

describe('§2.2 the answer is 200', () => {
  test('revoked now: empty, not to be kept, and so it is in the next request', async () => {
    const token = await minted()
    expect(await isActive(url, client, token)).toBe(true)
    const answer = await ask(url, 'revoke', client, { token })
    expect(answer.status).toBe(200)
    expect(answer.headers.get('cache-control')).toBe('no-store')
    expect(await answer.text()).toBe('')
    expect(await isActive(url, client, token)).toBe(false)
    const { jti } = claimsOf(token)
    expect((await (await apiOfOperator(service)).get(`/v2/tokens/${jti}`)).body).toMatchObject({
      status: 'revoked',
      revocation_reason: 'unspecified',
    })
    expect(await eventsOf(jti)).toMatchObject([
      {
        action: 'token.revoke',
        organization_id: client.organizationId,
        actor_client_id: client.clientId,
        actor_key_id: client.keyId,
        actor_organization_id: client.organizationId,
        client_ip: '127.0.0.1',
        request_id: answer.headers.get('x-request-id'),
        details: {
          before: { status: 'active', revoked_at: null, revocation_reason: null },
          after: { status: 'revoked', revocation_reason: 'unspecified' },
        },
      },
    ])
  })

  test('by another key of the same client, and by client_secret_post', async () => {
    const { keyId, key } = await seedKey(sql, client.clientId, 'production')
    const [first, second] = [await minted(), await minted()]
    expect(await revoke(url, { ...client, key }, first)).toBe(200)
    expect(await eventsOf(claimsOf(first).jti)).toMatchObject([{ actor_key_id: keyId }])
    const answer = await fetch(`${url}/oauth2/revoke`, {
      method: 'POST',
      body: new URLSearchParams({ token: second, client_id: client.clientId, client_secret: client.key }),
    })
    expect(answer.status).toBe(200)
    expect(await isActive(url, client, second)).toBe(false)
  })

  test('revoked already: nothing changes, and there is no second event', async () => {
    const token = await minted()
    const { jti } = claimsOf(token)
    for (let i = 0; i < 3; i++) expect(await revoke(url, client, token)).toBe(200)
    await Promise.all(Array.from({ length: 10 }, () => revoke(url, client, token)))
    expect(await eventsOf(jti)).toHaveLength(1)
    expect(await revokedAmong(sql, [jti])).toEqual([jti])
  })

  test('many at once of one token: one revokes it', async () => {
    const token = await minted()
    const statuses = await Promise.all(Array.from({ length: 20 }, () => revoke(url, client, token)))
    expect(new Set(statuses)).toEqual(new Set([200]))
    expect(await eventsOf(claimsOf(token).jti)).toHaveLength(1)
  })

  test('garbage, forged, expired, never issued, of the other issuer: nothing is written', async () => {
    const forger = await createForger(database)
    const sandbox = await seedClient(sql, { organizationId: client.organizationId })
    const expired = await minted()
    await sql`update issued_tokens set expires_at = now() where jti = ${claimsOf(expired).jti}`
    const [before] = await sql`select count(*) from revoked_tokens`
    for (const token of [
      'x',
      client.key,
      '.'.repeat(10_000),
      flip(await minted()),
      await forger.sign(client),
      expired,
      await tokenFrom(url, sandbox),
    ])
      expect(await revoke(url, client, token)).toBe(200)
    expect(await sql`select count(*) from revoked_tokens`).toEqual([before])
    expect(await eventsOf(claimsOf(expired).jti)).toEqual([])
  })

  test('§2.1 another client’s, a colleague’s included: 200, it lives on, and the trail knows', async () => {
    const colleague = await seedClient(sql, {
      organizationId: client.organizationId,
      environment: 'production',
    })
    const stranger = await seedClient(sql, { environment: 'production' })
    const own = await ask(url, 'revoke', client, { token: await minted() })
    for (const other of [colleague, stranger]) {
      const token = await minted(other)
      const answer = await ask(url, 'revoke', client, { token })
      const fieldsOf = ({ headers }: Response) =>
        [...headers].filter(([name]) => name !== 'x-request-id' && name !== 'date')
      expect([answer.status, await answer.text(), fieldsOf(answer)]).toEqual([200, '', fieldsOf(own)])
      expect(await isActive(url, other, token)).toBe(true)
      await expect
        .poll(() => eventsOf(claimsOf(token).jti), { timeout: 10_000 })
        .toMatchObject([
          {
            action: 'request.refused',
            actor_client_id: client.clientId,
            actor_key_id: client.keyId,
            details: { operation: 'revokeOwnToken', code: 'not_own_token' },
          },
        ])
    }
  })

  test('whom a partner’s token is for cannot revoke it here; the partner can', async () => {
    const partner = await seedClient(sql, { kind: 'partner' })
    const target = await seedClient(sql)
    await seedDelegation(sql, {
      organizationId: target.organizationId,
      partnerId: partner.organizationId,
    })
    const token = await tokenFrom(url, partner, target.organizationId)
    expect(await revoke(url, target, token)).toBe(200)
    expect(await isActive(url, target, token)).toBe(true)
    expect(await revoke(url, partner, token)).toBe(200)
    expect(await isActive(url, target, token)).toBe(false)
    expect(
      (await eventsOf(claimsOf(token).jti)).filter(({ action }) => action === 'token.revoke'),
    ).toMatchObject([{ organization_id: partner.organizationId, actor_client_id: partner.clientId }])
  })
})

test('an independent client is content', async () => {
  const token = await minted()
  const as: oauth.AuthorizationServer = { issuer: ISSUER, revocation_endpoint: `${ISSUER}/oauth2/revoke` }
  const send = async (auth: oauth.ClientAuth) =>
    oauth.processRevocationResponse(
      await oauth.revocationRequest(as, { client_id: client.clientId }, auth, token, {
        [oauth.customFetch]: (address: string, init: object) =>
          fetch(address.replace(ISSUER, url), init as RequestInit),
      }),
    )
  await send(oauth.ClientSecretPost(client.key))
  expect(await isActive(url, client, token)).toBe(false)
  await send(oauth.ClientSecretBasic(client.key))
  await expect(send(oauth.ClientSecretBasic('wrong'))).rejects.toThrow()
})

test('A55 neither tokens nor secrets are logged', async () => {
  const token = await minted()
  await revoke(url, client, token)
  await revoke(url, await seedClient(sql, { environment: 'production' }), token)
  for (const secret of [token, token.split('.')[2] ?? '', client.key, basic(client)])
    expect(service.logs.join('\n')).not.toContain(secret)
})
