/** The HTTP server around the application: its limits, and how it ends. */
import type { Server, ServerResponse } from 'node:http'
import { createAdaptorServer } from '@hono/node-server'
import type { Hono } from 'hono'
import type { RequestEnv } from './request-context.ts'

export type HttpServer = {
  /** Rejects when the address is taken. */
  listen(port: number, host: string): Promise<{ port: number }>
  /** Takes no more connections, lets running requests finish, and cuts what is left after the time. */
  drain(milliseconds: number): Promise<void>
}

export function createHttpServer(app: Hono<RequestEnv>): HttpServer {
  let draining = false
  const unanswered = new Set<ServerResponse>()
  const server = createAdaptorServer({
    fetch: (request, env) => app.fetch(request, env),
    serverOptions: {
      // Who sends slowly does not hold a socket for long.
      headersTimeout: 10_000,
      requestTimeout: 10_000,
      connectionsCheckingInterval: 1_000,
      keepAliveTimeout: 65_000,
      maxHeaderSize: 16_384,
    },
  }) as Server
  server.prependListener('request', (_request, response) => {
    if (draining) announceClose(response)
    unanswered.add(response)
    response.once('close', () => unanswered.delete(response))
  })

  return {
    listen: (port, host) =>
      new Promise((resolve, reject) => {
        server.once('error', reject)
        server.listen(port, host, () => {
          server.off('error', reject)
          const address = server.address()
          resolve({ port: typeof address === 'object' && address ? address.port : port })
        })
      }),
    drain(milliseconds) {
      draining = true
      // Else their connections would stay open, idle, until they are cut.
      for (const response of unanswered) if (!response.headersSent) announceClose(response)
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

/** So that clients and proxies open their next connection elsewhere (RFC 9112 §9.6). */
function announceClose(response: ServerResponse): void {
  response.setHeader('Connection', 'close')
}
