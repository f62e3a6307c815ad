/** What may stand in Idempotency-Key, and what makes two requests the same. */
import { describe, expect, test } from 'vitest'
import { fingerprintOf, parseIdempotencyKey } from '../../src/management/idempotency.ts'
import { apiOfOperator } from '../support/management.ts'
import { rawRequest } from '../support/mint.ts'
import { setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const { sql } = database
const operator = await apiOfOperator(service)
const countOf = async (name: string) => (await sql`select from organizations where name = ${name}`).count

describe('a key', () => {
  const send = (lines: readonly string[]) =>
    rawRequest(service.url, {
      path: '/v2/organizations',
      headers: [
        ['Authorization', `Bearer ${operator.token}`],
        ['Content-Type', 'application/json'],
        ...lines.map((line) => ['Idempotency-Key', line] as const),
      ],
      body: '{"name":"Keyed"}',
    })

  test.each([
    ['empty', ['']],
    ['of white space', [' ']],
    ['of 256 characters', ['x'.repeat(256)]],
    ['of 256 characters in quotes', [`"${'x'.repeat(256)}"`]],
    ['not of ASCII', ['caf\u00e9']],
    ['not of ASCII in quotes', ['"caf\u00e9"']],
    ['with a space', ['a b']],
    ['with a space in quotes', ['"a b"']],
    ['with a tab', ['a\tb']],
    ['of empty quotes', ['""']],
    ['with a quote that does not close', ['"a']],
    ['with a quote that does not open', ['a"']],
    ['with a backslash', ['a\\b']],
    ['with an escape that is none', ['"a\\b"']],
    ['with parameters', ['"a";b=1']],
    ['that is a list', ['"a", "b"']],
    ['on two lines', ['a', 'b']],
    ['on two lines, the same', ['a', 'a']],
  ])('%s is refused, with no effect', async (_what, lines) => {
    const refused = await send(lines)
    expect(refused.status).toBe(400)
    expect(JSON.parse(refused.body)).toMatchObject({ error: { code: 'invalid_request' } })
    expect(await countOf('Keyed')).toBe(0)
  })

  test('of 1 to 255 visible characters is taken, in quotes or bare', () => {
    const parse = (line: string) => parseIdempotencyKey({ headersDistinct: { 'idempotency-key': [line] } })
    for (const key of ['x', 'x'.repeat(255), "!#$%&'()*+,-./:;<=>?@[]^_`{|}~"]) {
      expect(parse(key)).toBe(key)
      expect(parse(`"${key}"`)).toBe(key)
    }
    expect(parse('"\\"\\\\"')).toBe('"\\')
    expect(parse(`"${'\\"'.repeat(255)}"`)).toBe('"'.repeat(255))
    expect(parseIdempotencyKey({ headersDistinct: {} })).toBeUndefined()
  })

  test('that cannot be one is not looked at before it is known who asks', async () => {
    const answer = await rawRequest(service.url, {
      path: '/v2/organizations',
      headers: [['Idempotency-Key', '']],
      body: '',
    })
    expect(answer.status).toBe(401)
  })
})

test('different bodies have different fingerprints, however alike their members are', () => {
  const bodies = [
    undefined,
    null,
    {},
    [],
    '',
    0,
    false,
    { a: 1 },
    [['a', 1]],
    { a: [1] },
    { a: { 0: 1 } },
    { a: '1' },
    { a: 1, b: 2 },
    [
      ['a', 1],
      ['b', 2],
    ],
    { a: null },
    JSON.parse('{"__proto__":1}'),
    JSON.parse('{"a":1e400}'),
  ]
  const prints = bodies.map((body) => Buffer.from(fingerprintOf('POST', '/v2/x', body)).toString('hex'))
  expect(new Set(prints).size).toBe(bodies.length)
})
