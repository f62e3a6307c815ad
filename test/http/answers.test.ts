import { connect } from 'node:net'
import { describe, expect, test } from 'vitest'
import { problemOf, rawRequest, tokenBody } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'
import { ISSUER, setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const client = await seedClient(database.sql)

/** What the server answers to these bytes, until it closes the connection or has been silent for a second. */
const exchangeBytes = (bytes: string): Promise<{ text: string; closed: boolean }> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(service.url)
    let text = ''
    const socket = connect(Number(port), hostname, () => socket.write(bytes))
    socket.setEncoding('latin1').setTimeout(1000, () => {
      socket.destroy()
      resolve({ text, closed: false })
    })
    socket.on('data', (data) => {
      text += data
    })
    socket.on('end', () => resolve({ text, closed: true }))
    socket.on('error', reject)
  })
const head = (...lines: string[]) =>
  `${['POST /v2/auth/token HTTP/1.1', 'Host: x', ...lines].join('\r\n')}\r\n\r\n`
const authorized = (...lines: string[]) =>
  head(`Authorization: ${client.key}`, 'Content-Type: application/json', ...lines)
const statusesOf = (text: string) =>
  [...text.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map(([, status]) => Number(status))

describe('a method that a resource does not have', () => {
  const PATHS = {
    '/v2/auth/token': 'POST, OPTIONS',
    '/.well-known/jwks.json': 'GET, HEAD',
    '/sandbox/.well-known/jwks.json': 'GET, HEAD',
    '/livez': 'GET, HEAD',
    '/readyz': 'GET, HEAD',
    '/errors/invalid_key': 'GET, HEAD',
  }
  test.each(Object.entries(PATHS))('%s -> 405 with Allow: %s', async (path, allow) => {
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'TRACE', 'PROPFIND', 'QUERY']) {
      if (allow.includes(method)) continue
      const answer = await rawRequest(service.url, { method, path, headers: [] })
      expect([answer.status, answer.headers.allow], method).toEqual([405, allow])
      expect(answer.headers['cache-control']).toBe('no-store')
      expect((await problemOf(answer)).error.code).toBe('method_not_allowed')
    }
  })

  test('HEAD of the token endpoint is one; a header cannot make POST of it', async () => {
    const headers = [['X-HTTP-Method-Override', 'POST'] as const, ['Authorization', client.key] as const]
    const head = await rawRequest(service.url, { method: 'HEAD', headers })
    expect([head.status, head.headers.allow, head.body]).toEqual([405, 'POST, OPTIONS', ''])
    expect((await rawRequest(service.url, { method: 'GET', headers })).status).toBe(405)
  })

  test('CONNECT is not answered at all', async () => {
    expect(await exchangeBytes('CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n')).toEqual({ text: '', closed: true })
  })
})

describe('a problem', () => {
  test('has the members of RFC 9457 and ours, and the id of its answer', async () => {
    const answer = await rawRequest(service.url, { method: 'GET', path: '/nowhere', headers: [] })
    expect(answer.status).toBe(404)
    expect(answer.headers).toMatchObject({
      'content-type': 'application/problem+json',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    })
    expect(await problemOf(answer)).toEqual({
      type: `${ISSUER}/errors/not_found`,
      title: 'Not found',
      status: 404,
      detail: expect.any(String),
      request_id: answer.headers['x-request-id'],
      error: { code: 'not_found' },
    })
  })

  test('A41 other spellings of a path lead nowhere, or to the same rules', async () => {
    for (const path of [
      '/v2/auth/token/',
      '/V2/auth/token',
      '//v2/auth/token',
      '/v2//auth/token',
      '/v2/auth%2Ftoken',
      '/v2/auth/token.',
      '/v2/auth/token;x',
      '/v2/auth/%74oken%00',
    ]) {
      const answer = await rawRequest(service.url, {
        path,
        headers: [['Content-Type', 'application/json']],
        body: '{}',
      })
      expect([401, 404], path).toContain(answer.status)
    }
  })

  test('names the member that broke a rule, never what was sent', async () => {
    const answer = await rawRequest(service.url, {
      headers: [
        ['Authorization', client.key],
        ['Content-Type', 'application/json'],
      ],
      body: JSON.stringify({
        scopes: { organization_id: 7, scopes: ['secret-value', 'a\nb'] },
        expiry_seconds: 'secret-value',
      }),
    })
    const problem = await problemOf(answer)
    expect(problem.errors).toEqual([
      { pointer: '/expiry_seconds', detail: 'must be a number' },
      { pointer: '/scopes/organization_id', detail: 'must be a string' },
    ])
    expect(answer.body).not.toContain('secret-value')
  })

  test('A55 does not repeat a key that was sent as a name', async () => {
    const answer = await rawRequest(service.url, {
      headers: [
        ['Authorization', client.key],
        ['Content-Type', 'application/json'],
      ],
      body: JSON.stringify(tokenBody(client, { [client.key]: 1 })),
    })
    expect(await problemOf(answer)).toMatchObject({
      errors: [{ pointer: '', detail: 'is not a member here' }],
    })
    expect(answer.body).not.toContain(client.key)
  })

  test('its type can be looked up', async () => {
    for (const code of ['invalid_key', 'rate_limited', 'unavailable']) {
      const answer = await fetch(`${service.url}/errors/${code}`)
      expect(await answer.json()).toMatchObject({
        code,
        status: expect.any(Number),
        title: expect.any(String),
      })
    }
    for (const code of ['nothing', '__proto__', 'constructor', '%00'])
      expect((await fetch(`${service.url}/errors/${code}`)).status).toBe(404)
  })

  test('ids are its own, each another', async () => {
    const ids = new Set<unknown>()
    for (let i = 0; i < 5; i++) {
      const headers = [['X-Request-Id', 'mine'] as const]
      ids.add((await rawRequest(service.url, { headers })).headers['x-request-id'])
    }
    expect(ids.size).toBe(5)
    expect(ids).not.toContain('mine')
  })
})

