/**
 * One connection to PostgreSQL, as postgres.js takes sockets: reached on whichever server can write, and given up as
 * soon as nobody answers at its other end.
 *
 * The server ends each statement in its time (statement_timeout) and says so. Where that time and a margin have passed
 * and nothing has come, there is no server at the other end, or none that lives: the connection ends with an error at
 * once, instead of when the kernel gives up, after a quarter of an hour.
 */
import { EventEmitter } from 'node:events'
import { connect, isIP, type Socket } from 'node:net'
import { connect as connectSecurely } from 'node:tls'
import { inTime } from '../clock.ts'
import {
  createMessageCounter,
  firstColumn,
  MESSAGES,
  type Message,
  parameterOf,
  queryMessage,
  splitMessages,
  sqlStateOf,
  toBytes,
} from './messages.ts'
import { connectionError, type Host, type Member, type Servers } from './servers.ts'

/** For a host to say its first word; the driver has a bound of its own for the whole of a start. */
const HOST_MILLISECONDS = { only: 2_000, oneOfSeveral: 800 }
/** Between finding that nothing has come and believing it. */
const SECOND_LOOK_MILLISECONDS = 20
/** For a goodbye. */
const END_MILLISECONDS = 1_000
const KEEPALIVE_MILLISECONDS = 10_000

/** The first part of the name is the timeline; a server in recovery refuses to say it. Any role may ask. */
const WHICH_TIMELINE = queryMessage('select pg_walfile_name(pg_current_wal_lsn())')
const IN_RECOVERY = '55000'

/** What postgres.js (3.4.9) uses of a socket. */
export type Wire = Pick<EventEmitter, 'on' | 'once' | 'removeListener' | 'removeAllListeners'> & {
  readonly readyState: 'open' | 'closed'
  write(bytes: Buffer, done?: () => void): boolean
  end(bytes?: Buffer): void
  destroy(): void
}

export function openWire(servers: Servers, options: { answerMilliseconds: number }): Wire {
  const { answerMilliseconds } = options
  const wire = new EventEmitter()
  const now = performance.now.bind(performance)
  let stage: 'reaching' | 'starting' | 'checking' | 'open' | 'closed' = 'reaching'
  let socket: Socket | undefined
  let at: Host | undefined
  let timer: NodeJS.Timeout | undefined
  let isSuspect = false

  // What is asked and answered.
  let unanswered = 0
  let isOwed = false
  let askedAt = 0
  let heardAt = 0
  const countAsked = createMessageCounter((type) => {
    if (type === MESSAGES.sync || type === MESSAGES.query) unanswered++
  })
  const countAnswered = createMessageCounter((type) => {
    if (type === MESSAGES.readyForQuery) unanswered--
  })
  const isWaiting = () => isOwed || unanswered > 0
  const member: Member = {
    timeline: undefined,
    isIdleSince: (moment) => stage === 'open' && !isWaiting() && heardAt < moment,
    close,
  }

  /** The error first, in one go with the end: the driver hands nothing to a connection in between. */
  function close(error?: Error): void {
    if (stage === 'closed') return
    if (at && stage !== 'open') servers.failed(at, 'lets nobody in')
    stage = 'closed'
    clearTimeout(timer)
    servers.leave(member)
    socket?.destroy()
    if (error) wire.emit('error', error)
    wire.emit('close', false)
  }

  async function reach(startup: Buffer): Promise<void> {
    const milliseconds = HOST_MILLISECONDS[servers.hosts.length > 1 ? 'oneOfSeveral' : 'only']
    let reason: unknown
    for (const host of servers.candidates()) {
      if (stage === 'closed') return
      try {
        const greeted = await greet(host, { sslMode: servers.sslMode, startup, milliseconds })
        if (stage !== 'reaching') return void greeted.socket.destroy()
        return start(host, greeted)
      } catch (error) {
        reason = error
        servers.failed(host, 'does not answer')
      }
    }
    close(reason as Error)
  }

  /** The driver and the server get to know each other; before the driver's first statement comes one of ours. */
  function start(host: Host, greeted: { socket: Socket; first: Buffer }): void {
    socket = greeted.socket
    at = host
    stage = 'starting'
    heardAt = now()
    let pending: Buffer = Buffer.alloc(0)
    let ready: Message | undefined
    let timeline: number | undefined
    let refusal: string | undefined

    function hear(message: Message): void {
      if (stage === 'starting') {
        if (message.type === MESSAGES.parameterStatus) {
          const [name, value] = parameterOf(message)
          if (value === 'on' && name === 'in_hot_standby') refusal = 'is a standby'
          if (value === 'on' && name === 'default_transaction_read_only') refusal ??= 'is read-only'
        }
        if (message.type !== MESSAGES.readyForQuery) return void wire.emit('data', toBytes(message))
        ready = message
        stage = 'checking'
        socket?.write(WHICH_TIMELINE)
      } else {
        if (message.type === MESSAGES.dataRow)
          timeline = Number.parseInt(firstColumn(message)?.slice(0, 8) ?? '', 16) || undefined
        if (message.type === MESSAGES.error && sqlStateOf(message) === IN_RECOVERY) refusal ??= 'is a standby'
        if (message.type === MESSAGES.readyForQuery) open()
      }
    }

    function open(): void {
      refusal ??= servers.refuse(timeline)
      if (refusal !== undefined) {
        at = undefined
        // Without an error the driver tries again, and keeps what it was asked.
        const wasLast = servers.failed(host, refusal)
        close(wasLast ? connectionError('CONNECTION_REFUSED', `${host.name} ${refusal}`) : undefined)
        return
      }
      stage = 'open'
      member.timeline = timeline
      servers.join(member)
      servers.reached(host)
      if (ready) wire.emit('data', toBytes(ready))
    }

    function receive(bytes: Buffer): void {
      heardAt = now()
      if (stage === 'open') {
        isOwed = false
        countAnswered(bytes)
        return void wire.emit('data', bytes)
      }
      const { messages, rest } = splitMessages(Buffer.concat([pending, bytes]))
      pending = rest
      for (const message of messages) if (stage === 'starting' || stage === 'checking') hear(message)
    }

    socket.on('data', receive)
    socket.on('drain', () => wire.emit('drain'))
    socket.on('error', close)
    // Not 'close': what the driver writes until then would be lost.
    socket.on('end', () => close())
    socket.on('close', () => close())
    receive(greeted.first)
    socket.resume()
  }

  function watch(): void {
    timer = undefined
    if (!isWaiting()) {
      isSuspect = false
      return
    }
    const since = Math.max(askedAt, heardAt)
    const left = since + answerMilliseconds - now()
    if (left <= 0 && isSuspect) {
      close(connectionError('CONNECTION_SILENT', `no answer within ${answerMilliseconds} ms`))
      servers.fellSilent(since)
      return
    }
    // It may be this process that was not there: what has come meanwhile is heard before the second look.
    isSuspect = left <= 0
    timer = setTimeout(watch, Math.max(left, SECOND_LOOK_MILLISECONDS)).unref()
  }

  const socketLike = {
    get readyState() {
      return stage === 'closed' ? ('closed' as const) : ('open' as const)
    },
    write(bytes: Buffer, done?: () => void) {
      if (stage === 'reaching') {
        reach(bytes).catch(close)
        return true
      }
      if (stage === 'open') {
        if (!isWaiting()) askedAt = now()
        isOwed = true
        countAsked(bytes)
        timer ??= setTimeout(watch, answerMilliseconds).unref()
      }
      return socket?.write(bytes, done) ?? true
    },
    end(bytes?: Buffer) {
      if (!socket || stage !== 'open') return close()
      if (bytes) socket.end(bytes)
      else socket.end()
      clearTimeout(timer)
      timer = setTimeout(() => close(), END_MILLISECONDS).unref()
    },
    destroy: () => close(),
  }
  return Object.defineProperties(wire, Object.getOwnPropertyDescriptors(socketLike)) as unknown as Wire
}

