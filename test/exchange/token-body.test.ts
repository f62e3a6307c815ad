import { describe, expect, test } from 'vitest'
import { problemOf, rawRequest, tokenBody } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const client = await seedClient(database.sql)

const JSON_TYPE = [['Content-Type', 'application/json']] as const
const post = (body: string | Buffer, headers: readonly (readonly [string, string])[] = JSON_TYPE) =>
  rawRequest(service.url, { headers: [['Authorization', client.key], ...headers], body })

/** The body as JSON text, with members written as they are given. */
const withMembers = (members: string) =>
  `{${members},"scopes":{"organization_id":"${client.organizationId}","scopes":["transactions:read"]}}`
const withScopes = (scopes: string) =>
  `{"scopes":{"organization_id":"${client.organizationId}","scopes":${scopes}}}`

/** The pointers of a body that must be refused. */
async function pointersOf(body: string): Promise<string[]> {
  const answer = await post(body)
  const problem = await problemOf(answer)
  expect([answer.status, problem.error.code], body).toEqual([400, 'invalid_request'])
  return (problem.errors ?? []).map((error) => error.pointer)
}

test('the bodies below are refused for what each says, not for how it is sent', async () => {
  expect((await post(withMembers('"expiry_seconds":900'))).status).toBe(200)
  expect((await post(JSON.stringify(tokenBody(client), undefined, 2))).status).toBe(200)
})

test('A8 duplicate names -> 400, however they are spelt', async () => {
  const organization = `"organization_id":"${client.organizationId}"`
  const scopes = '"scopes":["transactions:read"]'
  for (const body of [
    withMembers('"expiry_seconds":300,"expiry_seconds":86400'),
    withMembers('"expiry_seconds":300,"expiry_second\\u0073":300'),
    `{"scopes":{${organization},${scopes}},"scopes":{${organization},${scopes}}}`,
    `{"scopes":{${organization},${organization},${scopes}}}`,
    `{"scopes":{${organization},${scopes},"\\u0073copes":["admin"]}}`,
    withMembers('"__proto__":1,"__proto__":2'),
  ])
    expect(await pointersOf(body)).toEqual([])
})

test('A9 __proto__ and constructor -> 400, and no object has a new member', async () => {
  for (const body of [
    withMembers('"__proto__":{"scope":"admin"}'),
    withMembers('"constructor":{"prototype":{"scope":"admin"}}'),
    withMembers('"toString":1'),
    `{"__proto__":${withScopes('["transactions:read"]')}}`,
    `{"scopes":{"__proto__":{"organization_id":"${client.organizationId}","scopes":["transactions:read"]}}}`,
  ])
    expect((await pointersOf(body)).length, body).toBeGreaterThan(0)
  expect(Reflect.get({}, 'scope')).toBeUndefined()
})

