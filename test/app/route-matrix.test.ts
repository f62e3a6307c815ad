/**
 * Every operation of the management API × every way not to be allowed to use it. The rows are generated from the
 * route table itself: an operation without an example here fails the suite.
 */
import type { Sql } from 'postgres'
import { beforeAll, describe, expect, test } from 'vitest'
import { newId, newJti } from '../../src/ids.ts'
import { MANAGEMENT_SCOPES } from '../../src/management/scopes.ts'
import { apiOfOperator, apiWith, createTenant, tokenFor } from '../support/management.ts'
import { fingerprint, mint, type RawAnswer, rawRequest, tokenOf } from '../support/mint.ts'
import { seedClient, seedDelegation } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'

/** The service begins two hours ago, for long enough to mint a token that has expired since. */
let lag = 7_200_000
const { database, service } = await setUpService({ now: () => Date.now() - lag })
const expired = await seedClient(database.sql, { environment: 'production', scopes: [...MANAGEMENT_SCOPES] })
const expiredToken = await tokenFor(service.url, expired)
lag = 0
const operator = await apiOfOperator(service)
const victim = await createTenant(service, database.sql)
const intruder = await createTenant(service, database.sql)
const partner = await createTenant(service, database.sql)
const delegationId = await seedDelegation(database.sql, {
  organizationId: victim.client.organizationId,
  partnerId: partner.client.organizationId,
  environment: 'production',
})
const [issued] = await database.sql`select jti from issued_tokens where client_id = ${victim.client.clientId}`
const [signing] = await database.sql`select kid from signing_keys where environment = 'sandbox'`

/** What each parameter of a path names: the victim's, or nobody's. */
const IDS: Record<string, { theirs: string; missing: string }> = {
  organization_id: { theirs: victim.client.organizationId, missing: newId('organization') },
  client_id: { theirs: victim.client.clientId, missing: newId('client') },
  key_id: { theirs: victim.client.keyId, missing: newId('key') },
  delegation_id: { theirs: delegationId, missing: newId('delegation') },
  jti: { theirs: issued?.jti, missing: newJti() },
  kid: { theirs: signing?.kid, missing: 'A'.repeat(43) },
}

/** A body that the operation would accept from somebody who may. */
const BODIES: Record<string, object | undefined> = {
  createOrganization: { name: 'Acme' },
  updateOrganization: { name: 'Acme' },
  createClient: { name: 'Client', environment: 'sandbox', scopes: ['a:read'] },
  updateClient: { name: 'Client' },
  approveClient: undefined,
  suspendClient: undefined,
  reactivateClient: undefined,
  revokeClient: undefined,
  createKey: undefined,
  revokeKey: undefined,
  replaceClientJwks: { keys: [] },
  createDelegation: {
    organization_id: victim.client.organizationId,
    partner_id: partner.client.organizationId,
    environment: 'sandbox',
    scopes: ['a:read'],
  },
  updateDelegation: { scopes: ['a:read'] },
  acceptDelegation: undefined,
  pauseDelegation: undefined,
  resumeDelegation: undefined,
  revokeDelegation: undefined,
  revokeToken: undefined,
  rotateSigningKey: { environment: 'sandbox' },
  revokeSigningKey: undefined,
}

const sandbox = await seedClient(database.sql, {
  organizationId: victim.client.organizationId,
  scopes: [...MANAGEMENT_SCOPES],
})
const business = await seedClient(database.sql, {
  organizationId: victim.client.organizationId,
  environment: 'production',
})
const tokens = {
  sandbox: await tokenFor(service.url, sandbox),
  business: (await tokenOf(await mint(service.url, business))).token,
}

/** All that management may change, as one value. */
async function stateOf(sql: Sql): Promise<object> {
  const tables = ['organizations', 'clients', 'keys', 'delegations', 'signing_keys', 'revoked_tokens']
  const rows = await Promise.all(tables.map((table) => sql`select * from ${sql(table)} order by 1`))
  return Object.fromEntries(tables.map((table, i) => [table, rows[i]?.map((row) => ({ ...row }))]))
}

