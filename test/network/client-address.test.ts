import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createClientAddress } from '../../src/network/client-address.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { problemOf, rawRequest, tokenBody } from '../support/mint.ts'
import { type SeededClient, seedClient } from '../support/seed.ts'
import { startService, type TestService } from '../support/service.ts'

type Request = Parameters<ReturnType<typeof createClientAddress>>[0]

const addressOf = (trusted: string[], peer: string, forwardedFor?: string) =>
  createClientAddress(trusted)({
    headers: forwardedFor === undefined ? {} : { 'x-forwarded-for': forwardedFor },
    socket: { remoteAddress: peer },
  } as Request)

describe('A24 behind trusted proxies', () => {
  const TRUSTED = ['10.0.0.0/8', '::1', 'fd00::/8']
  test.each<[what: string, peer: string, header: string | undefined, expected: string]>([
    ['no header', '10.0.0.1', undefined, '10.0.0.1'],
    ['one hop', '10.0.0.1', '203.0.113.9', '203.0.113.9'],
    ['what the client wrote itself', '10.0.0.1', '1.2.3.4, 203.0.113.9', '203.0.113.9'],
    ['a trusted address that the client wrote', '10.0.0.1', '10.9.9.9, 203.0.113.9', '203.0.113.9'],
    ['three hops', '10.0.0.1', '1.2.3.4, 203.0.113.9, 10.0.0.3, 10.0.0.2', '203.0.113.9'],
    ['an untrusted hop in between', '10.0.0.1', '203.0.113.9, 198.51.100.1, 10.0.0.2', '198.51.100.1'],
    ['trusted hops only', '10.0.0.1', '10.0.0.3, 10.0.0.2', '10.0.0.3'],
    ['an untrusted peer', '198.51.100.1', '203.0.113.9', '198.51.100.1'],
    ['IPv6', '::1', '2001:DB8:0::9', '2001:db8::9'],
    ['a mapped peer', '::ffff:10.0.0.1', '203.0.113.9', '203.0.113.9'],
    ['a mapped hop', '10.0.0.1', '203.0.113.9, ::ffff:a00:2', '203.0.113.9'],
    ['a mapped client', '10.0.0.1', '::ffff:203.0.113.9', '203.0.113.9'],
    ['a port', '10.0.0.1', '203.0.113.9:4711', '203.0.113.9'],
    ['a port, and brackets', '10.0.0.1', '[2001:db8::9]:4711', '2001:db8::9'],
    ['brackets', '10.0.0.1', '[2001:db8::9]', '2001:db8::9'],
    ['a port at a trusted hop', '10.0.0.1', '203.0.113.9, 10.0.0.2:80', '203.0.113.9'],
    ['blanks and empty entries', '10.0.0.1', ' 1.2.3.4 ,, 203.0.113.9 ,', '203.0.113.9'],
    ['nothing', '10.0.0.1', '', '10.0.0.1'],
    ['unknown', '10.0.0.1', '203.0.113.9, unknown', '10.0.0.1'],
    ['garbage', '10.0.0.1', '203.0.113.9, 1.2.3', '10.0.0.1'],
    ['octal', '10.0.0.1', '012.0.0.1', '10.0.0.1'],
    ['a number', '10.0.0.1', '3405803785', '10.0.0.1'],
    ['a zone', '10.0.0.1', 'fe80::1%eth0', '10.0.0.1'],
    ['a trusted address with a zone', '10.0.0.1', '203.0.113.9, fd00::1%x', '10.0.0.1'],
    ['quotes', '10.0.0.1', '"203.0.113.9"', '10.0.0.1'],
    ['text', '10.0.0.1', "' or 1=1 --", '10.0.0.1'],
  ])('A24 %s', (_what, peer, header, expected) => {
    expect(addressOf(TRUSTED, peer, header)).toBe(expected)
  })

  test('A23 without trusted proxies the socket is all that counts', () => {
    for (const header of ['1.2.3.4', '127.0.0.1', '::1', '203.0.113.9, 127.0.0.1'])
      expect(addressOf([], '127.0.0.1', header)).toBe('127.0.0.1')
  })
})

