/** Calls of `POST /oauth2/token`, to the letter: nothing is added, joined or repaired on the way. */
import { type RawAnswer, rawRequest } from '../support/mint.ts'
import type { SeededClient } from '../support/seed.ts'

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
export const ACCESS_TOKEN_TYPE = 'urn:ietf:params:oauth:token-type:access_token'
export const JWT_TYPE = 'urn:ietf:params:oauth:token-type:jwt'

export type Parameters = Record<string, string> | readonly (readonly [string, string])[]
type Client = Pick<SeededClient, 'clientId' | 'key' | 'environment'>
type Lines = readonly (readonly [string, string])[]

export const FORM = ['Content-Type', 'application/x-www-form-urlencoded'] as const

export const basicOf = (clientId: string, secret: string): string =>
  `Basic ${Buffer.from(`${clientId}:${secret}`).toString('base64')}`

export const basic = ({ clientId, key }: Pick<SeededClient, 'clientId' | 'key'>) =>
  ['Authorization', basicOf(clientId, key)] as const

export const tokenPath = (environment: 'sandbox' | 'production') =>
  environment === 'production' ? '/oauth2/token' : '/sandbox/oauth2/token'

export const formOf = (parameters: Parameters): string =>
  new URLSearchParams(parameters as Record<string, string>).toString()

/** A body as it is. */
export const postForm = (
  url: string,
  body: string | Parameters,
  options: { headers?: Lines; path?: string; method?: string } = {},
): Promise<RawAnswer> =>
  rawRequest(url, {
    path: options.path ?? tokenPath('sandbox'),
    method: options.method ?? 'POST',
    headers: [FORM, ...(options.headers ?? [])],
    body: typeof body === 'string' ? body : formOf(body),
  })

/** As that client, at its own issuer. */
export const askToken = (
  url: string,
  client: Client,
  parameters: Record<string, string> = {},
  headers: Lines = [],
): Promise<RawAnswer> =>
  postForm(
    url,
    { grant_type: 'client_credentials', ...parameters },
    { headers: [basic(client), ...headers], path: tokenPath(client.environment) },
  )

/** Token exchange, as that client. */
export const exchangeToken = (
  url: string,
  client: Client,
  subjectToken: string,
  parameters: Record<string, string> = {},
): Promise<RawAnswer> =>
  askToken(url, client, {
    grant_type: TOKEN_EXCHANGE,
    subject_token: subjectToken,
    subject_token_type: ACCESS_TOKEN_TYPE,
    ...parameters,
  })

export type IssuedToken = {
  access_token: string
  token_type: string
  expires_in: number
  scope: string
  issued_token_type?: string
}

/** The answer of a request that must have been granted. */
export function issuedOf(answer: RawAnswer): IssuedToken {
  if (answer.status !== 200) throw new Error(`${answer.status}: ${answer.body}`)
  return JSON.parse(answer.body) as IssuedToken
}

/** What a refusal comes down to. */
export function refusalOf(answer: RawAnswer): [status: number, error: string] {
  return [answer.status, (JSON.parse(answer.body) as { error: string }).error]
}
