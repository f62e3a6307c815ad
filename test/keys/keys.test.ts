/** Keys over the management API: made, listed, read and revoked. */
import { describe, expect, test } from 'vitest'
import { type Answer, apiOfOperator, apiWith, createTenant, idempotencyKey } from '../support/management.ts'
import { mint, type Problem, tokenOf } from '../support/mint.ts'
import { seedClient, seedKey } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'
import { bodyOf, type CreatedKey, type KeyResource, renew, validate } from './calls.ts'

const { database, service } = await setUpService()
const operator = await apiOfOperator(service)
const tenant = await createTenant(service, database.sql)
const { api } = tenant

type Page = { data: KeyResource[]; next_cursor: string | null }
const keysOf = (clientId: string) => `/v2/clients/${clientId}/keys`
/** A client of the tenant's, with no key but what the test makes. */
async function seedKeyless(options: Parameters<typeof seedClient>[1] = {}) {
  const client = await seedClient(database.sql, { organizationId: tenant.client.organizationId, ...options })
  await database.sql`delete from keys where id = ${client.keyId}`
  return client
}
const problemOf = ({ status, body }: Answer<unknown>) => {
  const { error, errors } = body as Problem
  return { status, code: error.code, ...(errors ? { pointers: errors.map(({ pointer }) => pointer) } : {}) }
}