describe('A58 a body that is too long', () => {
  test('A58 announced or not -> 413, and the connection is closed', async () => {
    const announced = await exchangeBytes(authorized('Content-Length: 99999999') + 'a'.repeat(20_000))
    expect([statusesOf(announced.text), announced.closed]).toEqual([[413], true])
    const chunked = `${authorized('Transfer-Encoding: chunked')}5000\r\n${'a'.repeat(0x5000)}\r\n`
    const endless = await exchangeBytes(chunked)
    expect([statusesOf(endless.text), endless.closed]).toEqual([[413], true])
  })

  test('A58 one byte more than 16 KiB is too long, 16 KiB are not', async () => {
    const body = JSON.stringify(tokenBody(client))
    const ask = (length: number) =>
      rawRequest(service.url, {
        headers: [
          ['Authorization', client.key],
          ['Content-Type', 'application/json'],
          ['Content-Length', String(length)],
        ],
        body: body.padEnd(length),
      })
    expect((await ask(16 * 1024)).status).toBe(200)
    expect((await ask(16 * 1024 + 1)).status).toBe(413)
  })

  test('A58 who is not authenticated is refused before the body is read', async () => {
    const answer = await exchangeBytes(head('Authorization: x', 'Content-Length: 99999999'))
    expect(statusesOf(answer.text)).toEqual([401])
  })
})

describe('A59 a request that could be two', () => {
  const body = '{}'
  test.each([
    ['length and chunks', () => `${authorized('Content-Length: 5', 'Transfer-Encoding: chunked')}0\r\n\r\n`],
    ['two lengths', () => authorized('Content-Length: 2', 'Content-Length: 0') + body],
    ['a list of lengths', () => authorized('Content-Length: 2, 2') + body],
    ['a length with a sign', () => authorized('Content-Length: +2') + body],
    ['chunks that are not last', () => `${authorized('Transfer-Encoding: chunked, gzip')}0\r\n\r\n`],
    ['a space before the colon', () => authorized('Content-Length : 2') + body],
    ['a bare CR in a value', () => authorized('X-A: a\rContent-Length: 2') + body],
    ['a folded line', () => authorized('X-A: a\r\n b', 'Content-Length: 2') + body],
    ['NUL in a value', () => authorized('X-A: a\0b', 'Content-Length: 2') + body],
    [
      'a chunk size in another base',
      () => `${authorized('Transfer-Encoding: chunked')}0x2\r\n{}\r\n0\r\n\r\n`,
    ],
  ])('A59 %s -> 400, closed, and nothing behind it is answered', async (_name, bytes) => {
    const { text, closed } = await exchangeBytes(`${bytes()}GET /livez HTTP/1.1\r\nHost: x\r\n\r\n`)
    expect([statusesOf(text), closed]).toEqual([[400], true])
  })
})
