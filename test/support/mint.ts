/** Calls of `POST /v2/auth/token`. */
import { request } from 'node:http'
import type { Sql } from 'postgres'
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

/** On a connection of its own: workers are dealt those in turn. */
export const mintAnew = (url: string, client: Pick<SeededClient, 'organizationId' | 'key' | 'scopes'>) =>
  rawRequest(url, {
    headers: [
      ['Authorization', `Bearer ${client.key}`],
      ['Content-Type', 'application/json'],
      ['Connection', 'close'],
    ],
    body: JSON.stringify(tokenBody(client)),
  })

export type TokenAnswer = {
  token: string
  expiry: number
  organization_id: string
  organization_name: string
  scopes: { organization_id: string; scopes: string[] }
}

export type Problem = {
  type: string
  title: string
  status: number
  detail: string
  request_id: string
  error: { code: string }
  errors?: { pointer: string; detail: string }[]
  'violated-policies'?: string[]
}

/** The answer of a mint that must have succeeded. */
export async function tokenOf(response: Response): Promise<TokenAnswer> {
  if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`)
  return (await response.json()) as TokenAnswer
}

/** The problem of a request that must have been refused. */
export async function problemOf(response: Response | RawAnswer): Promise<Problem> {
  const text = 'text' in response ? await response.text() : response.body
  if (response.status < 400) throw new Error(`${response.status}: ${text}`)
  return JSON.parse(text) as Problem
}

/** All that a caller can tell an answer by, to the byte: not its id, which is random, nor its date. */
export function fingerprint(answer: RawAnswer): object {
  const { 'x-request-id': id, date: _date, ...headers } = answer.headers
  return { status: answer.status, headers, body: answer.body.replace(String(id), 'id') }
}

/** Rate-limit windows are minutes of the database's clock: waits for the next one when too little of this is left. */
export async function untilMinuteHasLeft(sql: Sql, seconds: number): Promise<void> {
  const [row] = await sql<
    { left: number }[]
  >`select 60 - extract(second from clock_timestamp())::float8 as left`
  const left = row?.left ?? 0
  if (left < seconds) await new Promise((resolve) => setTimeout(resolve, left * 1000 + 50))
}
