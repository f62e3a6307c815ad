/** A41, A62: requests that are spelled to slip past authentication, or to reach the database as more than values. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, expect, test } from 'vitest'
import { apiOfOperator, createTenant } from '../support/management.ts'
import type { Problem } from '../support/mint.ts'
import { setUpService } from '../support/service.ts'
import { snapshot } from './snapshot.ts'

const { database, service } = await setUpService()
const { sql } = database
const operator = await apiOfOperator(service)
const tenant = await createTenant(service, sql)

/** Sends bytes as they are, and reads to the end. */
async function raw(requestLine: string, lines: readonly string[] = [], body = ''): Promise<string> {
  const { hostname, port } = new URL(service.url)
  const socket = connect(Number(port), hostname)
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  socket.write(
    [
      `${requestLine} HTTP/1.1`,
      `Host: ${hostname}:${port}`,
      ...lines,
      ...(body ? ['Content-Type: application/json', `Content-Length: ${body.length}`] : []),
      'Connection: close',
      '',
      body,
    ].join('\r\n'),
    'latin1',
  )
  await once(socket, 'close')
  return Buffer.concat(chunks).toString()
}

const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1])

describe('A41 never past authentication', () => {
  const targets = [
    '/v2/organizations',
    '/v2/organizations/',
    '/v2/organizations.',
    '/v2/organizations;',
    '/v2/organizations;a=b',
    '/v2/organizations%20',
    '/v2/organizations%00',
    '/v2/organizations%2f',
    '/v2/organizations?_method=POST',
    '/v2/organizations#',
    '/v2%2Forganizations',
    '/v2%2forganizations',
    '/%76%32/%6Frganizations',
    '/v2%252Forganizations',
    '/v2/%2e/organizations',
    '/v2/%2e%2e/v2/organizations',
    '/v2\\organizations',
    '//v2/organizations',
    '/v2//organizations',
    '///v2/organizations',
    '/./v2/organizations',
    '/v2/./organizations',
    '/v2/../v2/organizations',
    '/livez/../v2/organizations',
    '/livez/..%2fv2/organizations',
    '/errors/../v2/organizations',
    '/V2/Organizations',
    '/v2/ORGANIZATIONS',
    `/v2/organizations/${tenant.client.organizationId}`,
    `/v2/organizations/${tenant.client.organizationId.toUpperCase()}`,
    `/v2/organizations/${tenant.client.organizationId}/`,
    `/v2/organizations/%6f${tenant.client.organizationId.slice(1)}`,
    `${service.url}/v2/organizations`,
    'http://localhost/v2/organizations',
    'https://signet.test/v2/organizations',
    'v2/organizations',
    '*',
  ]

  test.each(targets)('%s', async (target) => {
    const before = await snapshot(sql, ['audit_events'])
    const body = '{"name":"Slipped in"}'
    for (const method of ['GET', 'HEAD', 'POST', 'PATCH', 'OPTIONS', 'PUT', 'DELETE', 'TRACE', 'PROPFIND']) {
      for (const lines of [
        [],
        ['X-HTTP-Method-Override: GET', 'X-HTTP-Method: GET', 'X-Method-Override: GET'],
        ['X-Original-URL: /livez', 'X-Rewrite-URL: /livez', 'X-Forwarded-Prefix: /livez'],
      ]) {
        const answer = await raw(
          `${method} ${target}`,
          lines,
          method === 'GET' || method === 'HEAD' ? '' : body,
        )
        expect([400, 401, 404, 405], `${method} ${target}: ${answer}`).toContain(statusOf(answer))
        expect(answer).not.toMatch(/next_cursor|created_at|Slipped in/)
      }
    }
    expect(await snapshot(sql, ['audit_events'])).toEqual(before)
  })

  test('a method is what the request line says, with a token too', async () => {
    const authorization = `Authorization: Bearer ${operator.token}`
    const count = async () => (await sql`select from organizations`).count
    const before = await count()
    for (const [target, lines] of [
      ['/v2/organizations?_method=POST', []],
      ['/v2/organizations', ['X-HTTP-Method-Override: POST']],
      ['/v2/organizations', ['X-HTTP-Method: POST', 'X-Method-Override: POST']],
    ] as const)
      expect([200, 400]).toContain(statusOf(await raw(`GET ${target}`, [authorization, ...lines])))
    expect(await count()).toBe(before)
    // And the other way round: no POST that is judged as a GET.
    const made = await raw(
      'POST /v2/organizations',
      [authorization, 'X-HTTP-Method-Override: GET'],
      '{"name":"Made"}',
    )
    expect(statusOf(made)).toBe(201)
  })

  test('with a token, another spelling of a path leads nowhere or to the same place', async () => {
    const path = `/v2/organizations/${tenant.client.organizationId}`
    const own = await tenant.api.get(path)
    for (const target of [
      `/%76%32/organizations/${tenant.client.organizationId}`,
      path.replace('org_', '%6frg_'),
    ]) {
      const answer = await tenant.api.get(target)
      expect([200, 404]).toContain(answer.status)
      if (answer.status === 200) expect(answer.text).toBe(own.text)
    }
    for (const target of [
      `${path}/`,
      `/${path}`,
      path.toUpperCase(),
      `${path}%00`,
      `${path}%0a`,
      `${path}.json`,
    ])
      expect((await tenant.api.get(target)).status, target).toBe(404)
  })
})

