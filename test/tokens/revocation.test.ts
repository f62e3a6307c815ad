/** The end of a token, and of what was had for it. */
import { afterAll, describe, expect, test } from 'vitest'
import { connectAsPlatform } from '../../src/database/database.ts'
import { newJti } from '../../src/ids.ts'
import { ADMISSION_SETTINGS, type AdmissionRequest, createAdmission } from '../../src/ledger/admission.ts'
import { connectTo } from '../support/database.ts'
import { apiOfOperator, apiWith, createTenant } from '../support/management.ts'
import { type SeededClient, seedClient, seedDelegation, seedKey } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'
import { ask, claimsOf, exchangeFor, isActive, revoke, revokedAmong, tokenFrom } from './calls.ts'

const { database, service } = await setUpService()
const { sql, target } = database
const { url } = service
const operator = await apiOfOperator(service)
const admission = createAdmission(() =>
  connectAsPlatform(target, { max: 2, statementTimeoutMilliseconds: 500, settings: ADMISSION_SETTINGS }),
)
const blocker = connectTo(target)
afterAll(async () => {
  await blocker.end()
  await admission.close()
})

/** Holds the lock of the audit trail, which every revocation waits for, until the returned function is called. */
async function holdTrail(): Promise<() => Promise<unknown>> {
  const held = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  const ended = blocker.begin(async (transaction) => {
    await transaction`select pg_advisory_xact_lock(x'73676e74'::int, 2048)`
    held.resolve()
    await released.promise
  })
  await held.promise
  return () => {
    released.resolve()
    return ended
  }
}

const untilSomebodyWaits = () =>
  expect
    .poll(
      async () => (await sql`select 1 from pg_locks where locktype = 'advisory' and not granted`).length,
      { interval: 10 },
    )
    .toBeGreaterThan(0)

describe('RFC 8693 §2.1 what was had for a token ends with it', () => {
  const exchanged = async (client: SeededClient, subject: string): Promise<string> => {
    const token = await exchangeFor(url, client, subject)
    if (token === undefined) throw new Error('nothing was exchanged')
    return token
  }
  /** Two generations of one token, and another one. */
  async function family(client: SeededClient) {
    const token = await tokenFrom(url, client)
    const [child, second] = [await exchanged(client, token), await exchanged(client, token)]
    const grandchild = await exchanged(client, child)
    return { token, child, second, grandchild, unrelated: await tokenFrom(url, client) }
  }
  const statusOf = async (token: string) =>
    (await operator.get<{ status: string }>(`/v2/tokens/${claimsOf(token).jti}`)).body.status

  const revocations: Record<string, (client: SeededClient, token: string) => Promise<number>> = {
    'by its client': (client, token) => revoke(url, client, token),
    'by the management API': async (_client, token) =>
      (await operator.post(`/v2/tokens/${claimsOf(token).jti}/revoke`)).status,
  }
  test.each(Object.entries(revocations))('%s, by one record, however many they are', async (_how, end) => {
    const client = await seedClient(sql)
    const { token, child, second, grandchild, unrelated } = await family(client)
    expect(await end(client, token)).toBe(200)
    for (const each of [token, child, second, grandchild]) {
      expect(await isActive(url, client, each)).toBe(false)
      expect(await statusOf(each)).toBe('revoked')
      expect(await exchangeFor(url, client, each)).toBeUndefined()
    }
    expect(await isActive(url, client, unrelated)).toBe(true)
    expect(await statusOf(unrelated)).toBe('active')
    const jtis = [token, child, second, grandchild, unrelated].map((each) => claimsOf(each).jti)
    expect(await revokedAmong(sql, jtis)).toEqual([claimsOf(token).jti])
  })

  test('a descendant by itself: what was had for it, and not what it was had for', async () => {
    const client = await seedClient(sql)
    const { token, child, second, grandchild } = await family(client)
    expect(await revoke(url, client, child)).toBe(200)
    const active = await Promise.all(
      [token, child, second, grandchild].map((each) => isActive(url, client, each)),
    )
    expect(active).toEqual([true, false, true, false])
  })

  test('of a partner’s token, at the wish of whom it is for', async () => {
    const tenant = await createTenant(service, sql)
    const partner = await seedClient(sql, { kind: 'partner' })
    const { organizationId } = tenant.client
    await seedDelegation(sql, { organizationId, partnerId: partner.organizationId })
    const token = await tokenFrom(url, partner, organizationId)
    const child = await exchanged(partner, token)
    expect((await tenant.api.post(`/v2/tokens/${claimsOf(token).jti}/revoke`)).status).toBe(200)
    expect(await isActive(url, partner, child)).toBe(false)
  })

  test('in the management API, too', async () => {
    const tenant = await createTenant(service, sql)
    const child = await exchanged(tenant.client, tenant.api.token)
    const path = `/v2/organizations/${tenant.client.organizationId}`
    expect((await apiWith(url, child).get(path)).status).toBe(200)
    expect(await revoke(url, tenant.client, tenant.api.token)).toBe(200)
    expect((await apiWith(url, child).get(path)).status).toBe(401)
  })

  test('and none is admitted once it has been revoked', async () => {
    const client = await seedClient(sql)
    const requestFor = await admissionsOf(client)
    const { jti } = claimsOf(await tokenFrom(url, client))
    const other = claimsOf(await tokenFrom(url, client)).jti
    expect(await admission.admitBatch([requestFor([other, jti])])).toMatchObject([{ outcome: 'admitted' }])
    expect((await operator.post(`/v2/tokens/${jti}/revoke`)).status).toBe(200)
    const verdicts = await admission.admitBatch([
      requestFor([jti]),
      requestFor([other, jti]),
      requestFor([other]),
    ])
    expect(verdicts.map(({ outcome }) => outcome)).toEqual(['stale', 'stale', 'admitted'])
  })
})

