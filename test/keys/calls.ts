/** What the tests of keys call, and what they get. */
import { type RawAnswer, rawRequest } from '../support/mint.ts'

export type KeyResource = {
  id: string
  client_id: string
  client_name: string
  organization_id: string
  environment: string
  prefix: string | null
  public_jwk: Record<string, string> | null
  created_at: string
  last_used_at: string | null
  last_used_ip: string | null
  expires_at: string | null
  status: 'active' | 'expired' | 'revoked'
  revoked_at: string | null
  revocation_reason: string | null
  tokens_revoked_at: string | null
  created_by: string | null
  replaces: string | null
  replaced_by: string | null
}
export type CreatedKey = KeyResource & { key: string; notice: string | null }
export type RenewedKey = CreatedKey & { replaced: { id: string; expires_at: string } }
export type Validation = {
  key: KeyResource
  client: Record<string, unknown>
  organization: Record<string, unknown>
  expiry: number | null
}

export type Headers = (readonly [string, string])[]

const bearer = (key: string): Headers => [['Authorization', `Bearer ${key}`]]

export const validate = (url: string, headers: Headers | string): Promise<RawAnswer> =>
  rawRequest(url, {
    method: 'GET',
    path: '/v2/auth/validate',
    headers: typeof headers === 'string' ? bearer(headers) : headers,
  })

/** Without a body where none is given. */
export const renew = (
  url: string,
  headers: Headers | string,
  body?: object | string,
  more: Headers = [],
): Promise<RawAnswer> =>
  rawRequest(url, {
    path: '/v2/auth/renew',
    headers: [
      ...(typeof headers === 'string' ? bearer(headers) : headers),
      ...(body === undefined ? [] : ([['Content-Type', 'application/json']] as const)),
      ...more,
    ],
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })

/** The body of an answer that must have this status. */
export function bodyOf<Body>(answer: RawAnswer, status: number): Body {
  if (answer.status !== status) throw new Error(`${answer.status}: ${answer.body}`)
  return JSON.parse(answer.body) as Body
}
