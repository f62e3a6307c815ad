/** A55 over the whole document: every operation, every way to have it refused, and secrets in all that is sent. */
import { randomBytes } from 'node:crypto'
import postgres from 'postgres'
import { afterAll, expect, inject, test } from 'vitest'
import type { OpenApiDocument, OpenApiOperation } from '../../src/http/openapi.ts'
import { createKeyFormat } from '../../src/keys/key-format.ts'
import { hitsInDatabase, spellings } from '../support/canaries.ts'
import { apiOfOperator } from '../support/management.ts'
import { mint, type RawAnswer, rawRequest, tokenBody, tokenOf } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'
import { KEY_ENCRYPTION_KEY, setUpService } from '../support/service.ts'

const { database, service } = await setUpService({
  logLevel: 'trace',
  config: { trustedProxies: ['127.0.0.1'] },
})
const superuser = postgres({
  ...inject('postgres'),
  username: 'postgres',
  database: database.target.database,
  max: 1,
  onnotice: () => {},
})
afterAll(() => superuser.end())

const client = await seedClient(database.sql)
const operator = await apiOfOperator(service)
const { token } = await tokenOf(await mint(service.url, client))
/** In the form of a JWT, and in the form of what a browser keeps; nobody's, and nowhere but in what is sent. */
const ASSERTION = ['{"alg":"ES256"}', `{"iss":"${randomBytes(24).toString('hex')}"}`, randomBytes(64)]
  .map((part) => Buffer.from(part).toString('base64url'))
  .join('.')
const COOKIE = randomBytes(24).toString('hex')

const CANARIES: Readonly<Record<string, string>> = {
  'a key': client.key,
  'an unknown key': createKeyFormat('sgt').generate('production').key,
  'an access token': token,
  'a management token': operator.token,
  'the key-encryption key': Buffer.from(KEY_ENCRYPTION_KEY).toString('base64url'),
  'a client assertion': ASSERTION,
  'a cookie': COOKIE,
}
const canaries = Object.values(CANARIES)
let turn = 0
const next = () => canaries[turn++ % canaries.length] ?? ''
/** All of them, as members that nothing asks for. */
const members = () => Object.fromEntries(canaries.map((canary) => [canary, canary]))

type Sent = { method: string; path: string; headers: (readonly [string, string])[]; body?: string }
type Operation = { method: string; template: string; operation: OpenApiOperation }

const document = (await (await fetch(`${service.url}/openapi.json`)).json()) as OpenApiDocument
const operations: Operation[] = Object.entries(document.paths).flatMap(([template, ofPath]) =>
  Object.entries(ofPath).map(([method, operation]) => ({
    method: method.toUpperCase(),
    template,
    operation,
  })),
)

/** So that it is answered by more than a 401. */
function credentialOf({ operation }: Operation): (readonly [string, string])[] {
  const schemes = (operation.security ?? []).flatMap((each) => Object.keys(each))
  if (schemes.includes('access_token')) return [['Authorization', `Bearer ${operator.token}`]]
  if (schemes.includes('key')) return [['Authorization', client.key]]
  if (schemes.includes('client'))
    return [['Authorization', `Basic ${Buffer.from(`${client.clientId}:${client.key}`).toString('base64')}`]]
  return []
}

const pathOf = ({ template }: Operation, fill: () => string) =>
  template.replace(/\{\w+\}/g, () => encodeURIComponent(fill()))
const ordinary = (operation: Operation) => pathOf(operation, () => client.clientId)
const isForm = ({ operation }: Operation) =>
  'application/x-www-form-urlencoded' in (operation.requestBody?.content ?? {})
const typeOf = (operation: Operation) =>
  ['Content-Type', isForm(operation) ? 'application/x-www-form-urlencoded' : 'application/json'] as const
const write = (operation: Operation, body: Record<string, unknown>) =>
  isForm(operation) ? new URLSearchParams(body as Record<string, string>).toString() : JSON.stringify(body)

