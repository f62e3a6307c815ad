import postgres, { type Sql } from 'postgres'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { createKeyFormat } from '../../src/keys/key-format.ts'
import { createSealing } from '../../src/signing/sealing.ts'
import { hitsInDatabase, spellings } from '../support/canaries.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { mint, type RawAnswer, rawRequest, tokenBody, tokenOf } from '../support/mint.ts'
import { type SeededClient, seedClient, seedOrganization } from '../support/seed.ts'
import { KEY_ENCRYPTION_KEY, startService, type TestService } from '../support/service.ts'

let database: TestDatabase
let service: TestService
let superuser: Sql
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService(database, { logLevel: 'trace', config: { trustedProxies: ['127.0.0.1'] } })
  superuser = postgres({
    ...inject('postgres'),
    username: 'postgres',
    database: database.target.database,
    max: 1,
    onnotice: () => {},
  })
})
afterAll(async () => {
  await superuser?.end()
  await service?.stop()
  await database?.drop()
})

const JSON_TYPE = ['Content-Type', 'application/json'] as const
const FORM_TYPE = ['Content-Type', 'application/x-www-form-urlencoded'] as const

/** Requests of OAuth's token endpoint with this secret wherever one may be put. */
function* oauthRequests(secret: string, client: SeededClient) {
  const exchange = {
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
  }
  const names = [
    'grant_type',
    'client_id',
    'client_secret',
    'client_assertion',
    'client_assertion_type',
    'scope',
    'organization_id',
    'resource',
    'audience',
    'signet_expires_in_seconds',
    'subject_token',
    'subject_token_type',
    'actor_token',
    'actor_token_type',
    'requested_token_type',
    secret,
  ]
  const basic = (id: string, key: string) => `Basic ${Buffer.from(`${id}:${key}`).toString('base64')}`
  const to = (path: string, body: Record<string, string>, authorization?: string) => ({
    path,
    headers: [FORM_TYPE, ...(authorization === undefined ? [] : [['Authorization', authorization] as const])],
    body: new URLSearchParams(body).toString(),
  })
  const inQuery = `/sandbox/oauth2/token?client_secret=${secret}`
  const ordinary = { grant_type: 'client_credentials' }
  for (const authorization of [undefined, basic(client.clientId, secret), `Bearer ${secret}`])
    for (const path of ['/oauth2/token', inQuery])
      yield to(path, { ...ordinary, client_id: client.clientId }, authorization)
  for (const name of names) {
    yield to('/oauth2/token', { ...ordinary, [name]: secret })
    for (const base of [ordinary, exchange])
      yield to(inQuery, { ...base, [name]: secret }, basic(client.clientId, client.key))
  }
}

/** Whatever goes wrong in the database while `work` runs, it went wrong there. */
async function during(breakIt: string, mendIt: string, work: () => Promise<unknown>): Promise<void> {
  await superuser.unsafe(breakIt)
  try {
    await work()
  } finally {
    await superuser.unsafe(mendIt)
  }
}

const RAISE_ON = (table: string, message: string) => `
  create function raise_canary() returns trigger language plpgsql as
    $$ begin raise exception using message = ${message}, detail = new::text, hint = current_query(); end $$;
  create trigger canary before insert or update on ${table} for each row execute function raise_canary()`
const RAISE_NO_MORE = 'drop function raise_canary cascade'

