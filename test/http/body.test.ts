import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { expect, test } from 'vitest'
import { ApiError } from '../../src/errors.ts'
import { readText } from '../../src/http/body.ts'

/** What is read of these bytes when nobody has asked for the body before it had come whole. */
async function readLate(bytes: string): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  try {
    const asked = once(server, 'request') as Promise<[IncomingMessage, ServerResponse]>
    socket.write(bytes)
    const [incoming] = await asked
    await expect.poll(() => incoming.complete).toBe(true)
    return await readText(incoming)
  } finally {
    socket.destroy()
    server.closeAllConnections()
    server.close()
  }
}

const chunked = (...texts: string[]) =>
  `POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${texts
    .map((text) => `${text.length.toString(16)}\r\n${text}\r\n`)
    .join('')}0\r\n\r\n`

test('A58 a body that came in pieces before it was asked for is read whole', async () => {
  expect(await readLate(chunked('abc', 'de'))).toBe('abcde')
  expect(await readLate('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde')).toBe('abcde')
  expect(await readLate('POST / HTTP/1.1\r\nHost: x\r\n\r\n')).toBe('')
})

test('A58 pieces that have come are counted together', async () => {
  const error = await readLate(chunked(...Array<string>(5).fill('a'.repeat(4096)))).catch((thrown) => thrown)
  expect(error).toBeInstanceOf(ApiError)
  expect(error.code).toBe('content_too_large')
})
