/** What a run has seen so far, and what it authenticates with; the latter is kept from harm. */
import { MANAGEMENT_SCOPES } from '../../../src/management/scopes.ts'
import type { Credential, Plan } from './plan.ts'
import type { Kind } from './values.ts'

/** The client that makes the tenants: the first start's. */
export type Operator = { organization_id: string; client_id: string; key_id: string; key: string }

/** So many ids of each kind are remembered. */
const POOL = 300

export type Sent = { method: string; path: string; headers: [string, string][]; body?: string | Buffer }
type Secret = { key: string; organizationId: string; clientId: string }

/** Makes two tenants with clients that administer them. */
export async function createWorld(url: string, operator: Operator) {
  const pools = new Map<Kind, string[]>()
  const secrets: Secret[] = []
  const scopesOf = new Map<string, string[]>()
  const cursors = new Map<string, string>()
  const guarded = new Set<string>([operator.organization_id, operator.client_id, operator.key_id])

  let learned = 0
  const keep = (kind: Kind, value: string) => {
    const pool = pools.get(kind) ?? []
    pools.set(kind, pool)
    if (pool.includes(value)) return
    // The oldest half stays: what was revoked long ago is asked for too.
    if (pool.length < POOL) pool.push(value)
    else pool[POOL / 2 + (learned++ % (POOL / 2))] = value
  }
  const pick = (kind: Kind, n: number): string => {
    const pool = pools.get(kind) ?? []
    return pool[n % Math.max(pool.length, 1)] ?? `${kind}_00000000000000000000000000`
  }

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
  const tokens: Partial<Record<Credential, string>> = { platform: await platform() }
  const organizations: Partial<Record<Credential, string>> = {}
  const mints: Partial<Record<Credential, () => Promise<string>>> = { platform }
  for (const name of ['tenant', 'partner'] as const) {
    const organization = await call('POST', '/v2/organizations', tokens.platform ?? '', { name })
    const organizationId = organization.id ?? ''
    organizations[name] = organizationId
    const client = await call('POST', `/v2/organizations/${organizationId}/clients`, tokens.platform ?? '', {
      name: 'Administration',
      environment: 'production',
      scopes: MANAGEMENT_SCOPES.filter((scope) => !/approve|signing_keys/.test(scope)),
      allowed_cidrs: ['127.0.0.0/8', '::1/128'],
    })
    await call('POST', `/v2/clients/${client.id}/approve`, tokens.platform ?? '')
    const key = await call('POST', `/v2/clients/${client.id}/keys`, tokens.platform ?? '', {})
    for (const id of [organizationId, client.id, key.id]) if (id) guarded.add(id)
    const scopes = client.scopes as unknown as string[]
    mints[name] = () => mint(key.key ?? '', organizationId, scopes)
    tokens[name] = await mints[name]()
    if (name === 'partner') continue
    mints.narrow = () => mint(key.key ?? '', organizationId, ['signet:usage:read'])
    tokens.narrow = await mints.narrow()
  }
  for (const id of guarded) keep(id.slice(0, 3) as Kind, id)

  /** Values with their picks put in. */
  function resolve(value: unknown, path: string): unknown {
    if (Array.isArray(value)) return value.map((each) => resolve(each, path))
    if (typeof value !== 'object' || value === null) return value
    const { $pick, n, $moment } = value as { $pick?: Kind; n?: number; $moment?: number }
    if ($pick === 'cursor') return cursors.get(path) ?? 'garbage'
    if ($pick) return pick($pick, n ?? 0)
    if ($moment !== undefined) return new Date(Date.now() + $moment * 1000).toISOString()
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, resolve(each, path)]))
  }

  function requestOf(plan: Plan): Sent {
    const isRead = plan.method === 'GET' || plan.method === 'HEAD'
    const made = plan.template.replace(/\{(\w+)\}/g, (_, name) => {
      const value = String(resolve(plan.parameters[name], ''))
      // What the requests are made with is looked at, never changed.
      const isGuarded = !isRead && guarded.has(value) && !/\/(clients|keys)$/.test(plan.template)
      return encodeURIComponent((isGuarded ? `${value}x` : value).toWellFormed())
    })
    const query = plan.query.map(([name, value]) => {
      const text = String(resolve(value, made)).toWellFormed()
      return `${name}=${encodeURIComponent(text)}`
    })
    // Mostly a young key: old ones have been revoked, or what they belong to has.
    const secret =
      plan.secret % 4 === 0
        ? secrets[plan.secret % Math.max(secrets.length, 1)]
        : secrets.at(-1 - (plan.secret % Math.min(secrets.length, 10)))
    const text = bodyTextOf(plan, secret)
    const headers = plan.headers.map(([name, value]): [string, string] => [
      name,
      Buffer.from(value).toString('latin1'),
    ])
    if (text !== undefined) {
      headers.push(['Content-Length', String(Buffer.byteLength(text))])
      if (!headers.some(([name]) => name === 'Content-Type'))
        headers.push(['Content-Type', 'application/json'])
    }
    headers.push(...credentialOf(plan, secret?.key))
    return {
      method: plan.method,
      path: query.length > 0 ? `${made}?${query.join('&')}` : made,
      headers,
      ...(text === undefined ? {} : { body: text }),
    }
  }
  function bodyTextOf(
    { body, template, credential, secret: n }: Plan,
    secret: Secret | undefined,
  ): string | undefined {
    if (!body) return undefined
    if ('text' in body) return body.text
    const value = resolve(body.json, '') as {
      scopes?: { organization_id?: string; scopes?: unknown }
      partner_id?: string
    }
    // Mostly, a key asks for what its client holds: else hardly any token would be minted.
    const granted = secret && scopesOf.get(secret.clientId)
    const wanted = value?.scopes
    if (template === '/v2/auth/token' && granted && wanted && Array.isArray(wanted.scopes) && n % 4 !== 0)
      value.scopes = { organization_id: secret.organizationId, scopes: granted.slice(0, 2) }
    // What a partner asks for itself, somebody may accept.
    if (template === '/v2/delegations' && credential === 'partner' && value?.partner_id && n % 4 !== 0)
      value.partner_id = organizations.partner ?? ''
    return JSON.stringify(value)
  }

  function credentialOf({ credential, presentation }: Plan, secret: string | undefined): [string, string][] {
    if (credential === 'none') return []
    if (credential === 'several')
      return [
        ['Authorization', `Bearer ${tokens.tenant}`],
        ['X-Api-Key', 'x'],
      ]
    const text =
      credential === 'garbage' ? 'eyJ.garbage.x' : credential === 'secret' ? secret : tokens[credential]
    if (text === undefined) return []
    if (credential !== 'secret' || presentation === 'bearer') return [['Authorization', `Bearer ${text}`]]
    return presentation === 'bare' ? [['Authorization', text]] : [['X-Api-Key', text]]
  }

  function learn({ path }: Sent, status: number, headers: Headers, body: string): void {
    if (status >= 400 || !headers.get('content-type')?.includes('json') || body === '') return
    if (path.startsWith('/openapi.json')) return
    const walk = (value: unknown): void => {
      if (typeof value === 'string') {
        const kind = /^(org|cli|key|dlg|tok|evt)_[0-9a-z]{26}$/.exec(value)?.[1]
        if (kind) keep(kind as Kind, value)
      } else if (Array.isArray(value)) value.forEach(walk)
      else if (typeof value === 'object' && value !== null) {
        const {
          kid,
          key,
          token,
          next_cursor: cursor,
          id,
          scopes,
          organization_id,
          client_id,
        } = value as Record<string, unknown>
        if (typeof kid === 'string') keep('kid', kid)
        if (typeof cursor === 'string') cursors.set(path.replace(/\?.*/, ''), cursor)
        if (typeof key === 'string') {
          secrets.push({
            key,
            organizationId: String(organization_id),
            clientId: String(client_id),
          })
          if (secrets.length > 100) secrets.shift()
        }
        if (typeof token === 'string')
          keep('tok', JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()).jti)
        if (typeof id === 'string' && id.startsWith('cli_') && Array.isArray(scopes)) scopesOf.set(id, scopes)
        Object.values(value).forEach(walk)
      }
    }
    walk(JSON.parse(body))
  }

  /** The signing key of a token may have been revoked: its client still stands, and mints another. */
  const refreshing = new Map<Credential, Promise<void>>()
  async function refresh(credential: Credential): Promise<void> {
    const again = mints[credential]
    if (!again) return
    const running =
      refreshing.get(credential) ??
      again().then(
        (token) => {
          tokens[credential] = token
        },
        // Its minute is used up: a later request tries again.
        () => {},
      )
    refreshing.set(credential, running)
    await running
    refreshing.delete(credential)
  }

  return { requestOf, learn, refresh }
}
