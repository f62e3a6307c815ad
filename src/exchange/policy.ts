/**
 * What a key may have minted: one pure function of the policy rows, the request and the time. It decides nothing about
 * limits or revoked versions; that is the admission's.
 */
import type { Environment } from '../database/schema.ts'
import type { Networks } from '../network/address.ts'

export const MIN_EXPIRY_SECONDS = 300
export const MAX_EXPIRY_SECONDS = 86_400
const DEFAULT_EXPIRY_SECONDS = 3600
/** Scopes of the management API. Its audience is the issuer, so they never share a token with others. */
const MANAGEMENT_SCOPE = /^signet:/

export type Standing = {
  key: { expiresAt: Date | null; revokedAt: Date | null }
  client: {
    organizationId: string
    environment: Environment
    kind: 'organization' | 'partner'
    scopes: readonly string[]
    audience: string | null
    maxExpirySeconds: number
    allowedOrigins: readonly string[] | null
    status: 'pending_approval' | 'active' | 'suspended' | 'revoked'
  }
  /** Undefined: from anywhere. */
  allowedNetworks: Networks | undefined
  owner: { id: string; name: string; status: 'active' | 'suspended' }
  /** Of a partner's client: what the organization that was asked for has delegated to the owner, if anything. */
  mandate:
    | {
        organization: { id: string; name: string; status: 'active' | 'suspended' }
        delegation: {
          scopes: readonly string[]
          maxExpirySeconds: number
          status: 'pending' | 'active' | 'paused' | 'revoked'
        }
      }
    | undefined
}

export type TokenRequest = {
  organizationId: string
  scopes: readonly string[]
  expirySeconds: number | undefined
  audience: string | undefined
}

export type Circumstances = {
  /** Milliseconds. */
  now: number
  /** Canonical. */
  clientAddress: string
  /** The Origin header of a browser's request. */
  origin: string | undefined
  issuer: string
  defaultAudience: string
}

export type Grant = {
  ok: true
  organization: { id: string; name: string }
  scopes: readonly string[]
  audience: string
  expirySeconds: number
}

export type Denial =
  | { ok: false; reason: 'key_expired' | 'key_revoked' | 'client_revoked' }
  | { ok: false; reason: 'address_not_allowed' | 'origin_not_allowed' }
  | { ok: false; reason: 'client_pending_approval' | 'client_suspended' | 'owner_suspended' }
  | { ok: false; reason: 'organization_not_allowed' }
  | { ok: false; reason: 'scope_not_granted' | 'scopes_mixed'; index: number }
  | { ok: false; reason: 'expiry_too_long'; maxSeconds: number }
  | { ok: false; reason: 'audience_not_allowed' }

export function evaluate(
  standing: Standing,
  request: TokenRequest,
  circumstances: Circumstances,
): Grant | Denial {
  const { key, client, owner } = standing
  const { now, clientAddress, origin, issuer, defaultAudience } = circumstances

  // The key itself, and from where it may be used.
  if (key.revokedAt !== null) return deny('key_revoked')
  if (key.expiresAt !== null && key.expiresAt.getTime() <= now) return deny('key_expired')
  if (client.status === 'revoked') return deny('client_revoked')
  if (standing.allowedNetworks && !standing.allowedNetworks(clientAddress)) return deny('address_not_allowed')
  if (origin !== undefined && !client.allowedOrigins?.includes(origin)) return deny('origin_not_allowed')

  // Its client and the owner.
  if (client.status === 'pending_approval') return deny('client_pending_approval')
  if (client.status === 'suspended') return deny('client_suspended')
  if (owner.status === 'suspended') return deny('owner_suspended')

  // The organization: the owner's own, or one that has delegated. All others look alike.
  const target = organizationFor(standing, request.organizationId)
  if (!target) return deny('organization_not_allowed')

  // Scopes: exactly what client and delegation both hold, all or nothing.
  const ungranted = request.scopes.findIndex(
    (scope) => !client.scopes.includes(scope) || !(target.delegation?.scopes.includes(scope) ?? true),
  )
  if (ungranted !== -1) return { ok: false, reason: 'scope_not_granted', index: ungranted }
  const isManagement = MANAGEMENT_SCOPE.test(request.scopes[0] ?? '')
  const foreign = request.scopes.findIndex((scope) => MANAGEMENT_SCOPE.test(scope) !== isManagement)
  if (foreign !== -1) return { ok: false, reason: 'scopes_mixed', index: foreign }

  // The expiry: never cut to fit. Who asks for none gets the default, or the ceiling where that is lower.
  const maxSeconds = Math.min(
    client.maxExpirySeconds,
    target.delegation?.maxExpirySeconds ?? MAX_EXPIRY_SECONDS,
  )
  const expirySeconds = request.expirySeconds ?? Math.min(DEFAULT_EXPIRY_SECONDS, maxSeconds)
  if (expirySeconds > maxSeconds) return { ok: false, reason: 'expiry_too_long', maxSeconds }

  // The audience follows from the scopes; naming another one is a mistake, not a wish. The issuer is the management
  // API's: whatever is configured, no business token gets it.
  const audience = isManagement ? issuer : (client.audience ?? defaultAudience)
  if (!isManagement && audience === issuer) return deny('audience_not_allowed')
  if (request.audience !== undefined && request.audience !== audience) return deny('audience_not_allowed')

  const { id, name } = target.organization
  return { ok: true, organization: { id, name }, scopes: request.scopes, audience, expirySeconds }
}

function organizationFor({ client, owner, mandate }: Standing, organizationId: string) {
  switch (client.kind) {
    case 'organization':
      return organizationId === owner.id ? { organization: owner, delegation: undefined } : undefined
    case 'partner': {
      const holds =
        mandate?.organization.id === organizationId &&
        mandate.organization.status === 'active' &&
        mandate.delegation.status === 'active'
      return holds ? mandate : undefined
    }
  }
}

const deny = <Reason extends string>(reason: Reason) => ({ ok: false as const, reason })
