/** A client's JWKS over the management API: replaced, read, and what becomes of its keys. */
import { describe, expect, test } from 'vitest'
import { type Answer, apiOfOperator, createTenant, idempotencyKey } from '../support/management.ts'
import type { Problem } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'
import { makePair, type Pair } from './assertions.ts'
import type { KeyResource } from './calls.ts'

const { database, service } = await setUpService()
const { sql } = database
const operator = await apiOfOperator(service)
const tenant = await createTenant(service, sql)
const { api } = tenant

type Jwks = { keys: (Record<string, string> & { key_id: string; kid: string })[] }
const jwksOf = (clientId: string) => `/v2/clients/${clientId}/jwks`
const seed = (options: Parameters<typeof seedClient>[1] = {}) =>
  seedClient(sql, { organizationId: tenant.client.organizationId, ...options })
const replace = (clientId: string, pairs: readonly Pick<Pair, 'jwk'>[], headers?: Record<string, string>) =>
  api.post<Jwks>(jwksOf(clientId), { keys: pairs.map(({ jwk }) => jwk) }, headers)
const problemOf = ({ status, body }: Answer<unknown>) => {
  const { error, errors } = body as Problem
  return { status, code: error.code, ...(errors ? { pointers: errors.map(({ pointer }) => pointer) } : {}) }
}
const rowsOf = (clientId: string) => sql`
  select id, version, public_jwk, revoked_at is null as live, revocation_reason as reason, created_by
  from keys where client_id = ${clientId} and public_jwk is not null order by id`
const [one, two, three] = [makePair('ES256', 'one'), makePair('RS256', 'two'), makePair('Ed25519')]

describe('the set', () => {
  test('is what was put there, with the public members only, each a key of the client', async () => {
    const { clientId } = await seed()
    const body = {
      keys: [{ ...one.jwk, use: 'sig', key_ops: ['verify'], x5c: ['…'], note: 'ours' }, two.jwk, three.jwk],
      comment: 'ignored (RFC 7517 §5)',
    }
    const answer = await api.post<Jwks>(jwksOf(clientId), body)
    expect(answer.status).toBe(200)
    const key_id = expect.stringMatching(/^key_/)
    // RFC 7638: without a kid, it is the thumbprint.
    const third = { ...three.jwk, kid: expect.stringMatching(/^[\w-]{43}$/) }
    const expected = [one.jwk, two.jwk, third].map((jwk) => ({ ...jwk, use: 'sig', key_id }))
    expect(answer.body.keys).toHaveLength(3)
    expect(answer.body.keys).toEqual(expect.arrayContaining(expected))
    expect(answer.text).not.toContain('x5c')
    expect((await api.get<Jwks>(jwksOf(clientId))).body).toEqual(answer.body)

    for (const { key_id: keyId, ...jwk } of answer.body.keys) {
      const key = (await api.get<KeyResource>(`/v2/keys/${keyId}`)).body
      expect(key).toMatchObject({ client_id: clientId, status: 'active', prefix: null, public_jwk: jwk })
      expect(key).toMatchObject({ created_by: tenant.client.clientId, expires_at: null })
    }
    const listed = await api.get<{ data: KeyResource[] }>(`/v2/clients/${clientId}/keys`)
    expect(listed.body.data.filter((key) => key.public_jwk !== null)).toHaveLength(3)
  })

  test('of a client that has none is empty', async () => {
    const { clientId } = await seed()
    expect((await api.get<Jwks>(jwksOf(clientId))).body).toEqual({ keys: [] })
  })

  test('is replaced: what stays keeps its row, what is gone is superseded, what is new gets one', async () => {
    const { clientId } = await seed()
    const first = (await replace(clientId, [one, two])).body.keys
    const before = await rowsOf(clientId)
    const second = (await replace(clientId, [two, three])).body.keys
    const rows = await rowsOf(clientId)
    expect(second.map(({ kid }) => kid)).toEqual(['two', expect.any(String)])
    expect(second[0]).toEqual(first.find(({ kid }) => kid === 'two'))
    expect(rows).toHaveLength(3)
    for (const row of rows.filter(({ public_jwk }) => public_jwk.kid === 'two'))
      expect(row).toEqual(before.find(({ id }) => id === row.id))
    expect(rows.filter(({ live }) => !live)).toMatchObject([
      { public_jwk: { kid: 'one' }, reason: 'superseded' },
    ])
    expect((await replace(clientId, [])).body).toEqual({ keys: [] })
    expect((await rowsOf(clientId)).every(({ live }) => !live)).toBe(true)
  })

  test('a key that is called otherwise, or is for another algorithm, is another key', async () => {
    const { clientId } = await seed()
    await replace(clientId, [one, two])
    await replace(clientId, [{ jwk: { ...one.jwk, kid: 'renamed' } }, { jwk: { ...two.jwk, alg: 'PS256' } }])
    const rows = await rowsOf(clientId)
    expect(rows.filter(({ live }) => live).map(({ public_jwk: { kid, alg } }) => [kid, alg])).toEqual([
      ['renamed', 'ES256'],
      ['two', 'PS256'],
    ])
    expect(rows).toHaveLength(4)
  })

  test('leaves the client’s secrets, and other clients’ keys, as they are (A20)', async () => {
    const [client, other] = [await seed(), await seed()]
    await replace(client.clientId, [one])
    await replace(other.clientId, [one])
    const others = () => sql`select * from keys
      where client_id <> ${client.clientId} or public_jwk is null order by id`
    const before = await others()
    await replace(client.clientId, [two])
    expect(await others()).toEqual(before)
  })
})