test('RFC 8693 over HTTP: no exchanged token outlives the revocation of what it was had for', async () => {
  const client = await seedClient(sql)
  const exchange = (subject: string) => exchangeFor(url, client, subject)
  let admitted = 0
  for (let round = 0; round < 6; round++) {
    const subject = await tokenFrom(url, client)
    const first = await exchange(subject)
    if (!first) throw new Error('nothing was exchanged')
    const exchanging = Array.from({ length: 6 }, (_, n) => exchange(n % 2 === 0 ? subject : first))
    const [status, ...exchanged] = await Promise.all([revoke(url, client, subject), ...exchanging])
    expect(status).toBe(200)
    const tokens = [subject, first, ...exchanged].filter((token) => token !== undefined)
    admitted += tokens.length - 2
    for (const token of tokens) expect(await isActive(url, client, token)).toBe(false)
    expect(await exchange(subject)).toBeUndefined()
    expect(await exchange(first)).toBeUndefined()
  }
  expect(admitted).toBeGreaterThan(0)
})

/** Requests for tokens that are had for another one of the client's, by its rows as they are now. */
async function admissionsOf(client: SeededClient): Promise<(subjectJtis: string[]) => AdmissionRequest> {
  const versionOf = async (table: string, id: string) => {
    const [row] = await sql`select version from ${sql(table)} where id = ${id}`
    return { id, version: Number(row?.version) }
  }
  const [signingKey] = await sql`select kid, version from signing_keys where environment = 'sandbox'`
  const owner = await versionOf('organizations', client.organizationId)
  const rows = {
    key: await versionOf('keys', client.keyId),
    client: await versionOf('clients', client.clientId),
    ...{ owner, organization: owner, delegation: undefined },
    signingKey: { id: signingKey?.kid, version: Number(signingKey?.version) },
  }
  return (subjectJtis) => {
    const now = Math.floor(Date.now() / 1000)
    return {
      ...{ jti: newJti(), issuedAt: now, expiresAt: now + 300, environment: 'sandbox' },
      ...{ scopes: ['a'], audience: 'urn:api', clientIp: '192.0.2.1', requestId: 'r', subjectJtis },
      ...rows,
    }
  }
}