describe('a new key', () => {
  test('is shown once, works at once, and is found where Location says, without itself', async () => {
    const client = await seedKeyless()
    const made = await api.post<CreatedKey>(keysOf(client.clientId))
    expect(made.status).toBe(201)
    const { key, notice, ...resource } = made.body
    expect(key).toMatch(/^sgt_test_[0-9A-Za-z]{50}$/)
    expect(notice).toBeNull()
    expect(resource).toEqual({
      id: expect.stringMatching(/^key_/),
      client_id: client.clientId,
      client_name: 'Integration',
      organization_id: client.organizationId,
      environment: 'sandbox',
      prefix: key.slice(0, 15),
      public_jwk: null,
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      last_used_at: null,
      last_used_ip: null,
      expires_at: null,
      status: 'active',
      revoked_at: null,
      revocation_reason: null,
      tokens_revoked_at: null,
      created_by: expect.stringMatching(/^cli_/),
      replaces: null,
      replaced_by: null,
    })
    expect(made.headers.get('location')).toBe(`/v2/keys/${resource.id}`)
    expect(made.headers.get('cache-control')).toBe('no-store')
    expect((await mint(service.url, { ...client, key })).status).toBe(200)
    const found = await api.get<KeyResource>(`/v2/keys/${resource.id}`)
    expect(found.body).toEqual({ ...resource, last_used_at: found.body.last_used_at })
    expect(found.text).not.toContain(key)
  })

  test('of a production client is a live one', async () => {
    const client = await seedKeyless({ environment: 'production' })
    const made = await api.post<CreatedKey>(keysOf(client.clientId), {})
    expect(made.body.key).toMatch(/^sgt_live_/)
  })

  test('expires when it was said to, which is a moment in the future', async () => {
    const client = await seedKeyless()
    const made = await api.post<CreatedKey>(keysOf(client.clientId), {
      expires_at: '2999-01-01T01:30:00.5+01:00',
    })
    expect(made.body.expires_at).toBe('2999-01-01T00:30:00.500Z')
    const refused = [
      new Date(Date.now() - 1000).toISOString(),
      '1999-01-01T00:00:00Z',
      '9999-12-31T23:59:59-14:00',
      '2999-01-01',
      '2999-01-01T00:00:00',
      'tomorrow',
      1_999_999_999,
      null,
    ]
    for (const expires_at of refused)
      expect(problemOf(await api.post(keysOf(client.clientId), { expires_at }))).toEqual({
        status: 400,
        code: 'invalid_request',
        pointers: ['/expires_at'],
      })
    expect(problemOf(await api.post(keysOf(client.clientId), { name: 'x' })).pointers).toEqual(['/name'])
  })

  test('tells when and from where it was last used', async () => {
    const client = await seedClient(database.sql, { organizationId: tenant.client.organizationId })
    await database.sql`insert into key_usage (key_id, last_used_at, last_used_ip)
      values (${client.keyId}, '2026-11-01T10:00:00Z', '2001:db8::7')`
    const expected = { last_used_at: '2026-11-01T10:00:00.000Z', last_used_ip: '2001:db8::7' }
    expect((await api.get(`/v2/keys/${client.keyId}`)).body).toMatchObject(expected)
    expect((await api.get<Page>(keysOf(client.clientId))).body.data).toMatchObject([expected])
  })

  test('is not made for a client that is pending, suspended or revoked, or whose owner is suspended', async () => {
    const cases = [
      ['pending_approval', { status: 403, code: 'client_pending_approval' }],
      ['suspended', { status: 403, code: 'client_suspended' }],
      ['revoked', { status: 409, code: 'conflict' }],
    ] as const
    for (const [status, expected] of cases) {
      const client = await seedKeyless({ status })
      expect(problemOf(await api.post(keysOf(client.clientId)))).toEqual(expected)
      expect(await database.sql`select from keys where client_id = ${client.clientId}`).toHaveLength(0)
    }
    const orphan = await seedClient(database.sql)
    await database.sql`update organizations set status = 'suspended' where id = ${orphan.organizationId}`
    expect(problemOf(await operator.post(keysOf(orphan.clientId)))).toEqual({
      status: 403,
      code: 'client_suspended',
    })
  })

  test('A52 a replay has no secret, and says so; neither has anything that is stored', async () => {
    const client = await seedKeyless()
    const header = idempotencyKey()
    const first = await api.post<CreatedKey>(keysOf(client.clientId), {}, header)
    const again = await api.post<CreatedKey>(keysOf(client.clientId), {}, header)
    expect(again.status).toBe(201)
    expect(again.headers.get('idempotency-replayed')).toBe('true')
    expect(again.headers.get('location')).toBe(first.headers.get('location'))
    expect(again.body).toEqual({ ...first.body, key: null, notice: expect.stringContaining('shown once') })
    await api.post(`/v2/keys/${first.body.id}/revoke`, {}, idempotencyKey())

    const renewable = await seedClient(database.sql)
    const renewed = bodyOf<CreatedKey>(
      await renew(service.url, renewable.key, {}, [['Idempotency-Key', 'once']]),
      201,
    )
    const tables = ['idempotency_keys', 'audit_events', 'keys']
    for (const table of tables) {
      const rows = await database.sql<{ text: string }[]>`
        select to_jsonb(t)::text as text from ${database.sql(table)} t`
      expect(rows.length).toBeGreaterThan(2)
      const text = rows.map((row) => row.text).join('\n')
      for (const { key } of [first.body, renewed, renewable]) {
        // Nor any part of it, the lookup id (12 characters after the mode) excepted, which names it.
        expect(text).not.toContain(key.slice(21, 40))
        expect(text).not.toContain(Buffer.from(key).toString('base64').slice(28, 50))
        expect(text).not.toContain(Buffer.from(key.slice(21, 40)).toString('hex'))
      }
    }
    const logs = service.logs.join('\n')
    for (const { key } of [first.body, renewed, renewable]) expect(logs).not.toContain(key.slice(21))
  })

  test('A52 nor is the answer kept that had it, for a request that comes while the first still runs', async () => {
    const client = await seedKeyless()
    const header = idempotencyKey()
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => api.post<CreatedKey>(keysOf(client.clientId), {}, header)),
    )
    const shown = answers.filter(({ status, body }) => status === 201 && body.key !== null)
    expect(shown).toHaveLength(1)
    for (const { status } of answers) expect([201, 409]).toContain(status)
    expect(await database.sql`select from keys where client_id = ${client.clientId}`).toHaveLength(1)
  })
})