/** Connects, and sends the first message of a session. Resolves with the first answer, whatever it says. */
async function greet(
  host: Host,
  options: { sslMode: string | undefined; startup: Buffer; milliseconds: number },
): Promise<{ socket: Socket; first: Buffer }> {
  const { sslMode, startup, milliseconds } = options
  let socket = connect({ ...host.address, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MILLISECONDS })
  socket.setNoDelay(true)
  async function begin() {
    await event(socket, 'connect')
    if (sslMode !== undefined && 'host' in host.address)
      socket = await secure(socket, { sslMode, host: host.address.host })
    socket.write(startup)
    const first: Buffer = await event(socket, 'data')
    return { socket, first }
  }
  try {
    return await inTime(begin(), milliseconds)
  } catch (error) {
    socket.on('error', () => {})
    socket.destroy()
    if (error instanceof Error && 'code' in error) throw error
    throw connectionError('CONNECT_TIMEOUT', `${host.name} does not answer`)
  }
}

/** The bytes of SSLRequest, as PostgreSQL knows it. */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])
/** They encrypt, and believe anybody; the others check the certificate. */
const UNVERIFIED = ['allow', 'prefer', 'require']

async function secure(socket: Socket, options: { sslMode: string; host: string }): Promise<Socket> {
  const { sslMode, host } = options
  socket.write(SSL_REQUEST)
  const answer: Buffer = await event(socket, 'data')
  // More than that would be somebody's who writes between us before there is TLS (CVE-2021-23222).
  if (answer.length !== 1) throw connectionError('CONNECTION_INSECURE', 'bytes before TLS')
  if (answer.toString() !== 'S') {
    if (sslMode === 'prefer' || sslMode === 'allow') return socket
    throw connectionError('CONNECTION_INSECURE', 'the server speaks no TLS')
  }
  const secured = connectSecurely({
    socket,
    ...(isIP(host) ? { host } : { servername: host, host }),
    rejectUnauthorized: !UNVERIFIED.includes(sslMode),
  })
  await event(secured, 'secureConnect')
  return secured
}

/** The socket's next event. Rejects when it ends before. */
function event<T>(socket: Socket, name: 'connect' | 'secureConnect' | 'data'): Promise<T> {
  return new Promise((resolve, reject) => {
    const closed = () => reject(connectionError('CONNECTION_CLOSED', 'the server has closed the connection'))
    socket.once('error', reject)
    socket.once('close', closed)
    socket.once(name, (value: T) => {
      socket.off('error', reject)
      socket.off('close', closed)
      // What comes next waits until somebody listens.
      if (name === 'data') socket.pause()
      resolve(value)
    })
    if (name === 'data') socket.resume()
  })
}