/** What breaks out of a value, where one is put into a statement as text. */
const METACHARACTERS = [
  "'",
  "''",
  "'--",
  "' or true --",
  "' or '1'='1",
  "') or ('1'='1",
  "'; select pg_sleep(5); --",
  "'; drop table organizations cascade; --",
  "' union select id, name, platform, status, version, created_at from organizations --",
  "'||pg_sleep(5)||'",
  "'||(select hash from keys limit 1)||'",
  "\\'; select 1 --",
  '\\',
  '"',
  '"; select 1 --',
  '`',
  '--',
  '/*',
  '/**/or/**/true',
  '*/',
  '#',
  ';',
  '$1',
  '$2::text',
  '$$',
  '$$; select 1; $$',
  '$tag$',
  ':name',
  '?',
  '%',
  '_',
  '%s%n%x',
  '{}',
  '{"a":1}',
  '[1]',
  '(select 1)',
  'id desc; select 1',
  'created_at',
  'null',
  "E'\\x27'",
  "U&'\\0027'",
  '\u02bc or 1=1',
  '\uff07 or 1=1',
  '0x27',
  'org_%',
  "signet.platform', 'on",
]

describe('A62 SQL metacharacters', () => {
  test('in a name are stored as they are, and come back', async () => {
    const names = []
    for (const name of METACHARACTERS) {
      const made = await operator.post<{ id: string; name: string }>('/v2/organizations', { name })
      expect([made.status, made.body.name], name).toEqual([201, name])
      const path = `/v2/organizations/${made.body.id}`
      const renamed = await operator.patch(path, { name: `x${name}x` }, { 'Idempotency-Key': made.body.id })
      expect([renamed.status, (await operator.get(path)).body.name]).toEqual([200, `x${name}x`])
      names.push(`x${name}x`)
    }
    const stored = await sql<{ name: string }[]>`select name from organizations where name = any (${names})`
    expect(new Set(stored.map(({ name }) => name))).toEqual(new Set(names))
  })

  test('in a parameter of a list are refused as any other wrong value is', async () => {
    for (const value of METACHARACTERS)
      for (const name of ['status', 'limit', 'cursor', 'sort', 'order_by', value]) {
        const query = new URLSearchParams({ [name]: value })
        const answer = await tenant.api.get<Problem>(`/v2/organizations?${query}`)
        expect([answer.status, answer.body.error.code], `${query}`).toEqual([400, 'invalid_request'])
      }
  })

  test('in an id are a missing id', async () => {
    const missing = await tenant.api.get('/v2/organizations/org_01jzzzzzzzzzzzzzzzzzzzzzzz')
    const shape = ({ text, headers }: typeof missing) => text.replace(headers.get('x-request-id') ?? '', 'id')
    for (const value of METACHARACTERS) {
      // An id with a / in it would be another path, and none that exists; the same answer all the same.
      for (const id of [value, `${tenant.client.organizationId}${value}`, `org_${value}`]) {
        const path = `/v2/organizations/${encodeURIComponent(id)}`
        for (const answer of [await tenant.api.get(path), await tenant.api.patch(path, { name: 'Found' })]) {
          expect(answer.status, path).toBe(404)
          expect(shape(answer)).toBe(shape(missing))
        }
      }
    }
  })

  test('in an Idempotency-Key and in members’ names are no more than themselves', async () => {
    for (const value of METACHARACTERS) {
      const key = { 'Idempotency-Key': `"${value.replace(/[\\"]/g, '\\$&')}"` }
      const isKey = /^[\x21-\x7e]+$/.test(value)
      if (/^[\x20-\x7e]+$/.test(value)) {
        const answer = await operator.post('/v2/organizations', { name: 'Keyed' }, key)
        expect(answer.status, value).toBe(isKey ? 201 : 400)
        if (isKey)
          expect((await operator.post('/v2/organizations', { name: 'Keyed' }, key)).text).toBe(answer.text)
      }
      const refused = await operator.post('/v2/organizations', { name: 'Named', [value]: value })
      expect(refused.status).toBe(400)
    }
  })

  test('what PostgreSQL cannot store never reaches it', async () => {
    for (const text of ['\0', 'a\0b', '\ud800', '\udfff\ud800', '\u0001', '\u007f', '\u0085']) {
      expect((await operator.post('/v2/organizations', { name: text })).status, JSON.stringify(text)).toBe(
        400,
      )
      const id = encodeURIComponent(text.toWellFormed())
      expect((await operator.get(`/v2/organizations/${id}`)).status).toBe(404)
      for (const name of ['status', 'cursor', 'limit'])
        expect((await operator.get(`/v2/organizations?${name}=${id}`)).status).toBe(400)
    }
    for (const bytes of ['%ff', '%c0%80', '%ed%a0%80', '%', '%zz', '%u0000']) {
      expect((await operator.get(`/v2/organizations/${bytes}`)).status, bytes).toBe(404)
      expect((await operator.get(`/v2/organizations?status=${bytes}`)).status, bytes).toBe(400)
      expect((await operator.get(`/v2/organizations?cursor=${bytes}`)).status, bytes).toBe(400)
    }
  })
})
