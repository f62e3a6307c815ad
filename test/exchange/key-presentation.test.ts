import { connect } from 'node:net'
import { describe, expect, test } from 'vitest'
import { checksum, createKeyFormat } from '../../src/keys/key-format.ts'
import { fingerprint, mint, problemOf, rawRequest, tokenBody } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const client = await seedClient(database.sql)

type Lines = (readonly [string, string])[]

const present = (headers: Lines, body: object = tokenBody(client), path = '/v2/auth/token') =>
  rawRequest(service.url, {
    headers: [...headers, ['Content-Type', 'application/json']],
    body: JSON.stringify(body),
    path,
  })

/** While the keys cannot be read: whatever is answered now was answered without them. */
async function withUnreadableKeys(work: () => Promise<void>): Promise<void> {
  await database.sql`alter table keys rename to keys_away`
  try {
    await work()
  } finally {
    await database.sql`alter table keys_away rename to keys`
  }
}

/** What the server sends until it closes the connection. */
const exchangeBytes = (bytes: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(service.url)
    let answer = ''
    const socket = connect(Number(port), hostname, () => socket.write(bytes))
    socket.setEncoding('latin1')
    socket.on('data', (data) => {
      answer += data
    })
    socket.on('close', () => resolve(answer))
    socket.on('error', reject)
  })

describe('a key is presented exactly once', () => {
  test('as Authorization, as Bearer in any case, or as X-Api-Key', async () => {
    const ways: [string, string][] = [
      ['Authorization', client.key],
      ['authorization', `Bearer ${client.key}`],
      ['AUTHORIZATION', `bEARER ${client.key}`],
      ['X-Api-Key', client.key],
    ]
    for (const way of ways) expect((await present([way])).status, way[0]).toBe(200)
  })

  test('A4 twice, or in a header and the body -> 400', async () => {
    const twice: Lines[] = [
      [
        ['Authorization', client.key],
        ['Authorization', client.key],
      ],
      [
        ['Authorization', client.key],
        ['authorization', 'Bearer x'],
      ],
      [
        ['X-Api-Key', client.key],
        ['X-Api-Key', client.key],
      ],
      [
        ['Authorization', `Bearer ${client.key}`],
        ['X-Api-Key', client.key],
      ],
      [
        ['Authorization', ''],
        ['X-Api-Key', client.key],
      ],
    ]
    for (const headers of twice) {
      const answer = await present(headers)
      expect(answer.status).toBe(400)
      expect((await problemOf(answer)).error.code).toBe('invalid_request')
    }
    const inBody = await present([['Authorization', client.key]], tokenBody(client, { api_key: client.key }))
    expect(inBody.status).toBe(400)
    expect(inBody.body).not.toContain(client.key)
  })

  test('A5 other schemes, other blanks and lists -> 401', async () => {
    const { key } = client
    const texts = [
      `Basic ${key}`,
      `Basic ${Buffer.from(`${key}:`).toString('base64')}`,
      `Token ${key}`,
      `Bearer\t${key}`,
      `Bearer  ${key}`,
      `Bearer ${key}, Bearer ${key}`,
      `${key}, ${key}`,
      `Bearer ${key},`,
      `Bearer Bearer ${key}`,
      `Bearer`,
      `Bearer: ${key}`,
      `Bearer="${key}"`,
      `"${key}"`,
      `DPoP ${key}`,
    ]
    for (const text of texts) expect((await present([['Authorization', text]])).status, text).toBe(401)
    expect((await present([['X-Api-Key', `Bearer ${key}`]])).status).toBe(401)
  })

  test('A6 a key in the query -> 400, and it is in no log', async () => {
    const other = await seedClient(database.sql)
    const path = `/v2/auth/token?api_key=${other.key}`
    for (const headers of [[], [['Authorization', client.key] as const]]) {
      const answer = await present(headers, tokenBody(client), path)
      expect(answer.status).toBe(400)
      expect(answer.body).not.toContain(other.key)
    }
    await rawRequest(service.url, { method: 'GET', path: `/nowhere?key=${other.key}`, headers: [] })
    await rawRequest(service.url, { method: 'GET', path: `/errors/${other.key}`, headers: [] })
    const logs = service.logs.join('')
    expect(logs).toContain('"route":"/v2/auth/token"')
    expect(logs).not.toContain(other.key)
    expect((await mint(service.url, other)).status).toBe(200)
  })

  test('A7 names of JavaScript -> 401, and no crash', async () => {
    const format = createKeyFormat('sgt')
    for (const name of ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty']) {
      expect((await present([[name, client.key]])).status).toBe(401)
      expect((await present([['Authorization', name]])).status).toBe(401)
      expect(format.parse(name)).toBeUndefined()
    }
    // As lookup ids, with a checksum that is right: they name no key.
    for (const name of ['constructor0', 'toString0000', 'valueOf00000']) {
      const body = `sgt_test_${name}${'0'.repeat(32)}`
      expect((await present([['Authorization', body + checksum(body)]])).status).toBe(401)
    }
  })
})

