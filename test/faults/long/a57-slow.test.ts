import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { openRaw, type RawConnection, statusesOf } from '../../abuse/raw.ts'
import { requestsOf } from '../../abuse/requests.ts'
import { mint } from '../../support/mint.ts'
import { seedClient } from '../../support/seed.ts'
import { setUpService } from '../../support/service.ts'

const { database, service } = await setUpService()
const port = Number(new URL(service.url).port)
const client = await seedClient(database.sql)

const { authorized, body, form, head } = requestsOf(client)

const countTokens = async () => (await database.sql`select from issued_tokens`).count

/** One byte of the text a second, until the other side has had enough. */
async function trickle({ socket, write }: RawConnection, text: string): Promise<void> {
  for (const byte of text) {
    if (socket.destroyed || socket.writableEnded) return
    write(byte)
    await sleep(1000)
  }
}

const LIMIT_MS = 10_000
/** For node looks once a second, and the machine may have other things to do. */
const ROOM_MS = 5_000
const SOCKETS_OF_A_KIND = 25

/** How each begins, how it goes on, and what it is told at the end. */
const SLOW: readonly { kind: string; begins: string; goesOn: string; hears: number[] }[] = [
  { kind: 'says nothing', begins: '', goesOn: '', hears: [] },
  {
    kind: 'sends a head, byte by byte',
    begins: 'POST /v2/a',
    goesOn: 'uth/token HTTP/1.1\r\nHost: x',
    hears: [408],
  },
  { kind: 'stops within a head', begins: head('X: a').slice(0, -2), goesOn: '', hears: [408] },
  {
    kind: 'sends a body, byte by byte',
    begins: authorized(`Content-Length: ${body.length}`),
    goesOn: body,
    hears: [408],
  },
  {
    kind: 'sends chunks, byte by byte',
    begins: authorized('Transfer-Encoding: chunked'),
    goesOn: '5\r\n{"a":\r\n5\r\n{"a":\r\n',
    hears: [408],
  },
  {
    kind: 'sends a form, byte by byte',
    begins: form('Content-Length: 500'),
    goesOn: 'grant_type=client_credentials',
    hears: [408],
  },
  {
    kind: 'has its body waited for',
    begins: authorized('Content-Length: 500', 'Expect: 100-continue'),
    goesOn: '',
    hears: [100, 408],
  },
  {
    kind: 'announces more than it sends',
    begins: authorized(`Content-Length: ${body.length + 1}`) + body,
    goesOn: '',
    hears: [408],
  },
]

test('A57 who is slow is cut off after 10 s, and everybody else is answered meanwhile', {
  timeout: 40_000,
}, async () => {
  const sockets = SLOW.flatMap((slow) => Array<typeof slow>(SOCKETS_OF_A_KIND).fill(slow))
  const ended = sockets.map(async ({ kind, begins, goesOn, hears }) => {
    const connection = await openRaw(port)
    connection.write(begins)
    const trickling = trickle(connection, goesOn)
    const after = await connection.ended(LIMIT_MS + ROOM_MS)
    await trickling
    expect(statusesOf(connection.text()), kind).toEqual(hears)
    expect(after, kind).toBeGreaterThan(LIMIT_MS - 500)
    expect(after, kind).toBeLessThan(LIMIT_MS + ROOM_MS)
  })
  const answers = async () => {
    for (let i = 0; i < 20; i++) {
      expect((await mint(service.url, client)).status).toBe(200)
      await sleep(450)
    }
  }
  await Promise.all([...ended, answers()])
  expect(await countTokens()).toBe(20)
})
