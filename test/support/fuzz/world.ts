/** What a run has seen so far, and what it authenticates with; the latter is kept from harm. */
import type { OpenApiDocument } from '../../../src/http/openapi.ts'
import { createClients, type Secret } from './clients.ts'
import { FORM, type FormPairs } from './forms.ts'
import type { Credential, Plan } from './plan.ts'
import { createTenants, type Operator } from './tenants.ts'
import type { Kind } from './values.ts'

/** So many ids of each kind are remembered. */
const POOL = 300

export type Sent = { method: string; path: string; headers: [string, string][]; body?: string | Buffer }

/** Plans into requests, with what was seen put in. */
export async function createWorld(url: string, operator: Operator, document: OpenApiDocument) {
  const issuer = document.servers[0]?.url ?? ''
  const clients = createClients((isSandbox) => (isSandbox ? `${issuer}/sandbox` : issuer))
  const pools = new Map<Kind, string[]>()
  const secrets: Secret[] = []
  const scopesOf = new Map<string, string[]>()
  const cursors = new Map<string, string>()

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

  const { tokens, mints, organizations, steady, guarded } = await createTenants(url, operator)
  for (const { clientId, scopes, jwks } of Object.values(steady)) {
    scopesOf.set(clientId, scopes)
    clients.register(clientId, jwks)
  }
  for (const id of guarded) keep(id.slice(0, 3) as Kind, id)

  /** Who authenticates at an endpoint of OAuth: mostly a client of that issuer, half of the time one that stays. */
  function clientFor({ template, clientPresentation, secret: n }: Plan): Secret | undefined {
    const environment = template.startsWith('/sandbox/') ? 'sandbox' : 'production'
    if (n % 2 === 0) return steady[environment]
    const mark = environment === 'sandbox' ? '_test_' : '_live_'
    const others = secrets.filter(
      (each) =>
        n % 9 === 0 ||
        (each.key.includes(mark) && (clientPresentation !== 'assertion' || clients.isRegistered(each))),
    )
    return others[n % Math.max(others.length, 1)]
  }

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
    const isOfClients = plan.operation.security.some((scheme) => 'client' in scheme)
    const secret = isOfClients
      ? clientFor(plan)
      : plan.secret % 4 === 0
        ? secrets[plan.secret % Math.max(secrets.length, 1)]
        : secrets.at(-1 - (plan.secret % Math.min(secrets.length, 10)))
    const proof =
      isOfClients && !(plan.credential in tokens)
        ? clients.authenticate(plan, secret, plan.template.startsWith('/sandbox/'))
        : { headers: credentialOf(plan, secret?.key), pairs: [] }
    const text = bodyTextOf(plan, secret, proof.pairs)
    const headers = plan.headers.map(([name, value]): [string, string] => [
      name,
      Buffer.from(value).toString('latin1'),
    ])
    if (text !== undefined) {
      headers.push(['Content-Length', String(Buffer.byteLength(text))])
      if (!headers.some(([name]) => name === 'Content-Type'))
        headers.push(['Content-Type', isOfClients ? FORM : 'application/json'])
    }
    headers.push(...proof.headers)
    return {
      method: plan.method,
      path: query.length > 0 ? `${made}?${query.join('&')}` : made,
      headers,
      ...(text === undefined ? {} : { body: text }),
    }
  }
  function bodyTextOf(
    plan: Plan,
    secret: Secret | undefined,
    authentication: [string, string][],
  ): string | undefined {
    const { body, template, credential, secret: n } = plan
    if (!body) return undefined
    if ('text' in body) return body.text
    if ('form' in body)
      return new URLSearchParams([...formOf(body.form, plan, secret), ...authentication]).toString()
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

  function formOf(
    form: FormPairs,
    { template, secret: n }: Plan,
    client: Secret | undefined,
  ): [string, string][] {
    const pairs = form.map(([name, value]): [string, string] => [
      name,
      String(resolve(value, '')).toWellFormed(),
    ])
    const own = client && clients.tokenOf(client)
    if (!client || n % 4 === 3) return pairs
    if (!template.endsWith('/oauth2/token'))
      return own && n % 4 === 2 ? pairs.map(([name, value]) => [name, name === 'token' ? own : value]) : pairs
    // Mostly, a client asks for what it may have: else hardly any token would be minted.
    const grant = pairs.filter(([name]) => name === 'grant_type')
    return grant[0]?.[1].endsWith('token-exchange')
      ? [
          ...grant,
          ['subject_token', own ?? pick('jwt', n)],
          ['subject_token_type', 'urn:ietf:params:oauth:token-type:access_token'],
        ]
      : [...grant, ['scope', (scopesOf.get(client.clientId) ?? []).slice(0, 2).join(' ')]]
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

  function learn({ method, path, body: sent }: Sent, status: number, headers: Headers, body: string): void {
    const [, registrant] = /^\/v2\/clients\/(\w+)\/jwks$/.exec(path) ?? []
    if (registrant !== undefined && method === 'POST' && status < 300)
      clients.register(registrant, JSON.parse(String(sent)))
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
          access_token: accessToken = token,
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
        if (typeof accessToken === 'string') {
          const claims = JSON.parse(Buffer.from(accessToken.split('.')[1] ?? '', 'base64url').toString())
          keep('tok', claims.jti)
          keep('jwt', accessToken)
          clients.keep(accessToken, claims)
        }
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