describe('at most five live keys', () => {
  test('of ten creations at once five succeed', async () => {
    const client = await seedKeyless()
    const answers = await Promise.all(Array.from({ length: 10 }, () => api.post(keysOf(client.clientId))))
    expect(answers.map(({ status }) => status).sort()).toEqual([...Array(5).fill(201), ...Array(5).fill(409)])
    expect(await database.sql`select from keys where client_id = ${client.clientId}`).toHaveLength(5)
  })

  test('those that are expired or revoked make room', async () => {
    const client = await seedKeyless()
    const { keyId } = await seedKey(database.sql, client.clientId, 'sandbox', new Date(Date.now() - 1000))
    for (let i = 0; i < 5; i++) expect((await api.post(keysOf(client.clientId))).status).toBe(201)
    expect(problemOf(await api.post(keysOf(client.clientId)))).toEqual({ status: 409, code: 'conflict' })
    const { data } = (await api.get<Page>(`${keysOf(client.clientId)}?status=active`)).body
    expect(data.map(({ id }) => id)).not.toContain(keyId)
    expect((await api.post(`/v2/keys/${data[0]?.id}/revoke`)).status).toBe(200)
    expect((await api.post(keysOf(client.clientId))).status).toBe(201)
    expect((await api.post(keysOf(client.clientId))).status).toBe(409)
  })

  test('are counted for each client alone', async () => {
    const [one, other] = [await seedKeyless(), await seedKeyless()]
    for (let i = 0; i < 5; i++) await api.post(keysOf(one.clientId))
    expect((await api.post(keysOf(other.clientId))).status).toBe(201)
  })
})

describe('the list', () => {
  test('holds the newest first, by status, page by page', async () => {
    const client = await seedKeyless()
    const ids: string[] = []
    for (let i = 0; i < 9; i++) {
      const expiresAt = i % 3 === 1 ? new Date(Date.now() - 1000) : null
      const { keyId } = await seedKey(database.sql, client.clientId, 'sandbox', expiresAt)
      // Revoked, and half of those expired too: revoked is what they are.
      if (i % 3 === 2)
        await database.sql`update keys set revoked_at = now(),
          expires_at = ${i % 2 ? null : new Date(Date.now() - 1000)} where id = ${keyId}`
      ids.unshift(keyId)
    }
    const expected = {
      '': ids,
      active: ids.filter((_, i) => i % 3 === 2),
      expired: ids.filter((_, i) => i % 3 === 1),
      revoked: ids.filter((_, i) => i % 3 === 0),
    }
    for (const [status, wanted] of Object.entries(expected)) {
      const filter = status && `&status=${status}`
      const seen: KeyResource[] = []
      let cursor: string | null = null
      do {
        const page: Page = (
          await api.get<Page>(
            `${keysOf(client.clientId)}?limit=2${filter}${cursor ? `&cursor=${cursor}` : ''}`,
          )
        ).body
        seen.push(...page.data)
        cursor = page.next_cursor
      } while (cursor)
      expect(seen.map(({ id }) => id)).toEqual(wanted)
      if (status) expect(new Set(seen.map((key) => key.status))).toEqual(new Set([status]))
    }
    expect(problemOf(await api.get(`${keysOf(client.clientId)}?status=live`))).toMatchObject({
      status: 400,
      pointers: ['/status'],
    })
  })

  test('needs signet:keys:read, and making or revoking keys signet:keys:write', async () => {
    const reader = await createTenant(service, database.sql, { scopes: ['signet:keys:read'] })
    const path = keysOf(reader.client.clientId)
    expect((await reader.api.get(path)).status).toBe(200)
    expect(problemOf(await reader.api.post(path)).code).toBe('insufficient_scope')
    const revoked = await reader.api.post(`/v2/keys/${reader.client.keyId}/revoke`)
    expect(problemOf(revoked).code).toBe('insufficient_scope')
    const writer = await createTenant(service, database.sql, { scopes: ['signet:keys:write'] })
    expect(problemOf(await writer.api.get(keysOf(writer.client.clientId))).code).toBe('insufficient_scope')
    expect((await writer.api.post(keysOf(writer.client.clientId))).status).toBe(201)
  })
})

