/**
 * Requests that arrive when they do, not when the one before is answered: at a rate, spaced at random as those of many
 * independent clients are (a Poisson process). The latency counts from the moment when the request was due, so that a
 * server that stalls is charged with all that had to wait. (autocannon sends each second's requests in one burst.)
 */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { LoadOptions, LoadResult, Turn } from './load.ts'

type Connection = { socket: Socket; due: number; received: string }

export async function runPaced(
  { url, connections, seconds }: LoadOptions,
  rate: number,
  turns: readonly Turn[],
): Promise<LoadResult> {
  const { hostname, port, pathname, host } = new URL(url)
  const requests = turns.map(({ authorization, body }) =>
    Buffer.from(
      `POST ${pathname} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: ${authorization}\r\n` +
        `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    ),
  )
  const latencies: number[] = []
  let failed = 0
  let sent = 0
  let open = 0
  const idle: Connection[] = []
  /** When each of those that found no connection was due. */
  const queue: number[] = []

  function send(connection: Connection, due: number): void {
    connection.due = due
    connection.received = ''
    connection.socket.write(requests[sent++ % requests.length] ?? '')
  }

  function receive(connection: Connection, chunk: string): void {
    connection.received += chunk
    const end = connection.received.indexOf('\r\n\r\n')
    if (end === -1) return
    const length = /\r\ncontent-length: (\d+)/i.exec(connection.received)?.[1]
    if (length === undefined) throw new Error('an answer had no Content-Length')
    if (connection.received.length < end + 4 + Number(length)) return
    if (connection.received.startsWith('HTTP/1.1 2')) latencies.push(performance.now() - connection.due)
    else failed++
    const next = queue.shift()
    if (next === undefined) idle.push(connection)
    else send(connection, next)
  }

  for (let i = 0; i < connections; i++) {
    const socket = connect(Number(port), hostname).setEncoding('latin1').setNoDelay()
    await once(socket, 'connect')
    open++
    const connection = { socket, due: 0, received: '' }
    socket.on('data', (chunk) => receive(connection, String(chunk)))
    socket.on('error', () => {})
    socket.on('close', () => {
      open--
    })
    idle.push(connection)
  }

  const began = performance.now()
  let due = began
  while (due < began + seconds * 1000) {
    due += (-Math.log(1 - Math.random()) * 1000) / rate
    // To the millisecond, and asleep until then: a loop that watches the clock would take from PostgreSQL the core that
    // they share, and measure itself.
    while (performance.now() < due) await new Promise((resolve) => setTimeout(resolve, 1))
    const connection = idle.pop()
    if (connection) send(connection, due)
    else queue.push(due)
  }
  const patience = performance.now() + 2_000
  while (latencies.length + failed < sent + queue.length && performance.now() < patience)
    await new Promise((resolve) => setTimeout(resolve, 5))
  failed += sent + queue.length - latencies.length - failed
  if (open < connections) failed += connections - open
  for (const { socket } of idle) socket.destroy()

  latencies.sort((a, b) => a - b)
  const at = (share: number) => latencies[Math.ceil(share * latencies.length) - 1] ?? Number.NaN
  return { answered: latencies.length, failed, seconds, p50: at(0.5), p99: at(0.99) }
}
