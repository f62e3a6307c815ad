import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { seedClient } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'
import { AMBIGUOUS } from './ambiguous.ts'
import { type ReverseProxy, startHaproxy, startNginx } from './proxies.ts'
import { sendRaw, statusesOf } from './raw.ts'
import { type Recorder, startRecorder } from './recorder.ts'

const { database, service } = await setUpService()
const port = Number(new URL(service.url).port)
const client = await seedClient(database.sql)

const SECOND = 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n'

describe('A59 direct', () => {
  test.each(Object.entries(AMBIGUOUS))('A59 %s -> 400, closed, no second answer', async (name, bytes) => {
    const { text, statuses, isClosed } = await sendRaw(port, bytes + SECOND)
    // A fault in a body that nobody waited for comes too late: its request has been answered, and there is no other.
    const expected = name.startsWith('a chunk that is longer') ? [404] : [400]
    expect([statuses, isClosed], text).toEqual([expected, true])
    if (expected[0] === 404) return
    // A whole answer, which says nothing of what was sent.
    const [head = '', body = ''] = text.split('\r\n\r\n')
    expect(head).toMatch(/^Connection: close$/im)
    expect(head).toMatch(new RegExp(`^Content-Length: ${body.length}$`, 'im'))
    expect(JSON.parse(body)).toEqual({
      title: 'Bad Request',
      status: 400,
      error: { code: 'invalid_request' },
    })
  })

  test('A59 what came in one piece with a refused request has no effect', async () => {
    const count = async () => (await database.sql`select from issued_tokens`).count
    const body = JSON.stringify({
      scopes: { organization_id: client.organizationId, scopes: client.scopes },
    })
    const mint = [
      'POST /v2/auth/token HTTP/1.1',
      'Host: x',
      `Authorization: ${client.key}`,
      'Content-Type: application/json',
      `Content-Length: ${body.length}`,
      '',
      body,
    ].join('\r\n')
    expect((await sendRaw(port, mint, 500)).statuses).toEqual([200])
    const before = await count()
    for (const name of ['two Hosts', 'no Host', 'TE gzip, chunked', 'another authority in the target'])
      expect((await sendRaw(port, AMBIGUOUS[name] + mint)).statuses, name).toEqual([400])
    expect(await count()).toBe(before)
    // And one that is not refused keeps its answer, whatever comes behind it.
    const { text, statuses } = await sendRaw(port, `${mint}\0`)
    expect([statuses, text.includes('"token"')]).toEqual([[200, 400], true])
    expect(await count()).toBe(before + 1)
  })

  test('A59 an expectation that nobody knows is no way around', async () => {
    for (const lines of ['Host: a', 'Host: a\r\nHost: b', 'Host: a\r\nTransfer-Encoding: gzip, chunked']) {
      const request = `POST /livez HTTP/1.1\r\n${lines}\r\nExpect: x\r\nContent-Length: 0\r\n\r\n`
      const { text, statuses, isClosed } = await sendRaw(port, request + SECOND)
      expect([statuses.length, isClosed], text).toEqual([1, true])
      expect([400, 417]).toContain(statuses[0])
    }
  })

  test('A1 A59 what is too large is said to be, and the connection is closed', async () => {
    for (const bytes of [
      `GET /livez HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`,
      `GET /livez?${'a'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
      `GET /livez HTTP/1.1\r\nHost: x\r\n${'a:\r\n'.repeat(200)}\r\n`,
      `GET /livez HTTP/1.1\r\nHost: x\r\n${'a: b\r\n'.repeat(5000)}Host: y\r\n\r\n`,
      `GET /livez HTTP/1.1\r\nHost: x\r\nAuthorization: ${'a'.repeat(100_000)}`,
    ]) {
      const { text, statuses, isClosed } = await sendRaw(port, bytes + SECOND)
      expect([statuses, isClosed]).toEqual([[431], true])
      expect(JSON.parse(text.split('\r\n\r\n')[1] ?? '')).toMatchObject({ status: 431 })
      expect(text).not.toContain('aaaa')
    }
  })

  test('A59 no protocol is changed to: the answer is the last of its connection', async () => {
    for (const protocol of ['h2c', 'websocket', 'TLS/1.0']) {
      const upgrade = `GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`
      const { statuses, isClosed } = await sendRaw(port, upgrade + SECOND)
      expect([statuses, isClosed]).toEqual([[200], true])
    }
  })
})

describe.each([
  ['HAProxy', startHaproxy],
  ['nginx', startNginx],
] as const)('A59 behind %s', (name, start) => {
  let recorder: Recorder
  let proxy: ReverseProxy | undefined
  beforeAll(async () => {
    recorder = await startRecorder()
    proxy = await start(recorder.port)
    if (!proxy) console.warn(`A59 behind ${name} was not tried: the program is not installed here`)
  })
  afterAll(async () => {
    await proxy?.stop()
    await recorder.stop()
  })

  test(`A59 nothing passes ${name} that it took for something else, and others get their own answers`, async (context) => {
    if (!proxy) return context.skip(`${name} is not installed`)
    const { port: front } = proxy
    const smuggled = 'GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n'
    const attempts = Object.entries(AMBIGUOUS)
    for (let i = 0; i < attempts.length; i += 8)
      await Promise.all(
        attempts.slice(i, i + 8).map(async ([what, bytes]) => {
          await sendRaw(front, bytes + smuggled, 150)
          const { text } = await sendRaw(
            front,
            `GET /own-${i} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
          )
          expect([what, statusesOf(text)[0], text.includes(`"/own-${i}"`)]).toEqual([what, 200, true])
        }),
      )
    // The proxy marks each request that it knows of; one without a mark came in as part of another.
    expect(recorder.requests.length).toBeGreaterThanOrEqual(attempts.length)
    const marks = recorder.requests.map(({ marks }) => marks)
    expect(marks.filter(({ length }) => length !== 1)).toEqual([])
    expect(new Set(marks.flat()).size).toBe(marks.length)
  })
})
