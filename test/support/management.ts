/** Calls of the management API, as an operator or a tenant makes them. */
import { randomUUID } from 'node:crypto'
import type { Sql } from 'postgres'
import { MANAGEMENT_SCOPES } from '../../src/management/scopes.ts'
import { mint, tokenOf } from './mint.ts'
import { type ClientOptions, type SeededClient, seedClient } from './seed.ts'
import type { TestService } from './service.ts'

export type Answer<Body = Record<string, unknown>> = {
  status: number
  headers: Headers
  text: string
  body: Body
}

export type Api = {
  token: string
  get<Body = Record<string, unknown>>(path: string): Promise<Answer<Body>>
  post<Body = Record<string, unknown>>(
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Answer<Body>>
  patch<Body = Record<string, unknown>>(
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Answer<Body>>
}

/** With this access token. */
export function apiWith(url: string, token: string): Api {
  async function call<Body>(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer<Body>> {
    const response = await fetch(url + path, {
      method,
      headers: {
        Authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    const isJson = response.headers.get('content-type')?.includes('json')
    return {
      status: response.status,
      headers: response.headers,
      text,
      body: (isJson ? JSON.parse(text) : undefined) as Body,
    }
  }
  return {
    token,
    get: (path) => call('GET', path),
    post: (path, body, headers) => call('POST', path, body, headers),
    patch: (path, body, headers) => call('PATCH', path, body, headers),
  }
}

/** A token with these scopes, minted by the client's own key for its own organization. */
export async function tokenFor(
  url: string,
  client: Pick<SeededClient, 'organizationId' | 'key'>,
  scopes: readonly string[] = MANAGEMENT_SCOPES,
): Promise<string> {
  const asked = { ...client, scopes: [...scopes] }
  return (await tokenOf(await mint(url, asked))).token
}

/** As the operator that the first start made: the platform, with every management scope. */
export async function apiOfOperator(
  service: TestService,
  scopes: readonly string[] = MANAGEMENT_SCOPES,
): Promise<Api> {
  if (!service.operator) throw new Error('this service did not start first on its database')
  const { organization_id: organizationId, key } = service.operator
  return apiWith(service.url, await tokenFor(service.url, { organizationId, key }, scopes))
}

export type Tenant = { client: SeededClient; api: Api }

/** A tenant with a production client that holds management scopes, and the API as that client. */
export async function createTenant(
  service: TestService,
  sql: Sql,
  options: ClientOptions = {},
): Promise<Tenant> {
  const scopes = options.scopes ?? [...MANAGEMENT_SCOPES]
  const client = await seedClient(sql, { environment: 'production', ...options, scopes })
  return { client, api: apiWith(service.url, await tokenFor(service.url, client, scopes)) }
}

export const idempotencyKey = (): Record<string, string> => ({ 'Idempotency-Key': randomUUID() })
