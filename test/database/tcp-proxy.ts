/** Stands between a client and PostgreSQL, on 127.0.0.1: to cut connections, to let them fall silent, to hold answers back. */
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

/** Bytes on their way; what is not passed on is lost, and the other side waits. */
type Passes = (from: 'client' | 'server', bytes: Buffer) => boolean

export type TcpProxy = {
  port: number
  /** How many connections there are. */
  size(): number
  /** Decides on the bytes of connections that are made from now on; undefined: all pass. */
  filter(makePasses: (() => Passes) | undefined): void
  /** One of them, in one of the ways in which connections end. */
  cut(way: 'reset' | 'end' | 'server' | 'both', choose?: (count: number) => number): void
  cutAll(): void
  /** All that are open go on without a byte passing, and without an end. */
  silence(): void
  /** From now on, all bytes in both directions arrive so much later. */
  delay(milliseconds: number): void
  close(): Promise<void>
}

/** `server`: the path of a Unix socket, or a port of 127.0.0.1. */
export async function createTcpProxy(server: string | number): Promise<TcpProxy> {
  type Pair = { down: Socket; up: Socket; isSilent: boolean }
  let delayMilliseconds = 0
  const pairs = new Set<Pair>()
  let makePasses: (() => Passes) | undefined

  const listener = createServer((down) => {
    const up = typeof server === 'string' ? connect(server) : connect(server, '127.0.0.1')
    const pair: Pair = { down, up, isSilent: false }
    const passes = makePasses?.() ?? (() => true)
    pairs.add(pair)
    const [passUp, passDown] = [createLine(up), createLine(down)]
    down.on('data', (bytes: Buffer) => {
      if (!pair.isSilent && passes('client', bytes)) passUp(bytes)
    })
    up.on('data', (bytes: Buffer) => {
      if (!pair.isSilent && passes('server', bytes)) passDown(bytes)
    })
    for (const [socket, other] of [
      [down, up],
      [up, down],
    ] as const) {
      socket.on('error', () => {})
      socket.on('end', () => !pair.isSilent && other.end())
      socket.on('close', () => {
        pairs.delete(pair)
        other.destroy()
      })
    }
  }).listen(0, '127.0.0.1')
  await once(listener, 'listening')

  /** Keeps the order, also when the delay gets shorter. */
  function createLine(to: Socket): (bytes: Buffer) => void {
    let last = 0
    return (bytes) => {
      const now = performance.now()
      last = Math.max(last, now + delayMilliseconds)
      if (last <= now) to.write(bytes)
      else setTimeout(() => to.writable && to.write(bytes), last - now)
    }
  }
  const address = listener.address()
  if (typeof address !== 'object' || !address) throw new Error('no port')

  return {
    port: address.port,
    size: () => pairs.size,
    filter(next) {
      makePasses = next
    },
    cut(way, choose = (count) => Math.floor(Math.random() * count)) {
      const pair = [...pairs][choose(pairs.size)]
      if (way === 'reset') pair?.down.resetAndDestroy()
      else if (way === 'end') pair?.down.end()
      else if (way === 'server') pair?.up.destroy()
      else pair?.down.destroy()
    },
    cutAll() {
      for (const { down } of pairs) down.resetAndDestroy()
    },
    silence() {
      for (const pair of pairs) pair.isSilent = true
    },
    delay(milliseconds) {
      delayMilliseconds = milliseconds
    },
    async close() {
      for (const { down, up } of pairs) {
        down.destroy()
        up.destroy()
      }
      listener.close()
      await once(listener, 'close')
    },
  }
}
