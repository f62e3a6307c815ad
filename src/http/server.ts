/** The HTTP server around the application: its limits, and how it ends. */
import { createServer } from 'node:http'
import { getRequestListener, type HttpBindings } from '@hono/node-server'
import type { Hono } from 'hono'
import { type Doors, enter, gatherFields } from './door.ts'
import { type GuardOptions, guard } from './guard.ts'
import { type LogAnswer, type OpenRequest, type RequestEnv, requestLog } from './request-context.ts'

/** Connections that the kernel has and we have not taken yet: when they are more, it makes whoever comes wait for a second. */
const BACKLOG = 4096

/** What is served: the router, and the doors that need none. */
export type App = { router: Hono<RequestEnv>; doors: Doors; open: OpenRequest; logAnswer: LogAnswer }

export type HttpServer = {
  /** Rejects when the address is taken. */
  listen(port: number, host: string): Promise<{ port: number }>
  /** From now on each answer ends its connection; new ones are still taken. */
  retire(): void
  /** Takes no more connections, lets running requests finish, and cuts what is left after the time. */
  drain(milliseconds: number): Promise<void>
}

export function createHttpServer(
  { router, doors, open, logAnswer }: App,
  options: GuardOptions = {},
): HttpServer {
  const toRouter = getRequestListener((request, env) => router.fetch(request, env as HttpBindings))
  const server = createServer(
    {
      // Who sends slowly does not hold a socket for long.
      headersTimeout: 10_000,
      requestTimeout: 10_000,
      connectionsCheckingInterval: 1_000,
      keepAliveTimeout: 65_000,
      maxHeaderSize: 16_384,
      // guard.ts asks for exactly one; node would answer by itself, and go on with what came behind.
      requireHostHeader: false,
    },
    (incoming, outgoing) => {
      const { method, url = '' } = incoming
      const door = method === 'POST' && Object.hasOwn(doors, url) ? doors[url] : undefined
      if (!door) return void toRouter(incoming, outgoing)
      const fields = gatherFields()
      const request = open(incoming, fields)
      const answered = logAnswer(request)
      enter(door, request, { outgoing, lines: fields.lines }).then(
        (status) => answered?.(url, status),
        (error) => {
          requestLog(request).error({ err: error }, 'an answer could not be sent')
          outgoing.destroy()
        },
      )
    },
  )
  const { retire } = guard(server, options)

  return {
    listen: (port, host) =>
      new Promise((resolve, reject) => {
        server.once('error', reject)
        server.listen(port, host, BACKLOG, () => {
          server.off('error', reject)
          const address = server.address()
          resolve({ port: typeof address === 'object' && address ? address.port : port })
        })
      }),
    retire,
    drain(milliseconds) {
      retire()
      return new Promise((resolve) => {
        const cut = setTimeout(() => server.closeAllConnections(), milliseconds)
        server.close(() => {
          clearTimeout(cut)
          resolve()
        })
        server.closeIdleConnections()
      })
    },
  }
}
