/** Bytes over a socket, as no client library would send them. */
import { connect, type Socket } from 'node:net'

export type RawConnection = {
  socket: Socket
  write(bytes: string | Buffer): void
  /** What has arrived until now. */
  text(): string
  /** Milliseconds from the connection to its end, by the other side; undefined where it is still open after the time. */
  ended(milliseconds: number): Promise<number | undefined>
}

/** `from`: an address of the loopback network, where each has ports of its own. */
export async function openRaw(port: number, { from = '127.0.0.1' } = {}): Promise<RawConnection> {
  const socket = connect({ port, host: '127.0.0.1', localAddress: from })
  let text = ''
  socket.setEncoding('latin1').on('data', (chunk) => {
    text += chunk
  })
  // Reset by the other side, perhaps while bytes were on their way: it has ended, which is all that is asked.
  socket.on('error', () => {})
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  const began = performance.now()
  const closed = new Promise<number>((resolve) =>
    socket.once('close', () => resolve(performance.now() - began)),
  )
  return {
    socket,
    write: (bytes) => void socket.write(bytes as string, 'latin1'),
    text: () => text,
    async ended(milliseconds) {
      const late = Promise.withResolvers<undefined>()
      const timer = setTimeout(late.resolve, milliseconds, undefined)
      const after = await Promise.race([closed, late.promise])
      clearTimeout(timer)
      socket.destroy()
      return after
    },
  }
}

/** What these bytes are answered with, until the end or, where it stays open, for so long. */
export async function sendRaw(
  port: number,
  bytes: string | Buffer,
  milliseconds = 5000,
): Promise<{ text: string; statuses: number[]; isClosed: boolean }> {
  const connection = await openRaw(port)
  connection.write(bytes)
  const isClosed = (await connection.ended(milliseconds)) !== undefined
  const text = connection.text()
  return { text, statuses: statusesOf(text), isClosed }
}

export const statusesOf = (text: string): number[] =>
  [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status))