type Target = 'theirs' | 'missing'

function call(
  operation: (typeof service.operations)[number],
  token: string | undefined,
  target: Target = 'theirs',
) {
  const path = operation.path.replace(/\{(\w+)\}/g, (_, name) => IDS[name]?.[target] ?? name)
  const body = BODIES[operation.id]
  return rawRequest(service.url, {
    method: operation.method,
    path,
    headers: [
      ...(token === undefined ? [] : [['Authorization', `Bearer ${token}`] as const]),
      ...(body === undefined
        ? []
        : ([
            ['Content-Type', 'application/json'],
            ['Content-Length', String(JSON.stringify(body).length)],
          ] as const)),
    ],
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
}

const codeOf = (answer: RawAnswer) => JSON.parse(answer.body).error?.code
const challengeOf = (answer: RawAnswer) => answer.headers['www-authenticate']

test('the route table has an example body for each change', () => {
  const changes = service.operations.filter(({ method }) => method !== 'GET').map(({ id }) => id)
  expect(Object.keys(BODIES).toSorted()).toEqual(changes.toSorted())
})

describe('A40', () => {
  let before: object
  beforeAll(async () => {
    before = await stateOf(database.sql)
  })

  for (const operation of service.operations) {
    const { id, scope, isPlatformOnly } = operation
    const named = operation.path.includes('{')

    test(`${operation.method} ${operation.path}`, async () => {
      const none = await call(operation, undefined)
      expect([none.status, codeOf(none)], 'no token').toEqual([401, 'invalid_token'])
      expect(challengeOf(none)).toBe('Bearer realm="signet"')

      const refusedTokens = {
        garbage: 'garbage',
        'the sandbox issuer': tokens.sandbox,
        'another audience': tokens.business,
        'an expired token': expiredToken,
        'a master key': victim.client.key,
      }
      for (const [what, token] of Object.entries(refusedTokens)) {
        const refused = await call(operation, token)
        expect([refused.status, codeOf(refused)], what).toEqual([401, 'invalid_token'])
        expect(challengeOf(refused), what).toBe('Bearer realm="signet", error="invalid_token"')
      }

      const others = MANAGEMENT_SCOPES.filter((each) => each !== scope)
      const unscoped = await call(operation, await tokenFor(service.url, victim.client, others))
      expect([unscoped.status, codeOf(unscoped)], 'wrong scope').toEqual([403, 'insufficient_scope'])
      expect(challengeOf(unscoped)).toBe(
        `Bearer realm="signet", error="insufficient_scope", scope="${scope}"`,
      )

      const theirs = await call(operation, intruder.api.token)
      const missing = await call(operation, intruder.api.token, 'missing')
      if (isPlatformOnly) expect([theirs.status, codeOf(theirs)]).toEqual([403, 'insufficient_scope'])
      else if (named || id === 'createDelegation')
        expect([theirs.status, codeOf(theirs)], 'other tenant').toEqual([404, 'not_found'])
      else {
        // What lists without naming anybody shows the intruder nothing of the victim’s.
        expect(theirs.status).toBe(200)
        // (The audit trail has the ids that the intruder itself tried, as targets of its refused requests.)
        const shown = JSON.stringify(
          JSON.parse(theirs.body).data.map((item: object) => ({ ...item, target_id: undefined })),
        )
        expect(shown).not.toContain(victim.client.organizationId)
        expect(shown).not.toContain(victim.client.clientId)
      }
      // A17: to the byte.
      if (named) expect(fingerprint(theirs), 'as missing').toEqual(fingerprint(missing))
    })
  }

  test('and nothing was changed by any of them', async () => {
    expect(await stateOf(database.sql)).toEqual(before)
  })
})

test('the same calls are answered when they are the victim’s own, or the platform’s', async () => {
  for (const operation of service.operations.filter(({ method }) => method === 'GET')) {
    const api = operation.isPlatformOnly ? operator : apiWith(service.url, victim.api.token)
    const answer = await call(operation, api.token)
    expect(answer.status, `${operation.id} ${answer.body}`).toBe(200)
  }
})