test('A55 key, tokens and key-encryption key are in no log, no row and no refusal', {
  timeout: 60_000,
}, async () => {
  const client = await seedClient(database.sql)
  const production = await seedClient(database.sql, { environment: 'production' })
  const unknown = createKeyFormat('sgt').generate('sandbox').key
  const minted = await tokenOf(await mint(service.url, client))
  await tokenOf(await mint(service.url, production))

  const secrets = [client.key, production.key, unknown, minted.token]
  const answers: RawAnswer[] = []
  const ask = async (options: Partial<Parameters<typeof rawRequest>[1]>) => {
    const { method = 'POST' } = options
    const headers = [['Authorization', client.key] as const, JSON_TYPE]
    const body = method === 'POST' ? { body: JSON.stringify(tokenBody(client)) } : {}
    const answer = await rawRequest(service.url, { method, headers, ...body, ...options })
    if (answer.status >= 400) answers.push(answer)
    else if (method === 'POST') {
      const { token, access_token: accessToken } = JSON.parse(answer.body)
      secrets.push(token ?? accessToken)
    }
    return answer.status
  }
  const statuses = new Set<number>()
  const askEverything = async () => {
    for (const secret of [client.key, production.key, unknown, minted.token]) {
      const inScopes = { organization_id: secret, scopes: [secret] }
      const bodies = [
        tokenBody(client),
        tokenBody({ ...client, organizationId: secret.slice(0, 64) }),
        tokenBody({ ...client, scopes: [secret.slice(0, 128)] }),
        tokenBody(client, { audience: secret.slice(0, 255) }),
        tokenBody(client, { expiry_seconds: secret }),
        tokenBody(client, { api_key: secret }),
        tokenBody(client, { [secret]: secret }),
        { scopes: { ...inScopes, [secret]: { [secret]: secret } } },
        { [secret]: secret },
        [secret],
        secret,
      ]
      for (const body of bodies) await ask({ body: JSON.stringify(body) })
      for (const body of [
        `{"${secret}"`,
        `{"a":"${secret}","a":1}`,
        `${'['.repeat(20)}"${secret}"${']'.repeat(20)}`,
      ])
        await ask({ body })
      for (const request of oauthRequests(secret, client)) await ask(request)
      await ask({ path: '/oauth2/token', headers: [FORM_TYPE], body: `a=${secret}&a=${secret}%zz` })
      for (const name of [
        'Authorization',
        'X-Api-Key',
        'Cookie',
        'User-Agent',
        'X-Request-Id',
        'X-Forwarded-For',
        'Origin',
        'Content-Type',
        'Content-Encoding',
        'Referer',
      ]) {
        await ask({ headers: [[name, secret], JSON_TYPE] })
        await ask({ headers: [['Authorization', client.key], [name, `Bearer ${secret}`], JSON_TYPE] })
        await ask({
          headers: [
            ['Authorization', `Basic ${secret}`],
            [name, secret],
          ],
        })
      }
      for (const path of [
        `/v2/auth/token?key=${secret}`,
        `/v2/auth/token/${secret}`,
        `/${secret}`,
        `/errors/${secret}`,
        `/.well-known/jwks.json?${secret}`,
      ])
        for (const method of ['POST', 'GET', 'DELETE', 'OPTIONS']) statuses.add(await ask({ path, method }))
    }
  }

  await askEverything()
  expect(statuses).toEqual(new Set([200, 204, 400, 404, 405]))
  const expectNow = async (...expected: number[]) => {
    await askEverything()
    expect(expected).toContain(await ask({}))
  }
  await during(RAISE_ON('issued_tokens', 'new::text'), RAISE_NO_MORE, () => expectNow(503))
  await during(RAISE_ON('usage_minutes', 'new::text'), RAISE_NO_MORE, () => expectNow(503))
  await during('alter table usage_minutes rename to away', 'alter table away rename to usage_minutes', () =>
    expectNow(503),
  )
  await during('alter table keys rename to away', 'alter table away rename to keys', async () => {
    expect(await ask({ headers: [['Authorization', unknown], JSON_TYPE] })).toBe(503)
    await expectNow(200, 503)
  })
  // A row that should not be: a fault of ours.
  const spoilt = await seedClient(database.sql)
  secrets.push(spoilt.key)
  await superuser`alter table clients alter column scopes drop not null`
  await superuser`update clients set scopes = null where id = ${spoilt.clientId}`
  const own = {
    headers: [['Authorization', spoilt.key], JSON_TYPE] as const,
    body: JSON.stringify(tokenBody(spoilt)),
  }
  expect(await ask({ ...own, headers: [...own.headers] })).toBe(503)
  await during(
    'alter table signing_keys rename to away',
    'alter table away rename to signing_keys',
    async () => {
      await superuser`update clients set name = 'stale' where id = ${client.clientId}`
      await ask({})
    },
  )
  expect(await ask({})).toBe(200)
  await superuser`update keys set revoked_at = now(), revocation_reason = 'canary'`
  await expectNow(401)

  // The private halves of the signing keys, as they would be if they were not sealed.
  const sealing = createSealing([KEY_ENCRYPTION_KEY])
  const signingKeys = await superuser<{ kid: string; sealed: string }[]>`
    select kid, sealed_private_jwk as sealed from signing_keys`
  expect(signingKeys).toHaveLength(2)
  for (const { kid, sealed } of signingKeys) {
    const opened = await sealing.open(sealed, { purpose: 'signing-key', id: kid })
    secrets.push(JSON.parse(Buffer.from(opened).toString()).d)
  }

  const texts = new Set<string>()
  for (const secret of new Set(secrets)) {
    for (const text of spellings(secret)) texts.add(text)
    // Of a key, the secret alone would do; of a token, its signature.
    if (secret.startsWith('sgt_')) for (const text of spellings(secret.slice(21, 53))) texts.add(text)
    if (secret.startsWith('eyJ')) texts.add(secret.slice(secret.lastIndexOf('.') + 1))
  }
  for (const text of spellings(KEY_ENCRYPTION_KEY)) texts.add(text)

  const logs = service.logs.join('')
  expect(logs).toContain(`client ${spoilt.clientId}`)
  expect(logs).toContain('admission failed')
  expect(logs).toContain('Keys cannot be read')
  expect([...texts].filter((text) => logs.includes(text))).toEqual([])
  expect(answers.length).toBeGreaterThan(500)
  const refusals = answers.map((answer) => JSON.stringify(answer.headers) + answer.body).join('\n')
  const reflected = [...texts].filter((text) => refusals.includes(text))
  expect(reflected).toEqual([])

  // The search finds what is there: the hash and the first characters of a key.
  const { hash } = createKeyFormat('sgt').parse(client.key) ?? {}
  expect(await hitsInDatabase(superuser, [Buffer.from(hash ?? '').toString('hex')])).toBe(1)
  expect(await hitsInDatabase(superuser, [client.key.slice(0, 15)])).toBe(1)
  expect(await hitsInDatabase(superuser, [...texts])).toBe(0)
})