describe('a key of the set', () => {
  test('that breaks a rule is pointed to, all of them at once, and nothing is changed', async () => {
    const { clientId } = await seed()
    await replace(clientId, [one])
    const { d } = one.privateKey.export({ format: 'jwk' })
    const refused = await api.post(jwksOf(clientId), {
      keys: [
        { ...one.jwk, d },
        two.jwk,
        { ...two.jwk, kid: 'other' },
        { ...three.jwk, kid: 'two' },
        { ...one.jwk, x: 'AA' },
      ],
    })
    expect(problemOf(refused)).toEqual({
      status: 400,
      code: 'invalid_request',
      pointers: ['/keys/0/d', '/keys/2', '/keys/3/kid', '/keys/4'],
    })
    expect(refused.text).toContain('must be public')
    expect(refused.text).not.toContain(String(d))
    expect(service.logs.join('\n')).not.toContain(String(d))
    expect((await api.get<Jwks>(jwksOf(clientId))).body.keys.map(({ kid }) => kid)).toEqual(['one'])
    expect(await rowsOf(clientId)).toHaveLength(1)
  })

  test.each([
    [{ keys: [{ ...one.jwk, kty: undefined }] }, '/keys/0/kty'],
    [{ keys: [{ ...one.jwk, x: 7 }] }, '/keys/0/x'],
    [{ keys: ['x'] }, '/keys/0'],
    [{ keys: [null] }, '/keys/0'],
    [{ keys: {} }, '/keys'],
    [{ keys: Array.from({ length: 6 }, (_, i) => ({ ...one.jwk, kid: String(i) })) }, '/keys'],
    [{}, '/keys'],
    [[], ''],
    [{ jwks_uri: 'https://127.0.0.1/jwks.json' }, '/keys'],
  ])('%#: a body that is no set of keys', async (body, pointer) => {
    const { clientId } = tenant.client
    expect(problemOf(await api.post(jwksOf(clientId), body))).toEqual({
      status: 400,
      code: 'invalid_request',
      pointers: [pointer],
    })
  })

  test('counts with the secrets: five of both, and of many requests at once no more', async () => {
    const { clientId } = await seed()
    const pairs = Array.from({ length: 5 }, (_, i) => makePair('ES256', String(i)))
    expect(problemOf(await replace(clientId, pairs))).toEqual({ status: 409, code: 'conflict' })
    expect(await rowsOf(clientId)).toHaveLength(0)
    expect((await replace(clientId, pairs.slice(1))).status).toBe(200)
    expect(problemOf(await api.post(`/v2/clients/${clientId}/keys`)).code).toBe('conflict')
    // What goes makes room for what comes.
    expect((await replace(clientId, [...pairs.slice(2), makePair()])).status).toBe(200)

    const other = await seed()
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        i % 2 ? api.post(`/v2/clients/${other.clientId}/keys`) : replace(other.clientId, [one, two, three]),
      ),
    )
    for (const { status } of answers) expect([200, 201, 409]).toContain(status)
    const [row] = await sql`select count(*)::int as live from keys
      where client_id = ${other.clientId} and revoked_at is null`
    // In whatever order they came, there was room for exactly that.
    expect(row?.live).toBe(5)
  })

  test('is revoked like any other, with its tokens or without', async () => {
    const { clientId } = await seed()
    const [key] = (await replace(clientId, [one, two])).body.keys
    const revoked = await api.post<KeyResource>(`/v2/keys/${key?.key_id}/revoke`, { reason: 'compromised' })
    expect(revoked.body).toMatchObject({
      status: 'revoked',
      revocation_reason: 'compromised',
      tokens_revoked_at: expect.any(String),
      public_jwk: { kid: key?.kid },
    })
    expect((await api.get<Jwks>(jwksOf(clientId))).body.keys).toHaveLength(1)
  })

  test('that was revoked as compromised does not come back, under whatever name; one that was superseded may', async () => {
    const [client, other] = [await seed(), await seed()]
    const { keys } = (await replace(client.clientId, [one])).body
    await replace(client.clientId, [])
    expect((await replace(client.clientId, [one])).status).toBe(200)
    await api.post(`/v2/keys/${keys[0]?.key_id}/revoke`, { reason: 'compromised' })
    await replace(client.clientId, [two])
    const before = await rowsOf(client.clientId)
    for (const jwk of [one.jwk, { ...one.jwk, kid: 'other' }])
      expect(problemOf(await replace(client.clientId, [three, { jwk }]))).toEqual({
        status: 409,
        code: 'conflict',
      })
    expect(await rowsOf(client.clientId)).toEqual(before)
    // What it is of another client's, that client knows.
    expect((await replace(other.clientId, [one])).status).toBe(200)
  })
})

