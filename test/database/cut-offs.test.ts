/** What the database itself says is revoked: cut-offs, set by whatever stops something from minting. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newJti } from '../../src/ids.ts'
import { connectTo, createTestDatabase, type TestDatabase } from '../support/database.ts'
import { type SeededClient, seedClient, seedDelegation, seedOrganization } from '../support/seed.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database?.drop())

type Table = 'clients' | 'organizations' | 'delegations' | 'keys'
async function cutOffOf(table: Table, id: string): Promise<number | undefined> {
  const { sql } = database
  const [row] =
    await sql`select extract(epoch from tokens_revoked_at)::float8 as at from ${sql(table)} where id = ${id}`
  return row?.at ?? undefined
}
const setStatus = (table: Table, id: string, status: string) =>
  database.sql`update ${database.sql(table)} set status = ${status} where id = ${id}`
const clock = async () =>
  (await database.sql`select extract(epoch from clock_timestamp())::float8 as now`)[0]?.now as number

/** A token of the client, by the clock of an instance that is so many seconds ahead of the database's. */
async function issue(client: SeededClient, secondsAhead: number): Promise<number> {
  const [row] = await database.sql`
    insert into issued_tokens (jti, issued_at, expires_at, key_id, client_id, organization_id, environment, scopes,
      audience, kid, request_id)
    values (${newJti()}, date_trunc('second', clock_timestamp()) + make_interval(secs => ${secondsAhead}),
      now() + interval '1 hour', ${client.keyId}, ${client.clientId}, ${client.organizationId}, ${client.environment},
      '{}', 'a', 'k', 'r')
    returning extract(epoch from issued_at)::float8 as at`
  return row?.at
}

/** `before`, of the entries of the view that name this id. */
const revocationsOf = async (id: string) =>
  (await database.sql`select environment, kind, partner_id, before::float8 from revocations where id = ${id}
    order by environment`) as unknown as {
    environment: string
    kind: string
    partner_id: string | null
    before: number | null
  }[]

const sandboxClient = () => seedClient(database.sql)

describe('what stops something from minting cuts off the tokens issued until then', () => {
  test.each(['suspended', 'revoked'])('a client that is %s', async (status) => {
    const { clientId } = await sandboxClient()
    const before = await clock()
    await setStatus('clients', clientId, status)
    const cutOff = (await cutOffOf('clients', clientId)) ?? 0
    expect(cutOff).toBeGreaterThan(before)
    expect(cutOff).toBeLessThan(before + 30)
    expect(await revocationsOf(clientId)).toEqual([
      { environment: 'sandbox', kind: 'client_id', partner_id: null, before: Math.floor(cutOff) + 1 },
    ])
  })

  test('an organization that is suspended, in both environments', async () => {
    const id = await seedOrganization(database.sql)
    await setStatus('organizations', id, 'suspended')
    const entries = await revocationsOf(id)
    expect(entries.map(({ environment, kind }) => [environment, kind])).toEqual([
      ['production', 'organization_id'],
      ['sandbox', 'organization_id'],
    ])
  })

  test.each(['paused', 'revoked'])('a delegation that is %s, with both parties', async (status) => {
    const organizationId = await seedOrganization(database.sql)
    const partnerId = await seedOrganization(database.sql)
    const id = await seedDelegation(database.sql, { organizationId, partnerId })
    await setStatus('delegations', id, status)
    expect(await revocationsOf(organizationId)).toEqual([
      {
        environment: 'sandbox',
        kind: 'delegation',
        partner_id: partnerId,
        before: Math.floor((await cutOffOf('delegations', id)) ?? 0) + 1,
      },
    ])
  })

  test('the younger cut-off of two delegations between the same parties counts', async () => {
    const organizationId = await seedOrganization(database.sql)
    const partnerId = await seedOrganization(database.sql)
    const parties = { organizationId, partnerId }
    const former = await seedDelegation(database.sql, parties)
    await setStatus('delegations', former, 'revoked')
    await database.sql`update delegations set tokens_revoked_at = now() - interval '1 hour' where id = ${former}`
    const present = await seedDelegation(database.sql, parties)
    await setStatus('delegations', present, 'paused')
    expect(await revocationsOf(organizationId)).toMatchObject([
      { before: Math.floor((await cutOffOf('delegations', present)) ?? 0) + 1 },
    ])
  })

  test('a key only where its tokens are to go with it', async () => {
    const { keyId } = await sandboxClient()
    await database.sql`update keys set revoked_at = now() where id = ${keyId}`
    expect(await revocationsOf(keyId)).toEqual([])
    await database.sql`update keys set tokens_revoked_at = now() where id = ${keyId}`
    expect(await revocationsOf(keyId)).toMatchObject([{ kind: 'key_id', environment: 'sandbox' }])
  })

  test('what is approved, activated, resumed or merely changed cuts off nothing', async () => {
    const { clientId } = await seedClient(database.sql, { status: 'pending_approval' })
    await setStatus('clients', clientId, 'active')
    await database.sql`update clients set name = 'Other' where id = ${clientId}`
    const delegation = await seedDelegation(database.sql, {
      organizationId: await seedOrganization(database.sql),
      partnerId: await seedOrganization(database.sql),
      status: 'pending',
    })
    await setStatus('delegations', delegation, 'active')
    expect([await cutOffOf('clients', clientId), await cutOffOf('delegations', delegation)]).toEqual([
      undefined,
      undefined,
    ])
  })

  test('a cut-off stays when what was stopped goes on, and when it is changed while it is stopped', async () => {
    const { clientId } = await sandboxClient()
    await setStatus('clients', clientId, 'suspended')
    const cutOff = await cutOffOf('clients', clientId)
    await database.sql`update clients set name = 'Other' where id = ${clientId}`
    await setStatus('clients', clientId, 'active')
    expect(await cutOffOf('clients', clientId)).toBe(cutOff)
  })
})

