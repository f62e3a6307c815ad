/** One resource, two ways to it: the server opens its door for exactly its path, and the router for other spellings. */
import { expect, test } from 'vitest'
import { rawRequest, tokenBody } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const client = await seedClient(database.sql)

const ask = (path: string, key: string, body = JSON.stringify(tokenBody(client))) =>
  rawRequest(service.url, {
    path,
    headers: [
      ['Authorization', `Bearer ${key}`],
      ['Content-Type', 'application/json'],
    ],
    body,
  })

/** Names only, and what does not differ from one request to the next. */
const shapeOf = ({ status, headers }: Awaited<ReturnType<typeof ask>>) => ({
  status,
  names: Object.keys(headers).sort(),
  type: headers['content-type'],
  caching: headers['cache-control'],
})

test.each([
  ['a token', client.key, undefined],
  ['an unknown key', `${client.key.slice(0, -1)}x`, undefined],
  ['a body that is none', client.key, '{'],
])('%s is answered alike by its path and by the absolute form of it', async (_, key, body) => {
  const direct = await ask('/v2/auth/token', key, body)
  const routed = await ask(`${service.url}/v2/auth/token`, key, body)
  expect(shapeOf(routed)).toEqual(shapeOf(direct))
  expect(direct.headers['x-request-id']).not.toBe(routed.headers['x-request-id'])
})

test('a query is refused, and what only resembles the path is not found', async () => {
  expect((await ask('/v2/auth/token?', client.key)).status).toBe(400)
  for (const path of [
    '/v2/auth/token/',
    '//v2/auth/token',
    '/v2/auth/Token',
    '/v2/auth/token;x',
    '/v2/auth%2Ftoken',
  ])
    expect((await ask(path, client.key)).status, path).toBe(404)
})
