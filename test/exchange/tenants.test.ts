import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { fingerprint, mint, rawRequest, tokenBody, tokenOf } from '../support/mint.ts'
import { type SeededClient, seedClient, seedDelegation, seedOrganization } from '../support/seed.ts'
import { DEFAULT_AUDIENCE, startService, type TestService } from '../support/service.ts'

let database: TestDatabase
let services: TestService[]
beforeAll(async () => {
  database = await createTestDatabase()
  services = [await startService(database), await startService(database)]
})
afterAll(async () => {
  await Promise.all((services ?? []).map((service) => service.stop()))
  await database?.drop()
})

type Minted = Record<'jti' | 'sub' | 'client_id' | 'key_id' | 'organization_id' | 'scope', unknown> & {
  aud: unknown
}

test('A19 64 tenants at once, each gets its own tokens and nobody elses', { timeout: 60_000 }, async () => {
  const MINTS = 30
  const clients = await Promise.all(
    Array.from({ length: 64 }, (_, i) =>
      seedClient(database.sql, {
        scopes: [`tenant:${i}`, 'shared'],
        audience: i % 2 ? `https://${i}.test` : null,
      }),
    ),
  )
  const minted: Minted[] = []
  await Promise.all(
    clients.map(async (client, i) => {
      for (let n = 0; n < MINTS; n++) {
        const url = services[(i + n) % services.length]?.url ?? ''
        const answer = await tokenOf(await mint(url, client))
        const claims = decodeJwt(answer.token)
        expect(answer.organization_id).toBe(client.organizationId)
        expect(claims).toMatchObject({
          sub: client.clientId,
          client_id: client.clientId,
          key_id: client.keyId,
          organization_id: client.organizationId,
          aud: i % 2 ? `https://${i}.test` : DEFAULT_AUDIENCE,
          scope: `tenant:${i} shared`,
        })
        minted.push(claims as Minted)
      }
    }),
  )

  const rows = await database.sql<
    {
      jti: string
      client_id: string
      key_id: string
      organization_id: string
      audience: string
      scopes: string[]
    }[]
  >`select jti, client_id, key_id, organization_id, audience, scopes from issued_tokens`
  expect(rows).toHaveLength(64 * MINTS)
  const byJti = new Map(rows.map((row) => [row.jti, row]))
  expect(byJti.size).toBe(64 * MINTS)
  for (const claims of minted)
    expect(byJti.get(String(claims.jti))).toEqual({
      jti: claims.jti,
      client_id: claims.sub,
      key_id: claims.key_id,
      organization_id: claims.organization_id,
      audience: claims.aud,
      scopes: String(claims.scope).split(' '),
    })
})

describe('A62 text that means something to SQL means nothing here', () => {
  const TEXTS = [
    "' or '1'='1",
    "'; drop table keys; --",
    '"; select 1; --',
    '$1',
    '{}',
    '{"a"}',
    '%',
    '_%',
    '\\',
    "\\'",
    '\u0000',
    'org_\u0000',
    '\u001b[31m',
    '\r\nSet-Cookie: a=b',
    '../../etc/passwd',
    '{{7*7}}',
    '\u202e',
    '😀'.repeat(16),
    '::inet',
    'NULL',
  ]

  const ask = (client: SeededClient, body: object) =>
    rawRequest(services[0]?.url ?? '', {
      headers: [
        ['Authorization', client.key],
        ['Content-Type', 'application/json'],
      ],
      body: JSON.stringify(body),
    })

  const seedBoth = async () => {
    const organizationId = await seedOrganization(database.sql)
    const partner = await seedClient(database.sql, { kind: 'partner' })
    await seedDelegation(database.sql, { organizationId, partnerId: partner.organizationId })
    return [await seedClient(database.sql), { ...partner, target: organizationId }] as const
  }

  test('A62 in organization_id: as any unknown one', async () => {
    for (const client of await seedBoth()) {
      const benign = fingerprint(await ask(client, tokenBody({ ...client, organizationId: 'org_unknown' })))
      expect(benign).toMatchObject({ status: 403 })
      for (const organizationId of TEXTS)
        expect(fingerprint(await ask(client, tokenBody({ ...client, organizationId })))).toEqual(benign)
    }
  })

  test('A62 in scopes: as any scope that is not granted, or not well-formed', async () => {
    const [client] = await seedBoth()
    const unknown = fingerprint(await ask(client, tokenBody({ ...client, scopes: ['unknown'] })))
    const malformed = fingerprint(await ask(client, tokenBody({ ...client, scopes: ['un known'] })))
    expect(unknown).toMatchObject({ status: 403 })
    expect(malformed).toMatchObject({ status: 400 })
    for (const text of TEXTS) {
      const expected = /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(text) ? unknown : malformed
      expect(fingerprint(await ask(client, tokenBody({ ...client, scopes: [text] }))), text).toEqual(expected)
    }
  })

  test('A62 in the audience: as any other audience', async () => {
    const [client] = await seedBoth()
    const benign = fingerprint(await ask(client, tokenBody(client, { audience: 'https://unknown.test' })))
    expect(benign).toMatchObject({ status: 400 })
    for (const audience of TEXTS)
      expect(fingerprint(await ask(client, tokenBody(client, { audience })))).toEqual(benign)
  })

  test('A62 in a header: no 5xx', async () => {
    const [client] = await seedBoth()
    for (const text of TEXTS.filter((each) => /^[\x20-\x7e]*$/.test(each))) {
      for (const name of [
        'Authorization',
        'X-Forwarded-For',
        'Forwarded',
        'User-Agent',
        'X-Request-Id',
        'Cookie',
      ]) {
        const key = name === 'Authorization' ? [] : [['Authorization', client.key] as const]
        const answer = await rawRequest(services[0]?.url ?? '', {
          headers: [...key, [name, text], ['Content-Type', 'application/json']],
          body: JSON.stringify(tokenBody(client)),
        })
        expect(answer.status, `${name}: ${text}`).toBe(name === 'Authorization' ? 401 : 200)
      }
    }
  })

  test('A62 scopes that look like arrays or SQL are minted and recorded as they are', async () => {
    const scopes = ["'", '{a,b}', '{}', 'NULL', '$1', '--', "a';drop", ',', '(*)', '\u007e']
    const client = await seedClient(database.sql, { scopes })
    const { token } = await tokenOf(await mint(services[0]?.url ?? '', client))
    expect(decodeJwt(token).scope).toBe(scopes.join(' '))
    const [row] = await database.sql`select scopes from issued_tokens where client_id = ${client.clientId}`
    expect(row?.scopes).toEqual(scopes)
  })
})