describe('what is no key', () => {
  test('A1 nothing, 1 byte and 8 KB get the same 401, without a read', async () => {
    const unknown = createKeyFormat('sgt').generate('sandbox').key
    const expected = fingerprint(await present([['Authorization', unknown]]))
    expect(expected).toMatchObject({
      status: 401,
      headers: { 'www-authenticate': 'Bearer realm="signet", error="invalid_token"' },
      body: expect.stringContaining('"error":{"code":"invalid_key"}'),
    })
    await withUnreadableKeys(async () => {
      // That they cannot be read shows with a key that could be one:
      expect((await present([['Authorization', unknown]])).status).toBe(503)
      for (const text of ['', 'x', 'x'.repeat(8192), 'Bearer ', 'Bearer x']) {
        for (const name of ['Authorization', 'X-Api-Key'])
          expect(fingerprint(await present([[name, text]]))).toEqual(expected)
      }
    })
  })

  test('A1 no key at all is challenged without an error (RFC 6750 §3.1)', async () => {
    const answer = await present([])
    expect(answer.status).toBe(401)
    expect(answer.headers['www-authenticate']).toBe('Bearer realm="signet"')
    expect((await problemOf(answer)).error.code).toBe('invalid_key')
  })

  test('A1 a header past the limit -> 431, and the connection is closed', async () => {
    const answer = await exchangeBytes(
      `POST /v2/auth/token HTTP/1.1\r\nHost: x\r\nAuthorization: ${'x'.repeat(17_000)}\r\n\r\n`,
    )
    expect(answer).toMatch(/^HTTP\/1\.1 431 /)
    expect(answer).toMatch(/connection: close/i)
  })

  test('A2 a wrong checksum -> 401 without a read; a right one proves nothing', async () => {
    // Of a key that was never seen: what is in memory needs no read anyhow.
    const { key } = createKeyFormat('sgt').generate('sandbox')
    const misspelt = key.slice(0, -1) + (key.endsWith('0') ? '1' : '0')
    await withUnreadableKeys(async () => {
      expect((await present([['Authorization', misspelt]])).status).toBe(401)
      expect((await present([['Authorization', key]])).status).toBe(503)
    })
    // The client's lookup id, another secret, and a checksum that fits.
    const body = `${client.key.slice(0, 21)}${'A'.repeat(32)}`
    const forged = body + checksum(body)
    expect(createKeyFormat('sgt').parse(forged)).toBeDefined()
    expect((await mint(service.url, client)).status).toBe(200)
    expect((await present([['Authorization', forged]])).status).toBe(401)
  })

  test('A3 a key that is nearly the same -> 401', async () => {
    const { key } = client
    const utf8 = (text: string) => Buffer.from(text).toString('latin1')
    const variants = {
      'BOM before': utf8(`\ufeff${key}`),
      'no-break space after': utf8(`${key}\u00a0`),
      'zero-width space inside': utf8(`${key.slice(0, 20)}\u200b${key.slice(20)}`),
      'Cyrillic homoglyph': utf8(key.replace('s', '\u0455')),
      'full-width digit': utf8(`${key.slice(0, -1)}\uff10`),
      'combining accent (NFD)': utf8(`${key}\u0301`),
      'percent-encoded underscore': key.replace('_', '%5f'),
      'percent-encoded': `%73${key.slice(1)}`,
      'upper-case prefix': key.replace('sgt_test_', 'SGT_TEST_'),
      'capital in the prefix': key.replace('sgt', 'Sgt'),
      'upper case': key.toUpperCase(),
      'the other environment': key.replace('_test_', '_live_'),
      'one character more': `${key}0`,
      'one character less': key.slice(0, -1),
      quoted: `"${key}"`,
      'semicolon after': `${key};`,
    }
    for (const [name, text] of Object.entries(variants)) {
      expect((await present([['Authorization', text]])).status, name).toBe(401)
      expect((await present([['Authorization', `Bearer ${text}`]])).status, name).toBe(401)
      expect((await present([['X-Api-Key', text]])).status, name).toBe(401)
    }
  })

  test('A3 trailing and leading characters that HTTP removes or refuses fail at the parser', async () => {
    const format = createKeyFormat('sgt')
    expect(format.parse(client.key)).toBeDefined()
    for (const text of [' ', '\t', '\n', '\r\n', '\0', '\ufeff', '\u2028']) {
      expect(format.parse(client.key + text), JSON.stringify(text)).toBeUndefined()
      expect(format.parse(text + client.key), JSON.stringify(text)).toBeUndefined()
    }
    const nul = `POST /v2/auth/token HTTP/1.1\r\nHost: x\r\nAuthorization: ${client.key}\0\r\n\r\n`
    expect(await exchangeBytes(nul)).toMatch(/^HTTP\/1\.1 400 /)
  })
})