describe('a revocation', () => {
  test('counts from its answer on, for exchange, validation and renewal', async () => {
    const client = await seedClient(database.sql, { organizationId: tenant.client.organizationId })
    expect((await mint(service.url, client)).status).toBe(200)
    const revoked = await api.post<KeyResource>(`/v2/keys/${client.keyId}/revoke`)
    expect(revoked.status).toBe(200)
    expect(revoked.body).toMatchObject({
      id: client.keyId,
      status: 'revoked',
      revoked_at: expect.stringMatching(/Z$/),
      revocation_reason: 'unspecified',
      tokens_revoked_at: null,
    })
    expect((await mint(service.url, client)).status).toBe(401)
    expect((await validate(service.url, client.key)).status).toBe(401)
    expect((await renew(service.url, client.key)).status).toBe(401)
  })

  test('may be repeated, which changes nothing, and may go further', async () => {
    const client = await seedClient(database.sql, { organizationId: tenant.client.organizationId })
    const path = `/v2/keys/${client.keyId}/revoke`
    const versionOf = async () =>
      (await database.sql`select version from keys where id = ${client.keyId}`)[0]?.version
    const first = await api.post<KeyResource>(path, { reason: 'superseded' })
    const version = await versionOf()
    for (const body of [undefined, {}, { reason: 'privilege_withdrawn' }, { revoke_tokens: false }])
      expect((await api.post(path, body)).body).toEqual(first.body)
    expect(await versionOf()).toBe(version)

    const compromised = await api.post<KeyResource>(path, { reason: 'compromised' })
    expect(compromised.body).toEqual({
      ...first.body,
      revocation_reason: 'compromised',
      tokens_revoked_at: expect.stringMatching(/Z$/),
    })
    expect((await api.post(path, { reason: 'superseded' })).body).toEqual(compromised.body)
  })

  test('takes reasons like those of RFC 5280, and no others', async () => {
    for (const reason of ['cessation_of_operation', 'affiliation_changed', 'privilege_withdrawn']) {
      const client = await seedClient(database.sql, { organizationId: tenant.client.organizationId })
      const revoked = await api.post(`/v2/keys/${client.keyId}/revoke`, { reason })
      expect(revoked.body).toMatchObject({ revocation_reason: reason, tokens_revoked_at: null })
    }
    const client = await seedClient(database.sql, { organizationId: tenant.client.organizationId })
    for (const [body, pointer] of [
      [{ reason: 'keyCompromise' }, '/reason'],
      [{ revoke_tokens: 'yes' }, '/revoke_tokens'],
      [{ reason: 'compromised', revoke_tokens: false }, '/revoke_tokens'],
    ] as const)
      expect(problemOf(await api.post(`/v2/keys/${client.keyId}/revoke`, body)).pointers).toEqual([pointer])
    expect((await api.get(`/v2/keys/${client.keyId}`)).body).toMatchObject({ status: 'active' })
  })

  test('leaves the tokens that the key minted, unless they are to go too, or it is compromised', async () => {
    for (const [body, status] of [
      [{ reason: 'superseded' }, 200],
      [{ reason: 'superseded', revoke_tokens: true }, 401],
      [{ reason: 'compromised' }, 401],
      [{ reason: 'compromised', revoke_tokens: true }, 401],
    ] as const) {
      const other = await createTenant(service, database.sql)
      expect((await operator.post(`/v2/keys/${other.client.keyId}/revoke`, body)).status).toBe(200)
      expect((await other.api.get(`/v2/keys/${other.client.keyId}`)).status).toBe(status)
    }
  })

  test('of what has expired is possible too: its tokens may still live', async () => {
    const client = await seedClient(database.sql, {
      organizationId: tenant.client.organizationId,
      keyExpiresAt: new Date(Date.now() - 1000),
    })
    expect((await api.get(`/v2/keys/${client.keyId}`)).body).toMatchObject({ status: 'expired' })
    const revoked = await api.post(`/v2/keys/${client.keyId}/revoke`, { reason: 'compromised' })
    expect(revoked.body).toMatchObject({ status: 'revoked', tokens_revoked_at: expect.any(String) })
  })

  test('does not lock the platform out: not of the last live key of the client that asks', async () => {
    const path = `/v2/keys/${service.operator?.key_id}/revoke`
    for (const body of [{}, { reason: 'compromised' }])
      expect(problemOf(await operator.post(path, body))).toEqual({ status: 409, code: 'conflict' })
    const own = keysOf(service.operator?.client_id ?? '')
    const second = (await operator.post<CreatedKey>(own)).body
    // Two at once: one of them is the last.
    const both = await Promise.all(
      [service.operator?.key_id, second.id].map((id) => operator.post(`/v2/keys/${id}/revoke`)),
    )
    expect(both.map(({ status }) => status).sort()).toEqual([200, 409])
    const [left] = (await operator.get<Page>(`${own}?status=active`)).body.data
    expect((await operator.post(`/v2/keys/${left?.id}/revoke`)).status).toBe(409)
    // What is revoked already may be revoked again; and a tenant may do with its own what it likes.
    expect(
      (
        await operator.post(
          `/v2/keys/${second.id === left?.id ? service.operator?.key_id : second.id}/revoke`,
        )
      ).status,
    ).toBe(200)
    const other = await createTenant(service, database.sql)
    expect((await other.api.post(`/v2/keys/${other.client.keyId}/revoke`)).status).toBe(200)
  })
})