describe('what stands in the way of a revocation', () => {
  test('the audit trail’s lock is not free in time: 503 with Retry-After, and the token lives', async () => {
    const client = await seedClient(sql)
    const token = await tokenFrom(url, client)
    const end = await holdTrail()
    const answer = await ask(url, 'revoke', client, { token })
    expect(answer.status).toBe(503)
    expect(answer.headers.get('retry-after')).toBe('1')
    expect(await answer.json()).toMatchObject({ error: 'temporarily_unavailable' })
    expect(await isActive(url, client, token)).toBe(true)
    await end()
    expect(await revoke(url, client, token)).toBe(200)
    expect(await isActive(url, client, token)).toBe(false)
  })

  test('F7 it cannot be recorded: 503, and the token lives, with no event', async () => {
    const client = await seedClient(sql)
    const token = await tokenFrom(url, client)
    const { jti } = claimsOf(token)
    await sql.unsafe(`
      create function refuse() returns trigger language plpgsql as
        $$ begin raise exception 'disk full' using errcode = '53100'; end $$;
      create constraint trigger refuse after insert on audit_events deferrable initially deferred
        for each row when (new.target_id = '${jti}') execute function refuse()`)
    const answer = await ask(url, 'revoke', client, { token })
    await sql`drop trigger refuse on audit_events`
    expect(answer.status).toBe(503)
    expect(answer.headers.get('retry-after')).toBe('1')
    expect(await revokedAmong(sql, [jti])).toEqual([])
    expect(await sql`select 1 from audit_events where target_id = ${jti}`).toHaveLength(0)
    expect(await isActive(url, client, token)).toBe(true)
  })

  test('the key is revoked while it waits: refused, and undone', async () => {
    const client = await seedClient(sql)
    const second = { ...client, ...(await seedKey(sql, client.clientId, 'sandbox')) }
    const token = await tokenFrom(url, client)
    const release = await holdTrail()
    const answer = ask(url, 'revoke', second, { token })
    try {
      await untilSomebodyWaits()
      await sql`update keys set revoked_at = now() where id = ${second.keyId}`
    } finally {
      await release()
    }
    expect((await answer).status).toBe(401)
    expect(await (await answer).json()).toMatchObject({ error: 'invalid_client' })
    const { jti } = claimsOf(token)
    expect(await revokedAmong(sql, [jti])).toEqual([])
    expect(
      await sql`select 1 from audit_events where target_id = ${jti} and action = 'token.revoke'`,
    ).toEqual([])
  })

  test('meanwhile the client mints', async () => {
    const client = await seedClient(sql)
    await tokenFrom(url, client)
    const release = await holdTrail()
    await tokenFrom(url, client).finally(release)
  })
})

test('revocations of one token, of its client and of its key at once: no deadlock, and all of it is revoked', async () => {
  for (let round = 0; round < 5; round++) {
    const client = await seedClient(sql)
    const token = await tokenFrom(url, client)
    const { jti } = claimsOf(token)
    const child = claimsOf((await exchangeFor(url, client, token)) ?? '').jti
    const answers = await Promise.all([
      revoke(url, client, token),
      operator.post(`/v2/tokens/${jti}/revoke`).then(({ status }) => status),
      operator.post(`/v2/tokens/${child}/revoke`).then(({ status }) => status),
      operator
        .post(`/v2/keys/${client.keyId}/revoke`, { reason: 'compromised' })
        .then(({ status }) => status),
      operator.post(`/v2/clients/${client.clientId}/suspend`).then(({ status }) => status),
    ])
    // The client may have been stopped before it could ask.
    expect([200, 401]).toContain(answers[0])
    expect(answers.slice(1)).toEqual([200, 200, 200, 200])
    for (const each of [jti, child])
      expect((await operator.get(`/v2/tokens/${each}`)).body).toMatchObject({ status: 'revoked' })
  }
})
