/** Attacks, for `npm run measure -- floods`. Each goes on until the process is ended, at a bounded rate. */
import { generateKeyPairSync, sign } from 'node:crypto'
import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { createKeyFormat } from '../src/keys/key-format.ts'

export type Flood = {
  /** What it sends, in words. */
  about: string
  start(port: number, count: () => void): void
}

const keyFormat = createKeyFormat('sgt')
const agent = new Agent({ keepAlive: true, maxSockets: 32 })
const anySource = () =>
  `198.${Math.floor(Math.random() * 100)}.${Math.floor(Math.random() * 250)}.${Math.floor(Math.random() * 250)}`

/** So often a second. */
function often(perSecond: number, work: () => void): void {
  const began = performance.now()
  let done = 0
  setInterval(() => {
    const due = ((performance.now() - began) * perSecond) / 1000
    for (; done < due; done++) work()
  }, 5)
}

function send(port: number, path: string, headers: Record<string, string>, body?: string): void {
  const method = body === undefined ? 'GET' : 'POST'
  const call = request({ host: '127.0.0.1', port, path, method, headers, agent }, (answer) => answer.resume())
  call.on('error', () => {})
  call.end(body)
}

function sendBytes(
  port: number,
  bytes: string,
  then: (socket: ReturnType<typeof connect>) => void = () => {},
) {
  const socket = connect(port, '127.0.0.1', () => {
    socket.write(bytes, 'latin1')
    then(socket)
  })
  socket.on('error', () => {})
  socket.on('data', () => {})
}

export const FLOODS: Readonly<Record<string, Flood>> = {
  'slow sockets': {
    about: 'sockets opened, 200 a second, each open for 10 s and sending a byte a second',
    start(port, count) {
      const form = 'Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 500\r\n\r\n'
      const begins = ['', 'POST /v2/auth/token HT', `POST /oauth2/token HTTP/1.1\r\nHost: x\r\n${form}`]
      let opened = 0
      often(200, () => {
        const begin = opened++ % begins.length
        sendBytes(port, begins[begin] ?? '', (socket) => {
          count()
          if (begin === 0) return
          const timer = setInterval(() => socket.write('T'), 1000)
          socket.on('close', () => clearInterval(timer))
        })
      })
    },
  },
  'huge bodies': {
    about: 'bodies of 10 GB begun, 100 a second',
    start(port, count) {
      const megabyte = Buffer.alloc(2 ** 20, 0x61)
      const fields = `Host: x\r\nContent-Type: application/x-www-form-urlencoded\r\n`
      const begins = ['Content-Length: 10737418240\r\n\r\n', 'Transfer-Encoding: chunked\r\n\r\n40000000\r\n']
      let sent = 0
      often(100, () => {
        count()
        const head = `POST /oauth2/token HTTP/1.1\r\n${fields}${begins[sent++ % 2]}`
        sendBytes(port, head, (socket) => socket.write(megabyte))
      })
    },
  },
  'unknown kids': {
    about: 'tokens with an unknown kid, 200 a second',
    start(port, count) {
      const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
      const payload = encode({
        iss: `http://localhost:${port}`,
        aud: `http://localhost:${port}`,
        exp: 2 ** 32,
      })
      const text = `${encode({ alg: 'ES256', typ: 'at+jwt', kid: 'first' })}.${payload}`
      const signature = sign('sha256', Buffer.from(text), { key: privateKey, dsaEncoding: 'ieee-p1363' })
      let sent = 0
      often(200, () => {
        count()
        const header = encode({ alg: 'ES256', typ: 'at+jwt', kid: `unknown-${sent++}` })
        const token = `${header}.${payload}.${signature.toString('base64url')}`
        const headers = { Authorization: `Bearer ${token}`, 'X-Forwarded-For': anySource() }
        send(port, '/v2/organizations', headers)
      })
    },
  },
  'unknown keys': {
    about: 'unknown keys of as many sources, 200 a second',
    start(port, count) {
      const body = '{"scopes":{"organization_id":"org_01kb2d3v7fe8ntqr5x9w0c4m6h","scopes":["a"]}}'
      often(200, () => {
        count()
        const headers = {
          Authorization: keyFormat.generate('sandbox').key,
          'Content-Type': 'application/json',
          'X-Forwarded-For': anySource(),
        }
        send(port, '/v2/auth/token', headers, body)
      })
    },
  },
  'no requests': {
    about: 'requests that are none, 200 a second',
    start(port, count) {
      const noRequests = [
        'POST /v2/auth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
        'GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n',
        `GET /livez HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`,
        '\x16\x03\x01\x02\x00\x01\x00\x01',
      ]
      let sent = 0
      often(200, () => {
        count()
        sendBytes(port, noRequests[sent++ % noRequests.length] ?? '')
      })
    },
  },
}