test('A20 a revocation touches one row', async () => {
  const client = await seedClient(database.sql, { organizationId: tenant.client.organizationId })
  await seedKey(database.sql, client.clientId, 'sandbox')
  const others = () =>
    database.sql`select id, version, revoked_at, expires_at from keys where id <> ${client.keyId} order by id`
  const before = await others()
  expect((await api.post(`/v2/keys/${client.keyId}/revoke`, { reason: 'compromised' })).status).toBe(200)
  expect(await others()).toEqual(before)
})

test('the audit trail tells who made, renewed and revoked which key', async () => {
  const client = await seedKeyless()
  const made = (await api.post<CreatedKey>(keysOf(client.clientId))).body
  const renewed = bodyOf<CreatedKey>(await renew(service.url, made.key), 201)
  await api.post(`/v2/keys/${renewed.id}/revoke`, { reason: 'superseded' })
  const events = await database.sql`
    select action, organization_id, actor_client_id, actor_key_id, target_id, host(client_ip) as ip, details
    from audit_events where target_id in (${made.id}, ${renewed.id}) order by sequence`
  const common = { organization_id: client.organizationId, ip: '127.0.0.1' }
  expect(events).toMatchObject([
    {
      ...common,
      action: 'key.create',
      actor_key_id: tenant.client.keyId,
      target_id: made.id,
      details: { after: { client_id: client.clientId, prefix: made.prefix, expires_at: null } },
    },
    {
      ...common,
      action: 'key.renew',
      actor_client_id: client.clientId,
      actor_key_id: made.id,
      target_id: renewed.id,
      details: {
        before: { replaced: { id: made.id, expires_at: null } },
        after: { replaces: made.id, replaced: { id: made.id, expires_at: expect.any(String) } },
      },
    },
    {
      ...common,
      action: 'key.revoke',
      target_id: renewed.id,
      details: {
        before: { status: 'active', revoked_at: null, revocation_reason: null },
        after: { status: 'revoked', revoked_at: expect.any(String), revocation_reason: 'superseded' },
      },
    },
  ])
})

test('a token of a key that was renewed lives on with its client', async () => {
  const { client } = await createTenant(service, database.sql)
  const { token } = await tokenOf(await mint(service.url, { ...client, scopes: ['signet:keys:read'] }))
  bodyOf(await renew(service.url, client.key, { overlap_seconds: 0 }), 201)
  expect((await apiWith(service.url, token).get(`/v2/keys/${client.keyId}`)).body).toMatchObject({
    status: 'expired',
  })
})
