import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { createHttpServer } from '../../src/http/server.ts'
import { seedClient } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'
import { openRaw, sendRaw, statusesOf } from './raw.ts'
import { requestsOf } from './requests.ts'

const { database, service } = await setUpService()
const client = await seedClient(database.sql)

const { authorized, body, form } = requestsOf(client)
const WHOLE = authorized(`Content-Length: ${body.length}`) + body

describe('A57 more connections than there is room for', () => {
  const ROOM = 40
  const start = async () => {
    const counts: Record<string, number>[] = []
    const server = createHttpServer(service.app, {
      maxConnections: ROOM,
      onTurnedAway: (turnedAway) => void counts.push(turnedAway),
    })
    return { ...server, counts, port: (await server.listen(0, '127.0.0.1')).port }
  }
  const open = (to: number, howMany: number) =>
    Promise.all(Array.from({ length: howMany }, () => openRaw(to)))
  const livez = 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n'
  const closing = (bytes: string) => bytes.replace('Host: x', 'Host: x\r\nConnection: close')

  test('A57 those that are silent make room for newcomers, not those that are in use', async () => {
    const server = await start()
    const [kept] = await open(server.port, 1)
    kept?.write(livez)
    const silent = await open(server.port, 3 * ROOM)
    for (let i = 0; i < 5; i++)
      expect((await sendRaw(server.port, closing(livez), 2000)).statuses).toEqual([200])
    kept?.write(livez)
    await sleep(200)
    expect(statusesOf(kept?.text() ?? '')).toEqual([200, 200])
    expect(silent.filter(({ socket }) => !socket.closed).length).toBeLessThan(ROOM)
    expect(silent.filter(({ socket }) => !socket.closed).length).toBeGreaterThan(ROOM / 2)
    await sleep(1000)
    const turnedAway = server.counts.reduce((sum, { too_many_connections: each = 0 }) => sum + each, 0)
    expect(turnedAway).toBeGreaterThanOrEqual(2 * ROOM)
    await server.drain(100)
  })

  test('A57 nor does it help to have sent one request, or to send a body that does not end', async () => {
    for (const bytes of [livez, form('Content-Length: 500'), authorized('Content-Length: 500')]) {
      const server = await start()
      const greedy = await open(server.port, 2 * ROOM)
      for (const { write } of greedy) write(bytes)
      await sleep(100)
      const answers = []
      for (let i = 0; i < ROOM; i++) answers.push((await sendRaw(server.port, closing(WHOLE), 2000)).statuses)
      expect(new Set(answers.flat())).toEqual(new Set([200]))
      expect(answers.flat()).toHaveLength(ROOM)
      for (const { socket } of greedy) socket.destroy()
      await server.drain(100)
    }
  })
})
