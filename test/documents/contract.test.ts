/** That the contract which every answer of the suite is held against would notice. */
import { expect, test } from 'vitest'
import type { OpenApiDocument } from '../../src/http/openapi.ts'
import { createContract, watch } from '../support/contract.ts'
import { setUpService } from '../support/service.ts'

const { service } = await setUpService()
const document = (await (await fetch(`${service.url}/openapi.json`)).json()) as OpenApiDocument
const contract = createContract(document)

const ORGANIZATION = {
  id: 'org_01kb2d3v7fe8ntqr5x9w0c4m6h',
  name: 'Acme',
  platform: false,
  status: 'active',
  created_at: '2026-11-22T09:30:00.000Z',
}
const problem = (code: string, status: number) => ({
  type: `https://signet.test/errors/${code}`,
  title: 'Title',
  status,
  detail: 'Detail.',
  request_id: '5f0c3a52-9d1e-4c0b-8a53-7f6f2f6f1a10',
  error: { code },
})
const PATH = `/v2/organizations/${ORGANIZATION.id}`

function violations(
  status: number,
  body: object | string | undefined,
  more: { method?: string; path?: string; type?: string; headers?: Record<string, string> } = {},
): string[] {
  const type = more.type ?? (status < 400 ? 'application/json' : 'application/problem+json')
  return contract.violationsOf({
    method: more.method ?? 'GET',
    path: more.path ?? PATH,
    status,
    headers: new Headers({ 'content-type': type, 'x-request-id': 'x', ...more.headers }),
    body: typeof body === 'object' ? JSON.stringify(body) : body,
  })
}

test('what the document says is no violation', () => {
  expect(violations(200, ORGANIZATION)).toEqual([])
  expect(violations(200, undefined, { method: 'HEAD' })).toEqual([])
  expect(violations(404, problem('not_found', 404))).toEqual([])
  expect(
    violations(401, problem('invalid_token', 401), { headers: { 'www-authenticate': 'Bearer' } }),
  ).toEqual([])
  expect(violations(404, problem('not_found', 404), { path: '/nowhere' })).toEqual([])
  expect(violations(405, problem('method_not_allowed', 405), { method: 'PUT' })).toEqual([])
})

test('what an endpoint of OAuth refuses has OAuth’s form, and a path that is none that of problems', () => {
  const refusal = { error: 'invalid_client', error_description: 'No.' }
  const headers = { 'www-authenticate': 'Basic', 'cache-control': 'no-store', pragma: 'no-cache' }
  const asked = { method: 'POST', path: '/oauth2/token', type: 'application/json', headers }
  expect(violations(401, refusal, asked)).toEqual([])
  expect(violations(405, { ...refusal, error: 'invalid_request' }, { ...asked, method: 'GET' })).toEqual([])
  expect(violations(404, problem('not_found', 404), { path: '/oauth2/authorize' })).toEqual([])

  for (const broken of [
    violations(401, { ...refusal, error: 'invalid_scope' }, asked),
    violations(401, { ...refusal, error: 'made_up' }, asked),
    violations(401, { ...refusal, error_description: 'Say "no".' }, asked),
    violations(401, refusal, { ...asked, headers: { 'www-authenticate': 'Basic', pragma: 'no-cache' } }),
    violations(401, problem('invalid_key', 401), { ...asked, type: 'application/problem+json' }),
    violations(405, problem('method_not_allowed', 405), {
      ...asked,
      method: 'GET',
      type: 'application/problem+json',
    }),
    violations(403, refusal, asked),
  ])
    expect(broken).toHaveLength(1)
})

test.each([
  ['a status', violations(202, ORGANIZATION)],
  ['a media type', violations(200, ORGANIZATION, { type: 'text/plain' })],
  ['a missing member', violations(200, { ...ORGANIZATION, name: undefined })],
  ['a member too many', violations(200, { ...ORGANIZATION, secret: 'x' })],
  ['a member of another type', violations(200, { ...ORGANIZATION, platform: 'no' })],
  ['a value out of its list', violations(200, { ...ORGANIZATION, status: 'deleted' })],
  ['a moment without milliseconds and zone', violations(200, { ...ORGANIZATION, created_at: '2026-11-22' })],
  ['a body that is no JSON', violations(200, 'ok')],
  [
    'an error that the operation does not list',
    violations(401, problem('invalid_key', 401), { headers: { 'www-authenticate': 'Bearer' } }),
  ],
  ['a 401 without a challenge', violations(401, problem('invalid_token', 401))],
  ['a 429 without Retry-After', violations(429, problem('rate_limited', 429))],
  [
    'an answer without its id',
    contract.violationsOf({
      method: 'GET',
      path: PATH,
      status: 200,
      headers: new Headers({ 'content-type': 'application/json' }),
      body: JSON.stringify(ORGANIZATION),
    }),
  ],
  ['a success where nothing is', violations(200, ORGANIZATION, { path: '/v2/nothing' })],
  ['a method that is not there', violations(200, ORGANIZATION, { method: 'PUT' })],
])('%s is one', (_, found) => {
  expect(found).toHaveLength(1)
})

test('watching an application changes none of its answers, and remembers what was wrong with them', async () => {
  const answers = [
    Response.json(ORGANIZATION, { headers: { 'x-request-id': 'x' } }),
    Response.json({}, { status: 299 }),
  ]
  const watched = watch({ fetch: () => answers.shift() ?? Response.error(), doors: {} }, () => contract)
  const bindings = { outgoing: { getHeaders: () => ({}) } }
  const good = await watched.fetch(new Request(`${service.url}${PATH}`), bindings)
  expect([good.status, await good.json()]).toEqual([200, ORGANIZATION])
  expect([...watched.violations]).toEqual([])
  const bad = await watched.fetch(new Request(`${service.url}${PATH}?a=b`), bindings)
  expect([bad.status, await bad.text()]).toEqual([299, '{}'])
  expect([...watched.violations.keys()].join()).toContain(`GET ${PATH} → 299`)
})