describe('an instance whose clock is ahead', () => {
  test('its last tokens are cut off too', async () => {
    const client = await sandboxClient()
    const issuedAt = await issue(client, 4)
    await setStatus('clients', client.clientId, 'suspended')
    const [entry] = await revocationsOf(client.clientId)
    expect(entry?.before).toBeGreaterThan(issuedAt)
  })

  test('also by a tenant, who may not see the tokens that were minted for others', async () => {
    const client = await seedClient(database.sql, { kind: 'partner' })
    const issuedAt = await issue({ ...client, organizationId: await seedOrganization(database.sql) }, 4)
    const tenant = connectTo(database.target, { 'signet.organization_id': client.organizationId })
    try {
      await tenant`update clients set status = 'revoked' where id = ${client.clientId}`
      // What the function sees for a moment, its caller does not.
      expect(await tenant`select id from organizations`).toEqual([{ id: client.organizationId }])
    } finally {
      await tenant.end()
    }
    expect((await revocationsOf(client.clientId))[0]?.before).toBeGreaterThan(issuedAt)
  })

  test('A65: whoever stole a signing key writes any iat, and its cut-off is eight days ahead', async () => {
    const { sql } = database
    await sql`insert into signing_keys (kid, environment, alg, public_jwk, sealed_private_jwk, published_at, activates_at, revoked_at)
      values ('stolen', 'sandbox', 'ES256', '{}', '', now(), now(), now())`
    const [entry] = await revocationsOf('stolen')
    expect(entry?.kind).toBe('kid')
    expect(entry?.before).toBeGreaterThan((await clock()) + 8 * 86_400 - 60)
  })
})

test('a revocation is listed for as long as a token that it names can be believed, and no longer', async () => {
  const { sql } = database
  const { clientId, organizationId, keyId } = await sandboxClient()
  const listed = async (id: string) => (await revocationsOf(id)).length
  const single = async (expiresAt: string) => {
    const jti = newJti()
    await sql`insert into revoked_tokens (jti, organization_id, client_id, expires_at)
      values (${jti}, ${organizationId}, ${clientId}, now() + ${expiresAt}::interval)`
    return jti
  }
  expect(await listed(await single('-14 minutes'))).toBe(1)
  expect(await listed(await single('-16 minutes'))).toBe(0)

  await sql`update keys set tokens_revoked_at = now() where id = ${keyId}`
  for (const [age, expected] of [
    ['1 day', 1],
    ['1 day 16 minutes', 0],
  ] as const) {
    await sql`update keys set tokens_revoked_at = now() - ${age}::interval where id = ${keyId}`
    expect([age, await listed(keyId)]).toEqual([age, expected])
  }
})