describe('who may', () => {
  test('needs signet:keys:read to read and signet:keys:write to replace', async () => {
    const reader = await createTenant(service, sql, { scopes: ['signet:keys:read'] })
    expect((await reader.api.get(jwksOf(reader.client.clientId))).status).toBe(200)
    expect(problemOf(await reader.api.post(jwksOf(reader.client.clientId), { keys: [] })).code).toBe(
      'insufficient_scope',
    )
    const writer = await createTenant(service, sql, { scopes: ['signet:keys:write'] })
    expect(problemOf(await writer.api.get(jwksOf(writer.client.clientId))).code).toBe('insufficient_scope')
    expect((await writer.api.post(jwksOf(writer.client.clientId), { keys: [one.jwk] })).status).toBe(200)
  })

  test('add to a client with management scopes: one that holds them', async () => {
    const writer = await createTenant(service, sql, { scopes: ['signet:keys:write'] })
    const { organizationId } = writer.client
    const powerful = await seedClient(sql, {
      organizationId,
      environment: 'production',
      scopes: ['signet:clients:write'],
    })
    const path = jwksOf(powerful.clientId)
    expect(problemOf(await writer.api.post(path, { keys: [one.jwk] }))).toEqual({
      status: 403,
      code: 'insufficient_scope',
    })
    expect((await operator.post(path, { keys: [one.jwk, two.jwk] })).status).toBe(200)
    // To take one away opens nothing.
    expect((await writer.api.post(path, { keys: [two.jwk] })).status).toBe(200)
  })

  test('add to a client that is pending, suspended or revoked, or whose owner is suspended: nobody', async () => {
    const cases = [
      ['pending_approval', { status: 403, code: 'client_pending_approval' }],
      ['suspended', { status: 403, code: 'client_suspended' }],
      ['revoked', { status: 409, code: 'conflict' }],
    ] as const
    for (const [status, expected] of cases) {
      const { clientId } = await seed()
      await replace(clientId, [one, two])
      await sql`update clients set status = ${status} where id = ${clientId}`
      expect(problemOf(await replace(clientId, [one, three]))).toEqual(expected)
      expect((await replace(clientId, [one])).body.keys).toHaveLength(1)
    }
    const orphan = await seedClient(sql)
    await sql`update organizations set status = 'suspended' where id = ${orphan.organizationId}`
    expect(problemOf(await operator.post(jwksOf(orphan.clientId), { keys: [one.jwk] }))).toEqual({
      status: 403,
      code: 'client_suspended',
    })
  })

  test('the platform does not lock itself out', async () => {
    const clientId = service.operator?.client_id ?? ''
    const own = makePair()
    expect((await operator.post(jwksOf(clientId), { keys: [own.jwk] })).status).toBe(200)
    // Now the secret is not the last way in.
    expect((await operator.post(`/v2/keys/${service.operator?.key_id}/revoke`)).status).toBe(200)
    expect(problemOf(await operator.post(jwksOf(clientId), { keys: [] }))).toEqual({
      status: 409,
      code: 'conflict',
    })
    expect((await operator.post(jwksOf(clientId), { keys: [makePair().jwk] })).status).toBe(200)
  })
})

test('a repetition with its Idempotency-Key has no second effect, and the same set again none at all', async () => {
  const { clientId } = await seed()
  const header = idempotencyKey()
  const first = await replace(clientId, [one], header)
  await replace(clientId, [two])
  const again = await replace(clientId, [one], header)
  expect([again.status, again.text]).toEqual([200, first.text])
  expect(again.headers.get('idempotency-replayed')).toBe('true')
  expect((await api.get<Jwks>(jwksOf(clientId))).body.keys).toMatchObject([{ kid: 'two' }])

  const before = await rowsOf(clientId)
  await replace(clientId, [two])
  expect(await rowsOf(clientId)).toEqual(before)
})

test('the audit trail tells what came and what went', async () => {
  const { clientId, organizationId } = await seed()
  const first = (await replace(clientId, [one])).body.keys
  const second = (await replace(clientId, [two])).body.keys
  await replace(clientId, [two])
  await replace(clientId, [])
  const events = await sql`select organization_id, actor_client_id, actor_key_id, details from audit_events
    where action = 'client.jwks' and target_id = ${clientId} order by sequence`
  const named = (keys: Jwks['keys']) => keys.map(({ key_id, kid }) => ({ key_id, kid }))
  const who = {
    organization_id: organizationId,
    actor_client_id: tenant.client.clientId,
    actor_key_id: tenant.client.keyId,
  }
  expect(events).toMatchObject([
    { ...who, details: { before: {}, after: { added: named(first) } } },
    { ...who, details: { before: { removed: named(first) }, after: { added: named(second) } } },
    { ...who, details: { before: { removed: named(second) }, after: {} } },
  ])
  expect(events).toHaveLength(3)
})
