/**
 * What a client may have minted: one pure function of the policy rows, the request and the time. It decides nothing about
 * limits or revoked versions; that is the admission's.
 */
import { toSeconds } from '../clock.ts'
import type { Environment } from '../database/schema.ts'
import { findKeyDenial, type KeyCircumstances, type KeyDenial, type KeyStanding } from '../keys/standing.ts'
import { isManagementScope } from '../management/scopes.ts'
import { MAX_EXPIRY_SECONDS } from '../management/wire.ts'
import type { ActorClaim } from './claims.ts'

const DEFAULT_EXPIRY_SECONDS = 3600

export type Standing = KeyStanding & {
  client: {
    organizationId: string
    environment: Environment
    kind: 'organization' | 'partner'
    scopes: readonly string[]
    audience: string | null
    maxExpirySeconds: number
    tokensRevokedAt: Date | null
  }
  owner: { id: string; name: string; tokensRevokedAt: Date | null }
  /** Of a partner's client: what the organization that was asked for has delegated to the owner, if anything. */
  mandate:
    | {
        organization: {
          id: string
          name: string
          status: 'active' | 'suspended'
          tokensRevokedAt: Date | null
        }
        delegation: {
          scopes: readonly string[]
          maxExpirySeconds: number
          status: 'pending' | 'active' | 'paused' | 'revoked'
          tokensRevokedAt: Date | null
        }
      }
    | undefined
}

export type TokenRequest = {
  organizationId: string
  /** Undefined: all that may be granted. */
  scopes: readonly string[] | undefined
  expirySeconds: number | undefined
  audience: string | undefined
  /** The token that is given for it (RFC 8693): what is minted never exceeds it. */
  subject: SubjectToken | undefined
}

/** An access token that was found good, and not revoked, when the request was read. */
export type SubjectToken = {
  jti: string
  subjectJtis: readonly string[]
  scopes: readonly string[]
  audience: string
  organizationId: string
  /** Unix time, seconds. */
  issuedAt: number
  expiresAt: number
  act: ActorClaim | undefined
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
  | { ok: false; reason: 'nothing_to_grant' | 'scopes_ambiguous' }
  | { ok: false; reason: 'expiry_too_long'; maxSeconds: number }
  | { ok: false; reason: 'audience_not_allowed' }
  /** Not good, or not this client's: which of them is not told. */
  | { ok: false; reason: 'subject_invalid' }
  | { ok: false; reason: 'too_many_actors' }

export function evaluate(
  standing: Standing,
  request: TokenRequest,
  circumstances: Circumstances,
): Grant | Denial {
  const { client } = standing
  const { subject } = request
  const { issuer, defaultAudience } = circumstances

  // The key itself, from where it may be used, its client and the owner.
  const denial = findKeyDenial(standing, circumstances)
  if (denial) return denial

  // The organization: the owner's own, or one that has delegated. All others look alike.
  const target = organizationFor(standing, request.organizationId)
  if (!target || (subject && subject.organizationId !== request.organizationId))
    return deny('organization_not_allowed')
  const isSubjectOver =
    subject &&
    (subject.issuedAt < firstValidIssue(standing) || subject.expiresAt <= toSeconds(circumstances.now))
  if (isSubjectOver) return deny('subject_invalid')

  // Scopes: exactly what client, delegation and the token that is given for it all hold, all or nothing.
  const holders = [client, target.delegation, subject].filter((holder) => holder !== undefined)
  const isGranted = (scope: string) => holders.every(({ scopes }) => scopes.includes(scope))
  const isOfAudience = (scope: string) =>
    request.audience === undefined || isManagementScope(scope) === (request.audience === issuer)
  const scopes = request.scopes ?? client.scopes.filter((scope) => isGranted(scope) && isOfAudience(scope))
  const ungranted = scopes.findIndex((scope) => !isGranted(scope))
  if (ungranted !== -1) return { ok: false, reason: 'scope_not_granted', index: ungranted }
  if (scopes.length === 0)
    return deny(request.audience === undefined ? 'nothing_to_grant' : 'audience_not_allowed')
  const isManagement = isManagementScope(scopes[0] ?? '')
  const foreign = scopes.findIndex((scope) => isManagementScope(scope) !== isManagement)
  if (foreign !== -1)
    return request.scopes ? { ok: false, reason: 'scopes_mixed', index: foreign } : deny('scopes_ambiguous')

  // The expiry: never cut to fit. Who asks for none gets the default, or the ceiling where that is lower.
  const maxSeconds = Math.min(
    client.maxExpirySeconds,
    target.delegation?.maxExpirySeconds ?? MAX_EXPIRY_SECONDS,
    subject ? subject.expiresAt - toSeconds(circumstances.now) : MAX_EXPIRY_SECONDS,
  )
  const expirySeconds = request.expirySeconds ?? Math.min(DEFAULT_EXPIRY_SECONDS, maxSeconds)
  if (expirySeconds > maxSeconds) return { ok: false, reason: 'expiry_too_long', maxSeconds }

  // The audience follows from the scopes; naming another one is a mistake, not a wish. The issuer is the management
  // API's: whatever is configured, no business token gets it.
  const audience = isManagement ? issuer : (client.audience ?? defaultAudience)
  if (!isManagement && audience === issuer) return deny('audience_not_allowed')
  if ((request.audience ?? audience) !== audience || (subject?.audience ?? audience) !== audience)
    return deny('audience_not_allowed')

  const { id, name } = target.organization
  return { ok: true, organization: { id, name }, scopes, audience, expirySeconds }
}

/**
 * The first second (Unix time) in which a token can be issued that no cut-off covers: those that there are were set when
 * the client, one of the organizations or the delegation was stopped, and stay when it goes on.
 */
export function firstValidIssue({
  client,
  owner,
  mandate,
}: Omit<Standing, 'key' | 'allowedNetworks'>): number {
  const cutOffs = [client, owner, mandate?.organization, mandate?.delegation]
    .map((row) => row?.tokensRevokedAt)
    .filter((cutOff) => cutOff instanceof Date)
  return Math.max(0, ...cutOffs.map((cutOff) => toSeconds(cutOff.getTime()) + 1))
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
