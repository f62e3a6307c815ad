/** Signet's HTTP server in front of nothing: it says which target was asked for, and keeps how often a proxy had marked it. */
import { Hono } from 'hono'
import { pino } from 'pino'
import { createOpenRequest, type RequestEnv } from '../../src/http/request-context.ts'
import { createHttpServer } from '../../src/http/server.ts'

export const MARK = 'X-Mark'

export type Recorder = {
  port: number
  requests: { target: string; marks: string[] }[]
  stop(): Promise<void>
}

export async function startRecorder(): Promise<Recorder> {
  const requests: Recorder['requests'] = []
  const app = new Hono<RequestEnv>()
  app.all('*', async (c) => {
    const { url = '', headersDistinct } = c.env.incoming
    requests.push({ target: url, marks: headersDistinct[MARK.toLowerCase()] ?? [] })
    c.env.incoming.resume()
    return c.json(url)
  })
  const open = createOpenRequest({
    log: pino({ level: 'silent' }),
    issuer: 'https://signet.test',
    clientAddress: () => '127.0.0.1',
  })
  const server = createHttpServer({ router: app, doors: {}, open, logAnswer: () => undefined })
  const { port } = await server.listen(0, '127.0.0.1')
  return { port, requests, stop: () => server.drain(100) }
}
