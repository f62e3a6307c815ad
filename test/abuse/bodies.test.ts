import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { seedClient } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'
import { openRaw, sendRaw, statusesOf } from './raw.ts'
import { requestsOf } from './requests.ts'

const { database, service } = await setUpService()
const port = Number(new URL(service.url).port)
const client = await seedClient(database.sql)

const { authorized, body, form, head } = requestsOf(client)
const countTokens = async () => (await database.sql`select from issued_tokens`).count

describe('A58 bodies that are not what they seem', () => {
  const HUGE = 'Content-Length: 10737418240'
  const MUCH = 'a'.repeat(20_000)

  test.each([
    ['10 GB announced', authorized(HUGE), [413]],
    ['10 GB announced, of a form', form(HUGE), [413]],
    ['10 GB announced by nobody in particular', head(HUGE), [401]],
    ['10 GB announced for what has no body', `GET /livez HTTP/1.1\r\nHost: x\r\n${HUGE}\r\n\r\n`, [200]],
    ['10 GB announced and asked for', authorized(HUGE, 'Expect: 100-continue'), [413]],
    ['chunks without end', `${authorized('Transfer-Encoding: chunked')}40000000\r\n${MUCH}`, [413]],
    ['chunks without end, of a form', `${form('Transfer-Encoding: chunked')}40000000\r\n${MUCH}`, [413]],
  ] as const)('A58 %s: answered, closed, and not read on', async (_name, bytes, statuses) => {
    const connection = await openRaw(port)
    connection.write(bytes)
    const megabyte = Buffer.alloc(2 ** 20, 0x20)
    let sent = 0
    const pour = async () => {
      for (; sent < 256 && !connection.socket.destroyed; sent++)
        await new Promise((resolve) => connection.socket.write(megabyte, resolve))
    }
    const [after] = await Promise.all([connection.ended(5000), pour()])
    expect(after).toBeLessThan(5000)
    // The kernel takes some megabytes that nobody reads.
    expect(sent).toBeLessThan(64)
    // A connection that is cut while bytes are under way may lose what was on it; where not, this is what it was.
    if (connection.text() !== '') expect(statusesOf(connection.text())).toEqual(statuses)
    expect(statusesOf((await sendRaw(port, bytes)).text)).toEqual(statuses)
    expect((await sendRaw(port, bytes)).isClosed).toBe(true)
  })

  test('A58 whoever asks before sending is told to go on only with what will be read', async () => {
    const asking = (length: number) => authorized(`Content-Length: ${length}`, 'Expect: 100-continue')
    const connection = await openRaw(port)
    connection.write(asking(body.length))
    await sleep(100)
    expect(statusesOf(connection.text())).toEqual([100])
    connection.write(body)
    await connection.ended(300)
    expect(statusesOf(connection.text())).toEqual([100, 200])
    expect((await sendRaw(port, asking(2 ** 14 + 1))).statuses).toEqual([413])
    expect((await sendRaw(port, `${authorized('Content-Length: 2', 'Expect: x')}{}`)).statuses).toEqual([417])
  })

  test('A58 a body in pieces is one body, whatever it waited for and however it came', async () => {
    const chunks = (...texts: string[]) =>
      `${texts.map((text) => `${text.length.toString(16)}\r\n${text}\r\n`).join('')}0\r\n\r\n`
    const chunked = authorized('Transfer-Encoding: chunked', 'Connection: close')
    const halves = [body.slice(0, 20), body.slice(20)] as const
    expect((await sendRaw(port, chunked + chunks(...halves))).statuses).toEqual([200])
    const before = await countTokens()
    // The first piece by itself would be a good body.
    expect((await sendRaw(port, chunked + chunks(body, '{}'))).statuses).toEqual([400])
    expect(
      (await sendRaw(port, chunked + chunks(body, ...Array(5).fill(' '.repeat(4000))))).statuses,
    ).toEqual([413])
    expect(await countTokens()).toBe(before)
    // The key is looked up while the rest arrives.
    const unused = await seedClient(database.sql)
    const its = body.replace(client.organizationId, unused.organizationId)
    const connection = await openRaw(port)
    connection.write(
      authorized(`Content-Length: ${its.length}`).replace(client.key, unused.key) + its.slice(0, 30),
    )
    connection.write(its.slice(30))
    await connection.ended(300)
    expect(statusesOf(connection.text())).toEqual([200])
  })

  test('A58 a body that is longer than it says ends where it says', async () => {
    const before = await countTokens()
    const { statuses, isClosed } = await sendRaw(port, `${authorized('Content-Length: 2')}${body}`)
    // `{}` breaks a rule; what is left is no request.
    expect([statuses, isClosed]).toEqual([[400, 400], true])
    expect(await countTokens()).toBe(before)
  })

  test('A58 a body whose sender leaves has no effect, and is no fault of ours', async () => {
    const before = await countTokens()
    for (const bytes of [
      authorized(`Content-Length: ${body.length + 1}`) + body,
      `${authorized('Transfer-Encoding: chunked')}${body.length.toString(16)}\r\n${body}\r\n`,
      `${form('Content-Length: 100')}grant_type=client_credentials`,
    ]) {
      const connection = await openRaw(port)
      connection.write(bytes)
      await sleep(50)
      connection.socket.destroy()
    }
    await sleep(200)
    expect(await countTokens()).toBe(before)
    expect(service.logs.filter((line) => JSON.parse(line).level >= 40)).toEqual([])
  })
})
