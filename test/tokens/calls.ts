/** Calls of `POST /oauth2/introspect` and `POST /oauth2/revoke`. */
import type { Sql } from 'postgres'
import { mint, tokenOf } from '../support/mint.ts'
import type { SeededClient } from '../support/seed.ts'

type Caller = Pick<SeededClient, 'clientId' | 'key' | 'environment'>

export const basic = ({ clientId, key }: Pick<SeededClient, 'clientId' | 'key'>): string =>
  `Basic ${Buffer.from(`${clientId}:${key}`).toString('base64')}`

/** Of the caller's issuer, as the caller, unless told otherwise. */
export const ask = (
  url: string,
  endpoint: 'introspect' | 'revoke',
  caller: Caller,
  body: string | Record<string, string>,
  headers: Record<string, string> = {},
): Promise<Response> =>
  fetch(`${url}${caller.environment === 'sandbox' ? '/sandbox' : ''}/oauth2/${endpoint}`, {
    method: 'POST',
    headers: {
      Authorization: basic(caller),
      'Content-Type': 'application/x-www-form-urlencoded',
      ...headers,
    },
    body: typeof body === 'string' ? body : new URLSearchParams(body).toString(),
  })

export type Introspection = { active: boolean } & Record<string, unknown>

export async function introspect(url: string, caller: Caller, token: string): Promise<Introspection> {
  const response = await ask(url, 'introspect', caller, { token })
  if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`)
  return (await response.json()) as Introspection
}

export const isActive = async (url: string, caller: Caller, token: string): Promise<boolean> =>
  (await introspect(url, caller, token)).active

/** The status of the answer, whose body must be empty. */
export async function revoke(url: string, caller: Caller, token: string): Promise<number> {
  const response = await ask(url, 'revoke', caller, { token })
  const text = await response.text()
  if (response.status === 200 && text !== '') throw new Error(`a body: ${text}`)
  return response.status
}

export type Claims = {
  jti: string
  iat: number
  exp: number
  iss: string
  sub: string
  aud: string
  scope: string
  partner_id?: string
}

export const claimsOf = (token: string): Claims =>
  JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())

export const tokenFrom = async (
  url: string,
  client: SeededClient,
  organizationId = client.organizationId,
): Promise<string> => (await tokenOf(await mint(url, { ...client, organizationId }))).token

/** What the client has for a token of its own, by token exchange; undefined: it is refused. */
export async function exchangeFor(url: string, client: Caller, subject: string): Promise<string | undefined> {
  const answer = await fetch(`${url}${client.environment === 'sandbox' ? '/sandbox' : ''}/oauth2/token`, {
    method: 'POST',
    headers: { Authorization: basic(client) },
    body: new URLSearchParams({
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token: subject,
      subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    }),
  })
  const body = (await answer.json()) as { access_token?: string; error?: string }
  if (!body.access_token && !/^(invalid_request|temporarily_unavailable)$/.test(body.error ?? ''))
    throw new Error(`${answer.status}: ${body.error}`)
  return body.access_token
}

export const revokedAmong = async (sql: Sql, jtis: readonly string[]): Promise<string[]> =>
  (
    await sql<{ jti: string }[]>`select jti from revoked_tokens where jti = any(${[...jtis]}) order by jti`
  ).map(({ jti }) => jti)

export const flip = (token: string): string => `${token.slice(0, -2)}${token.endsWith('AA') ? 'BB' : 'AA'}`
