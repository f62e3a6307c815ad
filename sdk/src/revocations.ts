import { type AccessToken, isStrings } from './access-token.ts'
import { isJsonObject, type JsonObject } from './strict-json.ts'

/** Maps and a Set: ids are data, never property names. Times are in seconds. */
export type Revocations = {
  readonly issuedAt: number
  readonly expiresAt: number
  /** How old a copy may be, by the issuer's word. */
  readonly ttl: number
  readonly tokens: ReadonlySet<string>
  /** By claim: a token with this value there is revoked if it was issued before that. */
  readonly cutOffs: Readonly<Record<CutOffClaim, ReadonlyMap<string, number>>>
  /** By organization and partner. */
  readonly delegations: ReadonlyMap<string, number>
}

type CutOffClaim = 'key_id' | 'client_id' | 'organization_id' | 'kid'

/** What a verified feed says (docs/revocation-feed.md of Signet). Undefined if any of it is not as it should be. */
export function parseRevocations(payload: JsonObject, issuer: string): Revocations | undefined {
  const { iss, iat, exp, ttl, revoked } = payload
  if (iss !== issuer || !isSeconds(iat) || !isSeconds(exp) || !isSeconds(ttl) || ttl === 0) return undefined
  if (!isJsonObject(revoked)) return undefined

  const { jti } = revoked
  const key_id = parseCutOffs(revoked.key_id)
  const client_id = parseCutOffs(revoked.client_id)
  const organization_id = parseCutOffs(revoked.organization_id)
  const kid = parseCutOffs(revoked.kid)
  const delegations = parseDelegations(revoked.delegation)
  if (!isStrings(jti) || !key_id || !client_id || !organization_id || !kid || !delegations) return undefined
  return {
    issuedAt: iat,
    expiresAt: exp,
    ttl,
    tokens: new Set(jti),
    cutOffs: { key_id, client_id, organization_id, kid },
    delegations,
  }
}

/** Whether a token, signed by the key `kid`, is among them. */
export function isRevoked(revocations: Revocations, token: AccessToken, kid: string): boolean {
  const { tokens, cutOffs, delegations } = revocations
  if ([token.jti, ...(token.subject_jtis ?? [])].some((jti) => tokens.has(jti))) return true
  const { organization_id: organization, partner_id: partner } = token
  const befores = [
    cutOffs.key_id.get(token.key_id),
    cutOffs.client_id.get(token.client_id),
    cutOffs.organization_id.get(organization),
    cutOffs.kid.get(kid),
    ...(partner === undefined
      ? []
      : [cutOffs.organization_id.get(partner), delegations.get(pairOf(organization, partner))]),
  ]
  return befores.some((before) => before !== undefined && token.iat < before)
}

/** All that either says. A revocation is never taken back, so that this can be too much only of what is over. */
export function merge(a: Revocations, b: Revocations): Revocations {
  return {
    ...b,
    tokens: new Set([...a.tokens, ...b.tokens]),
    cutOffs: {
      key_id: latest(a.cutOffs.key_id, b.cutOffs.key_id),
      client_id: latest(a.cutOffs.client_id, b.cutOffs.client_id),
      organization_id: latest(a.cutOffs.organization_id, b.cutOffs.organization_id),
      kid: latest(a.cutOffs.kid, b.cutOffs.kid),
    },
    delegations: latest(a.delegations, b.delegations),
  }
}

function latest(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): Map<string, number> {
  const merged = new Map(a)
  for (const [id, before] of b) merged.set(id, Math.max(before, merged.get(id) ?? 0))
  return merged
}

function parseCutOffs(value: unknown): Map<string, number> | undefined {
  if (!isJsonObject(value)) return undefined
  const entries = Object.entries(value)
  return entries.every((entry): entry is [string, number] => isSeconds(entry[1]))
    ? new Map(entries)
    : undefined
}

function parseDelegations(value: unknown): Map<string, number> | undefined {
  if (!Array.isArray(value)) return undefined
  const parsed = new Map<string, number>()
  for (const entry of value) {
    if (!isJsonObject(entry)) return undefined
    const { organization_id: organization, partner_id: partner, before } = entry
    if (typeof organization !== 'string' || typeof partner !== 'string' || !isSeconds(before))
      return undefined
    const pair = pairOf(organization, partner)
    parsed.set(pair, Math.max(before, parsed.get(pair) ?? 0))
  }
  return parsed
}

/** One name for two ids, whatever is in them. */
const pairOf = (organization: string, partner: string) => JSON.stringify([organization, partner])

const isSeconds = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
