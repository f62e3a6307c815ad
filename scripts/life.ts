/**
 * The whole life of a tenant and of a partner, over HTTP alone:
 * operator → tenant → client → approval → key → exchange → renewal → overlap → revocation → refusal;
 * partner → delegation → exchange → pause → refusal.
 */
import { deepStrictEqual, strictEqual } from 'node:assert/strict'

export type LifeOptions = {
  url: string
  /** The operator's key, and the platform organization that it belongs to. */
  operatorKey: string
  /** Of who approves; the operator, unless FOUR_EYES asks for another. */
  approverKey?: string
  platformId: string
  say?: (line: string) => void
}

type Json = Record<string, unknown> & { id: string }

/** Rejects with what went otherwise than it should. */
export async function liveWhole({
  url,
  operatorKey,
  approverKey = operatorKey,
  platformId,
  say = () => {},
}: LifeOptions): Promise<void> {
  const SCOPES = ['transactions:read', 'person:write']
  const NETWORKS = ['127.0.0.0/8', '::1/128']

  async function call(
    status: number,
    method: string,
    path: string,
    bearer: string,
    body?: object,
  ): Promise<Json> {
    const response = await fetch(url + path, {
      method,
      headers: {
        Authorization: `Bearer ${bearer}`,
        ...(body ? { 'Content-Type': 'application/json' } : {}),
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
    const text = await response.text()
    const answer = JSON.parse(text)
    say(`${method} ${path} → ${response.status}${answer.error ? ` ${answer.error.code}` : ''}`)
    strictEqual(response.status, status, `${method} ${path} was answered with ${response.status}: ${text}`)
    return answer
  }

  const exchange = (status: number, key: string, organizationId: string, scopes = SCOPES) =>
    call(status, 'POST', '/v2/auth/token', key, { scopes: { organization_id: organizationId, scopes } })
  const codeOf = (answer: Json) => (answer.error as { code: string }).code
  const claimsOf = (token: unknown) =>
    JSON.parse(Buffer.from(String(token).split('.')[1] ?? '', 'base64url').toString())

  /** A token for the management API. */
  const administer = async (key: string, organizationId: string, scopes: string[]) =>
    String((await exchange(200, key, organizationId, scopes)).token)

  say('An operator makes a tenant, with a client of its own to administer itself.')
  const operator = await administer(operatorKey, platformId, [
    'signet:organizations:write',
    'signet:clients:write',
    'signet:keys:write',
  ])
  const approver = await administer(approverKey, platformId, ['signet:clients:approve'])
  const tenant = await call(201, 'POST', '/v2/organizations', operator, { name: 'Acme' })

  async function addAdministrator(organizationId: string): Promise<string> {
    const client = await call(201, 'POST', `/v2/organizations/${organizationId}/clients`, operator, {
      name: 'Administration',
      environment: 'production',
      scopes: [
        'signet:clients:read',
        'signet:clients:write',
        'signet:keys:read',
        'signet:keys:write',
        'signet:delegations:read',
        'signet:delegations:write',
        'signet:tokens:read',
        'signet:audit:read',
        'signet:usage:read',
      ],
      allowed_cidrs: NETWORKS,
    })
    await call(200, 'POST', `/v2/clients/${client.id}/approve`, approver)
    const { key } = await call(201, 'POST', `/v2/clients/${client.id}/keys`, operator)
    return administer(String(key), organizationId, client.scopes as string[])
  }
  const owner = await addAdministrator(tenant.id)

  say('The tenant makes a production client. It gets a key once the platform has approved it.')
  const client = await call(201, 'POST', `/v2/organizations/${tenant.id}/clients`, owner, {
    name: 'Payments',
    environment: 'production',
    scopes: SCOPES,
    allowed_cidrs: NETWORKS,
  })
  strictEqual(client.status, 'pending_approval')
  await call(403, 'POST', `/v2/clients/${client.id}/keys`, owner)
  await call(403, 'POST', `/v2/clients/${client.id}/approve`, owner)
  const approved = await call(200, 'POST', `/v2/clients/${client.id}/approve`, approver)
  strictEqual(approved.status, 'active')
  const first = await call(201, 'POST', `/v2/clients/${client.id}/keys`, owner)

  say('The key mints, is renewed, and both work until the overlap ends.')
  const minted = await exchange(200, String(first.key), tenant.id)
  strictEqual(claimsOf(minted.token).client_id, client.id)
  const renewed = await call(201, 'POST', '/v2/auth/renew', String(first.key), { overlap_seconds: 4 })
  strictEqual(renewed.replaces, first.id)
  await exchange(200, String(first.key), tenant.id)
  await exchange(200, String(renewed.key), tenant.id)
  await call(409, 'POST', '/v2/auth/renew', String(first.key))
  const ends = Date.now() + 30_000
  while ((await statusOf(String(first.key), tenant.id)) !== 401) {
    if (Date.now() > ends) throw new Error('the overlap did not end')
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  strictEqual(codeOf(await exchange(401, String(first.key), tenant.id)), 'invalid_key')

  say('Revoked, the new key mints nothing from that moment on.')
  await exchange(200, String(renewed.key), tenant.id)
  await call(200, 'POST', `/v2/keys/${renewed.id}/revoke`, owner, { reason: 'compromised' })
  strictEqual(codeOf(await exchange(401, String(renewed.key), tenant.id)), 'invalid_key')
  await call(401, 'POST', '/v2/auth/renew', String(renewed.key))

  say('A partner asks the tenant for a delegation, and mints for it once that is accepted.')
  const partner = await call(201, 'POST', '/v2/organizations', operator, { name: 'Partner' })
  const partnerOwner = await addAdministrator(partner.id)
  const integration = await call(201, 'POST', `/v2/organizations/${partner.id}/clients`, partnerOwner, {
    name: 'Integration',
    environment: 'sandbox',
    kind: 'partner',
    scopes: [...SCOPES, 'accounts:read'],
  })
  const master = await call(201, 'POST', `/v2/clients/${integration.id}/keys`, partnerOwner)
  const masterKey = String(master.key)
  strictEqual(codeOf(await exchange(403, masterKey, tenant.id)), 'organization_not_allowed')
  const delegation = await call(201, 'POST', '/v2/delegations', partnerOwner, {
    organization_id: tenant.id,
    partner_id: partner.id,
    environment: 'sandbox',
    scopes: SCOPES,
  })
  strictEqual(delegation.status, 'pending')
  strictEqual(codeOf(await exchange(403, masterKey, tenant.id)), 'organization_not_allowed')
  await call(200, 'POST', `/v2/delegations/${delegation.id}/accept`, owner)
  const delegated = claimsOf((await exchange(200, masterKey, tenant.id)).token)
  deepStrictEqual([delegated.organization_id, delegated.partner_id], [tenant.id, partner.id])
  strictEqual(codeOf(await exchange(403, masterKey, tenant.id, ['accounts:read'])), 'insufficient_scope')
  const seen = await call(200, 'GET', `/v2/tokens?client_id=${integration.id}`, owner)
  deepStrictEqual(
    (seen.data as { jti: string }[]).map(({ jti }) => jti),
    [delegated.jti],
  )

  say('Paused, the partner mints nothing for it; resumed, it does; revoked, never again.')
  await call(200, 'POST', `/v2/delegations/${delegation.id}/pause`, owner)
  strictEqual(codeOf(await exchange(403, masterKey, tenant.id)), 'organization_not_allowed')
  await call(200, 'POST', `/v2/delegations/${delegation.id}/resume`, owner)
  await exchange(200, masterKey, tenant.id)
  await call(200, 'POST', `/v2/delegations/${delegation.id}/revoke`, owner)
  strictEqual(codeOf(await exchange(403, masterKey, tenant.id)), 'organization_not_allowed')

  say('All of it is in the audit trail.')
  const trail = await call(200, 'GET', '/v2/audit-events?limit=100', owner)
  const actions = new Set((trail.data as { action: string }[]).map(({ action }) => action))
  for (const action of ['client.approve', 'key.create', 'key.renew', 'key.revoke', 'delegation.pause'])
    strictEqual(actions.has(action), true, `the audit trail has no ${action}`)

  async function statusOf(key: string, organizationId: string): Promise<number> {
    const response = await fetch(`${url}/v2/auth/token`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
      body: JSON.stringify({ scopes: { organization_id: organizationId, scopes: SCOPES } }),
    })
    await response.arrayBuffer()
    return response.status
  }
}