describe('over HTTP', () => {
  let database: TestDatabase
  let direct: TestService
  let proxied: TestService
  beforeAll(async () => {
    database = await createTestDatabase()
    direct = await startService(database)
    proxied = await startService(database, { config: { trustedProxies: ['127.0.0.1', '10.0.0.0/8'] } })
  })
  afterAll(async () => {
    await direct?.stop()
    await proxied?.stop()
    await database?.drop()
  })

  const ask = (service: TestService, client: SeededClient, headers: (readonly [string, string])[]) =>
    rawRequest(service.url, {
      headers: [['Authorization', client.key], ['Content-Type', 'application/json'], ...headers],
      body: JSON.stringify(tokenBody(client)),
    })
  const recordedAddress = async (requestId: unknown) => {
    const [row] =
      await database.sql`select host(client_ip) as ip from issued_tokens where request_id = ${String(requestId)}`
    return row?.ip
  }

  test('A23 what an untrusted peer claims changes neither the allow-list, nor the record, nor the log', async () => {
    const client = await seedClient(database.sql, { allowedCidrs: ['1.2.3.4/32'] })
    const open = await seedClient(database.sql)
    for (const name of [
      'X-Forwarded-For',
      'Forwarded',
      'X-Real-IP',
      'True-Client-IP',
      'CF-Connecting-IP',
      'X-Client-IP',
    ]) {
      const claim = name === 'Forwarded' ? 'for=1.2.3.4' : '1.2.3.4'
      const refused = await ask(direct, client, [[name, claim]])
      expect([refused.status, (await problemOf(refused)).error.code], name).toEqual([403, 'ip_not_allowed'])
      const answer = await ask(direct, open, [[name, claim]])
      expect(await recordedAddress(answer.headers['x-request-id'])).toBe('127.0.0.1')
    }
    expect(direct.logs.join('')).toContain('"client_address":"127.0.0.1"')
    expect(direct.logs.join('')).not.toContain('1.2.3.4')
  })

  test('A24 what a trusted one claims decides: the first from the right that is no proxy', async () => {
    const client = await seedClient(database.sql, { allowedCidrs: ['203.0.113.0/24'] })
    const allowed: (readonly [string, string])[][] = [
      [['X-Forwarded-For', '203.0.113.9']],
      [['X-Forwarded-For', '6.6.6.6, 203.0.113.9, 10.0.0.2']],
      // Two header lines are one list, in their order.
      [
        ['X-Forwarded-For', '6.6.6.6, 203.0.113.9'],
        ['X-Forwarded-For', '10.0.0.2'],
      ],
      // `Forwarded` is not read, whatever it says.
      [
        ['X-Forwarded-For', '203.0.113.9'],
        ['Forwarded', 'for=6.6.6.6'],
      ],
    ]
    for (const headers of allowed) {
      const answer = await ask(proxied, client, headers)
      expect(answer.status).toBe(200)
      expect(await recordedAddress(answer.headers['x-request-id'])).toBe('203.0.113.9')
    }
    const refused: (readonly [string, string])[][] = [
      [],
      [['Forwarded', 'for=203.0.113.9']],
      [['X-Forwarded-For', '203.0.113.9, 6.6.6.6']],
      [
        ['X-Forwarded-For', '203.0.113.9'],
        ['X-Forwarded-For', '6.6.6.6'],
      ],
      [['X-Forwarded-For', '203.0.113.9, garbage']],
      [
        ['X-Forwarded-For', '6.6.6.6'],
        ['Forwarded', 'for=203.0.113.9'],
      ],
    ]
    for (const headers of refused) expect((await ask(proxied, client, headers)).status).toBe(403)
  })

  test('A26 an absent allow-list admits all, an empty one nobody', async () => {
    const absent = await seedClient(database.sql, { allowedCidrs: null })
    const empty = await seedClient(database.sql, { allowedCidrs: [] })
    const everybody = await seedClient(database.sql, { allowedCidrs: ['0.0.0.0/0', '::/0'] })
    for (const address of ['203.0.113.9', '2001:db8::1', '127.0.0.1']) {
      const headers = [['X-Forwarded-For', address] as const]
      expect((await ask(proxied, absent, headers)).status).toBe(200)
      expect((await ask(proxied, empty, headers)).status).toBe(403)
      expect((await ask(proxied, everybody, headers)).status).toBe(200)
    }
  })

  test('A26 an entry that is no network is refused when it is written', async () => {
    for (const entry of [
      '10.0.0.0/33',
      '10.0.0.1/8',
      '256.0.0.0/8',
      '010.0.0.0/8x',
      'garbage',
      '',
      '10.0.0.0/',
    ])
      await expect(seedClient(database.sql, { allowedCidrs: [entry] }), entry).rejects.toThrow(/cidr/)
  })

  test('an allow-list that is narrowed counts at once', async () => {
    const client = await seedClient(database.sql, { allowedCidrs: ['127.0.0.0/8'] })
    expect((await ask(direct, client, [])).status).toBe(200)
    await database.sql`update clients set allowed_cidrs = '{192.0.2.0/24}' where id = ${client.clientId}`
    expect((await ask(direct, client, [])).status).toBe(403)
    await database.sql`update clients set allowed_cidrs = '{::ffff:127.0.0.0/104}' where id = ${client.clientId}`
    expect((await ask(direct, client, [])).status).toBe(200)
  })
})