/** How each operation is asked for; what bears a body is left out where there is none. */
const WAYS: Readonly<Record<string, (operation: Operation) => Omit<Sent, 'method'> | undefined>> = {
  'in the path': (operation) =>
    operation.template.includes('{')
      ? { path: pathOf(operation, next), headers: credentialOf(operation) }
      : { path: `${ordinary(operation)}/${next()}`, headers: credentialOf(operation) },
  'in the query': (operation) => ({
    path: `${ordinary(operation)}?${new URLSearchParams(members())}`,
    headers: credentialOf(operation),
  }),
  'in the values of the query': (operation) => ({
    path: `${ordinary(operation)}?${new URLSearchParams({ cursor: next(), limit: next(), status: next() })}`,
    headers: credentialOf(operation),
  }),
  'as a bearer': (operation) => ({
    path: ordinary(operation),
    headers: [['Authorization', `Bearer ${next()}`]],
  }),
  'as HTTP Basic': (operation) => ({
    path: ordinary(operation),
    headers: [['Authorization', `Basic ${Buffer.from(`${next()}:${next()}`).toString('base64')}`]],
  }),
  'in X-Api-Key, beside another': (operation) => ({
    path: ordinary(operation),
    headers: [['X-Api-Key', next()], ...credentialOf(operation)],
  }),
  'in other fields': (operation) => ({
    path: ordinary(operation),
    headers: [
      ...credentialOf(operation),
      typeOf(operation),
      ...[
        'Cookie',
        'Referer',
        'User-Agent',
        'X-Request-Id',
        'X-Forwarded-For',
        'Origin',
        'Accept',
        'X-Other',
      ].map((name) => [name, name === 'Cookie' ? `session=${COOKIE}` : next()] as const),
    ],
  }),
  'in the members of the body': (operation) =>
    operation.operation.requestBody && {
      path: ordinary(operation),
      headers: [...credentialOf(operation), typeOf(operation)],
      body: write(operation, members()),
    },
  'where the body should have something else': (operation) =>
    operation.operation.requestBody && {
      path: ordinary(operation),
      headers: [...credentialOf(operation), typeOf(operation)],
      body: write(operation, {
        ...tokenBody(client, { expiry_seconds: next() }),
        ...{ status: next(), environment: next(), scope: next(), grant_type: next(), reason: next() },
        ...{
          token: next(),
          client_assertion: next(),
          client_assertion_type: next(),
          organization_id: next(),
        },
      }),
    },
  'in a body that is none': (operation) =>
    operation.operation.requestBody && {
      path: ordinary(operation),
      headers: [...credentialOf(operation), typeOf(operation)],
      body: isForm(operation) ? `a=${next()}&a=${next()}%zz` : `{"${next()}":"${next()}"`,
    },
  'in the type of the body': (operation) =>
    operation.operation.requestBody && {
      path: ordinary(operation),
      headers: [...credentialOf(operation), ['Content-Type', `text/${next()}`], ['Content-Encoding', next()]],
      body: next(),
    },
  'in the Idempotency-Key': (operation) =>
    operation.operation.requestBody && {
      path: ordinary(operation),
      headers: [...credentialOf(operation), typeOf(operation), ['Idempotency-Key', next().slice(0, 255)]],
      body: write(operation, members()),
    },
}

test('A55 no secret of seven is in any log, row or answer, on more than 200 paths', {
  timeout: 120_000,
}, async () => {
  const refusals: RawAnswer[] = []
  const statuses = new Map<number, number>()
  let paths = 0
  for (const operation of operations)
    for (const [way, make] of Object.entries(WAYS)) {
      const sent = make(operation)
      if (!sent) continue
      const answer = await rawRequest(service.url, { method: operation.method, ...sent })
      expect(answer.status, `${operation.method} ${operation.template} ${way}: ${answer.body}`).toBeLessThan(
        500,
      )
      statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1)
      if (answer.status >= 400) refusals.push(answer)
      paths++
    }
  expect(paths).toBeGreaterThan(200)
  expect([...statuses.keys()].sort()).toEqual(expect.arrayContaining([400, 401, 403, 404, 415]))

  const texts = new Set<string>()
  for (const canary of canaries) {
    for (const text of spellings(canary)) texts.add(text)
    // Of a key, the secret alone would do; of a token, its signature.
    if (canary.startsWith('sgt_')) texts.add(canary.slice(21, 53))
    if (canary.split('.').length === 3) texts.add(canary.slice(canary.lastIndexOf('.') + 1))
  }
  const logs = service.logs.join('')
  expect(logs.length).toBeGreaterThan(10_000)
  expect([...texts].filter((text) => logs.includes(text))).toEqual([])
  const answers = refusals.map(({ headers, body }) => JSON.stringify(headers) + body).join('\n')
  expect([...texts].filter((text) => answers.includes(text))).toEqual([])
  expect(await hitsInDatabase(superuser, [...texts])).toBe(0)
  console.log(
    `${paths} paths of ${operations.length} operations, ${canaries.length} secrets: 0 found in ${service.logs.length} lines of log, in every table, in ${refusals.length} refusals`,
  )
})