describe('A56 names that would forge a log or an answer', () => {
  const NAME = 'Ac\r\nme\u001b[31m{"level":60}\n\t"\\\u2028\u007f'

  const hasControls = (text: string) => [...text].some((character) => character < ' ')

  const mintFor = async (client: SeededClient) => {
    const response = await mint(service.url, client)
    return { status: response.status, text: await response.text() }
  }

  test('A56 in the name of an organization: escaped in the answer', async () => {
    const client = await seedClient(database.sql, {
      organizationId: await seedOrganization(database.sql, NAME),
    })
    const { status, text } = await mintFor(client)
    expect(status).toBe(200)
    expect(hasControls(text)).toBe(false)
    expect(JSON.parse(text).organization_name).toBe(NAME)
  })

  test('A56 in errors of the database, headers and paths: one JSON line each', async () => {
    const client = await seedClient(database.sql, {
      organizationId: await seedOrganization(database.sql, NAME),
    })
    const message = `E'Ac\\r\\nme\\x1b[31m {"level":60}\\n'`
    await during(RAISE_ON('issued_tokens', message), RAISE_NO_MORE, async () => {
      expect((await mintFor(client)).status).toBe(503)
    })
    for (const path of ['/a%0d%0ab%1b[31m', '/errors/%0d%0a%1b', '/v2/auth/token/%0a'])
      await rawRequest(service.url, { method: 'GET', path, headers: [['X-Forwarded-For', '1.2.3.4\t[31m']] })
    expect(service.logs.join('')).toContain('Ac\\r\\nme')
    for (const line of service.logs) {
      expect(line.endsWith('\n')).toBe(true)
      expect(hasControls(line.slice(0, -1))).toBe(false)
      expect(JSON.parse(line)).toHaveProperty('level')
    }
  })
})
