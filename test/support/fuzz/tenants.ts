/** Two tenants with clients that administer them, and a client of OAuth in each environment, made before a run. */
import { MANAGEMENT_SCOPES } from '../../../src/management/scopes.ts'
import { PUBLIC_JWKS, type Secret } from './clients.ts'
import type { Credential } from './plan.ts'

/** The client that makes the tenants: the first start's. */
export type Operator = { organization_id: string; client_id: string; key_id: string; key: string }

type ByCredential<Value> = Partial<Record<Credential, Value>>
type Steady = Secret & { scopes: string[]; jwks: { keys: Record<string, unknown>[] } }

const FROM_HERE = ['127.0.0.0/8', '::1/128']

/** `guarded`: ids that no request of the run may harm. */
export async function createTenants(url: string, operator: Operator) {
  const guarded = new Set<string>([operator.organization_id, operator.client_id, operator.key_id])

  async function call(
    method: string,
    path: string,
    token: string,
    body?: object,
  ): Promise<Record<string, string>> {
    const response = await fetch(url + path, {
      method,
      headers: { Authorization: `Bearer ${token}`, ...(body ? { 'Content-Type': 'application/json' } : {}) },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
    const answer = (await response.json()) as Record<string, string>
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`)
    return answer
  }

  async function mint(key: string, organizationId: string, scopes: readonly string[]): Promise<string> {
    const body = { expiry_seconds: 3600, scopes: { organization_id: organizationId, scopes } }
    const { token = '' } = await call('POST', '/v2/auth/token', key, body)
    const { jti } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
    guarded.add(jti)
    return token
  }

  const platform = () => mint(operator.key, operator.organization_id, MANAGEMENT_SCOPES)
  const token = await platform()

  async function addClient(
    organizationId: string,
    client: { environment: string } & Record<string, unknown>,
  ) {
    const body = { ...client, allowed_cidrs: FROM_HERE }
    const { id = '' } = await call('POST', `/v2/organizations/${organizationId}/clients`, token, body)
    if (client.environment === 'production') await call('POST', `/v2/clients/${id}/approve`, token)
    const { id: keyId = '', key = '' } = await call('POST', `/v2/clients/${id}/keys`, token, {})
    guarded.add(id).add(keyId)
    return { clientId: id, key, organizationId }
  }

  const tokens: ByCredential<string> = { platform: token }
  const organizations: ByCredential<string> = {}
  const mints: ByCredential<() => Promise<string>> = { platform }
  for (const name of ['tenant', 'partner'] as const) {
    const { id: organizationId = '' } = await call('POST', '/v2/organizations', token, { name })
    organizations[name] = organizationId
    guarded.add(organizationId)
    const scopes = MANAGEMENT_SCOPES.filter((scope) => !/approve|signing_keys/.test(scope))
    const { key } = await addClient(organizationId, {
      name: 'Administration',
      environment: 'production',
      scopes,
    })
    mints[name] = () => mint(key, organizationId, scopes)
    tokens[name] = await mints[name]()
    if (name === 'partner') continue
    mints.narrow = () => mint(key, organizationId, ['signet:usage:read'])
    tokens.narrow = await mints.narrow()
  }

  async function addSteady(environment: 'sandbox' | 'production'): Promise<Steady> {
    const scopes = ['transactions:read', 'person:write']
    const policy = { name: 'Integration', environment, scopes, rate_limit_per_minute: 10_000 }
    const client = await addClient(organizations.tenant ?? '', policy)
    const jwks = { keys: PUBLIC_JWKS.slice(0, 1) }
    await call('POST', `/v2/clients/${client.clientId}/jwks`, token, jwks)
    return { ...client, scopes, jwks }
  }

  return {
    tokens,
    mints,
    organizations,
    guarded,
    steady: { sandbox: await addSteady('sandbox'), production: await addSteady('production') },
  }
}
