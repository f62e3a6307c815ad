/** Calls of `POST /v2/auth/token`. */
import { request } from 'node:http'
import type { SeededClient } from './seed.ts'

export const tokenBody = (client: Pick<SeededClient, 'organizationId' | 'scopes'>, more: object = {}) => ({
  scopes: { organization_id: client.organizationId, scopes: client.scopes },
  ...more,
})

/** Mints with the client's own key for its own organization, unless told otherwise. */
export const mint = (
  url: string,
  client: Pick<SeededClient, 'organizationId' | 'scopes' | 'key'>,
  more: { body?: object; headers?: Record<string, string> } = {},
): Promise<Response> =>
  fetch(`${url}/v2/auth/token`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${client.key}`, 'Content-Type': 'application/json', ...more.headers },
    body: JSON.stringify(more.body ?? tokenBody(client)),
  })

export type RawAnswer = {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: string
}

/** A request whose header lines are sent as they are: repeated, empty, in any case. */
export function rawRequest(
  url: string,
  options: { method?: string; path?: string; headers: (readonly [string, string])[]; body?: string | Buffer },
): Promise<RawAnswer> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve, reject) => {
    const call = request(
      {
        hostname,
        port,
        method: options.method ?? 'POST',
        path: options.path ?? '/v2/auth/token',
        headers: ['Host', `${hostname}:${port}`, ...options.headers.flat()],
      },
      (answer) => {
        const chunks: Buffer[] = []
        answer.on('data', (chunk) => chunks.push(chunk))
        answer.on('end', () =>
          resolve({
            status: answer.statusCode ?? 0,
            headers: answer.headers,
            body: Buffer.concat(chunks).toString(),
          }),
        )
        answer.on('error', reject)
      },
    )
    call.on('error', reject)
    call.end(options.body)
  })
}
