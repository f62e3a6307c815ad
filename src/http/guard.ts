/**
 * What is dealt with before it is a request of the application's: bytes that are no HTTP, requests that could mean two things
 * to two readers, bodies that nobody will read, and more connections than there is room for. Nothing that was sent is
 * repeated in an answer or in a log.
 */
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { MAX_BODY_BYTES } from './body.ts'
import { fieldLines } from './fields.ts'

/** Of one process. Past it, whoever has been idle the longest makes room. */
const MAX_CONNECTIONS = 4_096

/** Of one request. Their size is bounded too; but node counts no more than names and values, and drops those past 2000. */
const MAX_FIELDS = 100

/** Host (RFC 9110 §7.2) without what no name of a server has: user information, lists, percent signs. */
const HOST = /^(?:[\w.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?$/i
/** RFC 9112 §3.2.2. */
const ABSOLUTE_FORM = /^https?:\/\/([^/?#]*)/i

/** What node's parser or its clock found, and how that is answered (RFC 9110 §15.5, RFC 6585 §5). */
const STATUS_OF_ERROR: Readonly<Record<string, number>> = {
  HPE_HEADER_OVERFLOW: 431,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
}
const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  408: 'Request Timeout',
  413: 'Content Too Large',
  417: 'Expectation Failed',
  431: 'Request Header Fields Too Large',
}

/** How many, by reason: a word of ours or of node's, nothing of what was sent. */
export type TurnedAway = Readonly<Record<string, number>>

export type GuardOptions = {
  /** Called once a second at most, whatever arrives. */
  onTurnedAway?: (counts: TurnedAway) => void
  maxConnections?: number
}

type Connection = {
  /** Its requests that are under way: several, if they were sent without waiting for answers. */
  unanswered: ServerResponse[]
  /** Counts up with every answer, whoever got it. Undefined: it has not sent a whole head yet. */
  lastAnswer: number | undefined
  /** The last one, if it was answered before it had been read to the end. */
  unread: IncomingMessage | undefined
  /** No further request of its is listened to. */
  isCondemned: boolean
  /** Node has found fault with what it sent, and its end is arranged. */
  hasFault: boolean
}

/** To be called before anything else listens to the server. `retire`: from now on each answer ends its connection. */
export function guard(server: Server, options: GuardOptions = {}): { retire: () => void } {
  const { maxConnections = MAX_CONNECTIONS } = options
  // By connection, and none by request: what requests are put into and taken out of, Set and Map, is made anew after every few
  // dozens of them, and V8 lets each old one keep the next, with its requests, from being collected as what it is: short-lived.
  const connections = new Map<Socket, Connection>()
  let answers = 0
  let isRetired = false
  const onTurnedAway = createCounter(options.onTurnedAway ?? (() => {}))
  const [answer] = server.listeners('request') as RequestListener[]
  if (!answer) throw new Error('the server has nobody to guard')

  server.on('connection', (socket: Socket) => {
    if (connections.size >= maxConnections) {
      onTurnedAway('too_many_connections')
      const victim = leastNeeded(connections) ?? socket
      connections.delete(victim)
      victim.destroy()
    }
    if (socket.destroyed) return
    connections.set(socket, {
      unanswered: [],
      lastAnswer: undefined,
      unread: undefined,
      isCondemned: false,
      hasFault: false,
    })
    socket.once('close', () => connections.delete(socket))
  })
  server.removeListener('request', answer)
  server.on('request', (request, response) => {
    const connection = connections.get(request.socket)
    // What came in one piece with a request that was refused may be the other meaning of it.
    if (!connection || connection.isCondemned) return
    connection.unanswered.push(response)
    response.on('close', () => {
      connection.unanswered = connection.unanswered.filter((one) => one !== response)
      connection.lastAnswer = ++answers
      if (!request.complete) connection.unread = request
    })
    const fault = findFault(request)
    if (fault !== undefined) {
      connection.isCondemned = true
      onTurnedAway(fault)
      const status = fault === 'fields' ? 431 : fault === 'expectation' ? 417 : 400
      response.writeHead(status, fieldsOf(status)).end(bodyOf(status))
      return
    }
    // Of the one, nothing is read on; of the other, node's parser has dropped what came behind it.
    if (announcesTooMuch(request) || request.headers.upgrade !== undefined || isRetired)
      announceEnd(connection, response)
    answer(request, response)
  })
  // RFC 9110 §10.1.1: who asks first is spared sending what will not be read; node then closes the connection.
  server.on('checkContinue', (request, response) => {
    if (!announcesTooMuch(request)) response.writeContinue()
    server.emit('request', request, response)
  })

  // Node would answer by itself, and go on with what comes behind.
  server.on('checkExpectation', (request, response) => server.emit('request', request, response))

  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    const { code = '' } = error
    const status = STATUS_OF_ERROR[code] ?? (code.startsWith('HPE_') ? 400 : undefined)
    const connection = connections.get(socket)
    // Nobody who is gone is told anything, nor who never said a word.
    if (status === undefined || !connection || !socket.writable || socket.bytesRead === 0)
      return void socket.destroy()
    // Node reports the same fault with every piece that follows.
    if (connection.hasFault) return
    connection.hasFault = true
    connection.isCondemned = true
    onTurnedAway(code)
    const { unanswered, unread } = connection
    const last = unanswered.at(-1)
    if (!last) return unread?.complete === false ? void socket.destroy() : sayLast(socket, status)
    // What came behind a whole request is no reason to withhold its answer: it may have had its effect.
    if (last.req.complete) return void last.once('close', () => sayLast(socket, status))
    // The fault is in its own body. An answer that has begun cannot be taken back.
    const before = unanswered.at(-2)
    if (before) return void before.once('close', () => socket.destroy())
    if (last.headersSent) return void socket.destroy()
    sayLast(socket, status)
  })
  return {
    retire() {
      isRetired = true
      // Else their connections would stay open, idle, until they are cut. What was sent before is answered.
      for (const connection of connections.values()) {
        const last = connection.unanswered.at(-1)
        if (last && !last.headersSent) announceEnd(connection, last)
      }
    },
  }
}

/**
 * So that clients and proxies send what follows elsewhere. Whoever ends a connection acts on nothing that comes behind, for that
 * could not be answered (RFC 9112 §9.6).
 */
function announceEnd(connection: Connection, response: ServerResponse): void {
  connection.isCondemned = true
  response.setHeader('Connection', 'close')
}

/** Why it could be another request, or for somebody else, to whoever read it before us. Undefined: it could not. */
function findFault({ httpVersion, rawHeaders, headers, url = '' }: IncomingMessage): string | undefined {
  if (httpVersion !== '1.1' && httpVersion !== '1.0') return 'http_version'
  if (rawHeaders.length > 2 * MAX_FIELDS) return 'fields'
  // RFC 9112 §3.2: exactly one. Of several, node keeps the first.
  const hosts = fieldLines({ rawHeaders }, 'host').length
  const { host = '', 'transfer-encoding': coding, expect } = headers
  // RFC 9110 §10.1.1: there is one that we know.
  if (expect !== undefined && expect.toLowerCase() !== '100-continue') return 'expectation'
  if (hosts !== 1 || !HOST.test(host)) return 'host'
  if (url[0] !== '/') {
    // §3.2.2: the target's authority is the one that counts, so another in Host is one too many.
    const authority = ABSOLUTE_FORM.exec(url)?.[1]
    if (authority?.toLowerCase() !== host.toLowerCase()) return 'request_target'
  }
  // §6.1: no coding that we do not undo, and none in a version that has none.
  if (coding !== undefined && (coding.toLowerCase() !== 'chunked' || httpVersion === '1.0'))
    return 'transfer_encoding'
  return undefined
}

const announcesTooMuch = ({ headers }: IncomingMessage): boolean =>
  headers['content-length'] !== undefined && Number(headers['content-length']) > MAX_BODY_BYTES

/**
 * Who goes when there is no more room: first who has not sent a whole head yet, then who has been idle the longest, then who does
 * not take its answers, then who is still sending a body: those whose turn is over cost nobody else theirs.
 */
function leastNeeded(connections: ReadonlyMap<Socket, Connection>): Socket | undefined {
  let idle: { socket: Socket; lastAnswer: number } | undefined
  let deaf: Socket | undefined
  let sending: Socket | undefined
  for (const [socket, { unanswered, lastAnswer }] of connections) {
    if (unanswered.length > 0) {
      if (socket.writableLength > 0) deaf ??= socket
      else if (unanswered.some(({ req }) => !req.complete)) sending ??= socket
    } else if (lastAnswer === undefined) return socket
    else if (!idle || lastAnswer < idle.lastAnswer) idle = { socket, lastAnswer }
  }
  return idle?.socket ?? deaf ?? sending
}

function createCounter(report: (counts: TurnedAway) => void): (reason: string) => void {
  const counts = new Map<string, number>()
  return (reason) => {
    if (counts.size === 0)
      setTimeout(() => {
        report(Object.fromEntries(counts))
        counts.clear()
      }, 1000).unref()
    counts.set(reason, (counts.get(reason) ?? 0) + 1)
  }
}

function sayLast(socket: Socket, status: number): void {
  if (!socket.writable) return void socket.destroy()
  const fields = Object.entries({ Date: new Date().toUTCString(), ...fieldsOf(status) })
  const head = [
    `HTTP/1.1 ${status} ${TITLES[status]}`,
    ...fields.map(([name, value]) => `${name}: ${value}`),
  ].join('\r\n')
  socket.end(`${head}\r\n\r\n${bodyOf(status)}`, () => socket.destroy())
}

/** RFC 9457 §4.2.1: without a type, a problem is what its status says. */
const bodyOf = (status: number): string =>
  JSON.stringify({ title: TITLES[status], status, error: { code: 'invalid_request' } })

const fieldsOf = (status: number): Record<string, string> => ({
  'Content-Type': 'application/problem+json',
  'Content-Length': String(Buffer.byteLength(bodyOf(status))),
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
  Connection: 'close',
})
