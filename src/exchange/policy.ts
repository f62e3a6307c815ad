/**
 * What a key may have minted: one pure function of the policy rows, the request and the time. It decides nothing about
 * limits or revoked versions; that is the admission's.
 */
import type { Environment } from '../database/schema.ts'
import { findKeyDenial, type KeyCircumstances, type KeyDenial, type KeyStanding } from '../keys/standing.ts'
import { isManagementScope } from '../management/scopes.ts'
import { MAX_EXPIRY_SECONDS } from '../management/wire.ts'

const DEFAULT_EXPIRY_SECONDS = 3600

export type Standing = KeyStanding & {
  client: {
    organizationId: string
    environment: Environment
    kind: 'organization' | 'partner'
    scopes: readonly string[]
    audience: string | null
    maxExpirySeconds: number
  }
  owner: { id: string; name: string }
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

export type Circumstances = KeyCircumstances & { issuer: string; defaultAudience: string }

export type Grant = {
  ok: true
  organization: { id: string; name: string }
  scopes: readonly string[]
  audience: string
  expirySeconds: number
}

export type Denial =
  | KeyDenial
  | { ok: false; reason: 'organization_not_allowed' }
  | { ok: false; reason: 'scope_not_granted' | 'scopes_mixed'; index: number }
  | { ok: false; reason: 'expiry_too_long'; maxSeconds: number }
  | { ok: false; reason: 'audience_not_allowed' }

export function evaluate(
  standing: Standing,
  request: TokenRequest,
  circumstances: Circumstances,
): Grant | Denial {
  const { client } = standing
  const { issuer, defaultAudience } = circumstances

  // The key itself, from where it may be used, its client and the owner.
  const denial = findKeyDenial(standing, circumstances)
  if (denial) return denial

  // The organization: the owner's own, or one that has delegated. All others look alike.
  const target = organizationFor(standing, request.organizationId)
  if (!target) return deny('organization_not_allowed')

  // Scopes: exactly what client and delegation both hold, all or nothing.
  const ungranted = request.scopes.findIndex(
    (scope) => !client.scopes.includes(scope) || !(target.delegation?.scopes.includes(scope) ?? true),
  )
  if (ungranted !== -1) return { ok: false, reason: 'scope_not_granted', index: ungranted }
  const isManagement = isManagementScope(request.scopes[0] ?? '')
  const foreign = request.scopes.findIndex((scope) => isManagementScope(scope) !== isManagement)
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