describe('A10 a value of another kind -> 400', () => {
  const cases: [name: string, body: () => string, pointers: string[]][] = [
    ['scopes is text', () => withScopes('"transactions:read"'), ['/scopes/scopes']],
    ['scopes is an object', () => withScopes('{"0":"transactions:read"}'), ['/scopes/scopes']],
    ['a scope is a list', () => withScopes('[["transactions:read"]]'), ['/scopes/scopes/0']],
    ['a scope is a number', () => withScopes('["transactions:read",1]'), ['/scopes/scopes/1']],
    ['no scope', () => withScopes('[]'), ['/scopes/scopes']],
    ['101 scopes', () => withScopes(JSON.stringify(Array(101).fill('a'))), ['/scopes/scopes']],
    [
      'scopes is a list',
      () => '{"scopes":["transactions:read"]}',
      ['/scopes/organization_id', '/scopes/scopes', '/scopes/0'],
    ],
    ['scopes is null', () => '{"scopes":null}', ['/scopes']],
    ['no scopes', () => '{}', ['/scopes']],
    ['no organization', () => '{"scopes":{"scopes":["a"]}}', ['/scopes/organization_id']],
    [
      'an empty organization',
      () => '{"scopes":{"organization_id":"","scopes":["a"]}}',
      ['/scopes/organization_id'],
    ],
    ['a huge number', () => withMembers('"expiry_seconds":1e400'), ['/expiry_seconds']],
    ['a lone surrogate', () => withMembers('"audience":"\\ud800"'), ['/audience']],
    ['not an object', () => '42', ['']],
    ['null', () => 'null', ['']],
    ['a list', () => '[]', ['']],
    ['nothing', () => '', []],
    ['half', () => '{"scopes":', []],
    ['two values', () => '{} {}', []],
    ['a comment', () => '{}//', []],
    ['single quotes', () => "{'scopes':{}}", []],
    ['NaN', () => withMembers('"expiry_seconds":NaN'), []],
    ['a byte order mark', () => `\ufeff${withScopes('["transactions:read"]')}`, []],
    ['nested 7 000 deep', () => '['.repeat(7000) + ']'.repeat(7000), []],
    ['nested 10⁴ deep and cut off', () => '['.repeat(10_000), []],
    ['objects nested 2 700 deep', () => `${'{"a":'.repeat(2700)}1${'}'.repeat(2700)}`, []],
  ]
  test.each(cases)('A10 %s', async (_name, body, pointers) => {
    expect(await pointersOf(body())).toEqual(pointers)
  })

  test('A10 a lone surrogate in a scope or an organization', async () => {
    const scope = await post(withScopes('["\\ud800"]'))
    expect((await problemOf(scope)).error.code).toBe('invalid_scope')
    const organization = '{"scopes":{"organization_id":"org_\\udfff","scopes":["a"]}}'
    expect(await pointersOf(organization)).toEqual(['/scopes/organization_id'])
  })

  test('A10 bytes that are no UTF-8', async () => {
    const body = Buffer.from(withMembers('"audience":"\xff"'), 'latin1')
    expect((await problemOf(await post(body))).error.code).toBe('invalid_request')
  })

  test('A10 none of them is slow', async () => {
    const slow = [
      '['.repeat(8000) + ']'.repeat(8000),
      `"${'\\"'.repeat(8000)}`,
      '"'.repeat(16_000),
      `[${'"\\\\",'.repeat(2500)}"x"`,
      `{${Array.from({ length: 1600 }, (_, i) => `"${i}":{}`).join(',')}}`,
    ]
    for (const body of slow) {
      const times: number[] = []
      for (let i = 0; i < 5; i++) {
        const began = performance.now()
        expect((await post(body)).status).toBe(400)
        times.push(performance.now() - began)
      }
      expect(times.sort((a, b) => a - b)[2]).toBeLessThan(50)
    }
  })
})

test('A11 claims in the body are unknown members', async () => {
  for (const name of ['tenantId', 'userId', 'sub', 'iss', 'exp', 'aud', 'client_id', 'expiry', 'partner_id'])
    expect(await pointersOf(withMembers(`"${name}":"x"`))).toEqual([`/${name}`])
  const inside = `{"scopes":{"organization_id":"${client.organizationId}","scopes":["a"],"partner_id":"x"}}`
  expect(await pointersOf(inside)).toEqual(['/scopes/partner_id'])
  // RFC 6901 §3: `/` and `~` are escaped.
  expect(await pointersOf(withMembers('"a/b~c":1'))).toEqual(['/a~1b~0c'])
})

test('A12 an expiry that is no integer from 300 to 86400 -> 400, never cut to fit', async () => {
  for (const value of [
    '-1',
    '0',
    '299',
    '86401',
    '1e9',
    '1.5',
    '300.5',
    '"900"',
    'null',
    'true',
    '[900]',
    '-0',
    '1e-7',
  ])
    expect(await pointersOf(withMembers(`"expiry_seconds":${value}`))).toEqual(['/expiry_seconds'])
  for (const value of ['300', '86400', '9e2', '900.0'])
    expect((await post(withMembers(`"expiry_seconds":${value}`))).status).toBe(200)
})

describe('A13 another media type or a coding -> 415', () => {
  const body = () => withScopes('["transactions:read"]')
  const types = [
    'text/plain',
    'text/json',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/jsonp',
    'application/json, text/plain',
    'application/json; charset=iso-8859-1',
    'application/json; charset=utf-8; x=y',
    'application/merge-patch+json',
    '',
  ]
  test.each(types)('A13 %s', async (type) => {
    const answer = await post(body(), [['Content-Type', type]])
    expect(answer.status).toBe(415)
    expect(answer.headers.accept).toBe('application/json')
    expect((await problemOf(answer)).error.code).toBe('unsupported_media_type')
  })

  test('A13 no type, two types, a compressed body', async () => {
    expect((await post(body(), [])).status).toBe(415)
    const two = await post(body(), [...JSON_TYPE, ['Content-Type', 'text/plain']])
    expect([200, 415]).toContain(two.status)
    for (const coding of ['gzip', 'br', 'identity, gzip', 'x'])
      expect((await post(body(), [...JSON_TYPE, ['Content-Encoding', coding]])).status).toBe(415)
  })

  test.each([
    'application/json',
    'Application/JSON',
    'application/json; charset=utf-8',
    'application/json;charset="UTF-8"',
  ])('and %s is what it takes', async (type) => {
    expect((await post(body(), [['Content-Type', type]])).status).toBe(200)
  })
})
