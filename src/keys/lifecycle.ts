/** The rules of a key's life: how many, how long, and what a revocation takes with it. Pure. */

/** Of one client, at any moment. */
export const MAX_LIVE_KEYS = 5

/** After the CRLReason of RFC 5280 §5.3.1; `compromised` is its keyCompromise. */
export const REVOCATION_REASONS = [
  'unspecified',
  'compromised',
  'superseded',
  'cessation_of_operation',
  'affiliation_changed',
  'privilege_withdrawn',
] as const
export type RevocationReason = (typeof REVOCATION_REASONS)[number]

export const DEFAULT_OVERLAP_SECONDS = 86_400
export const MAX_OVERLAP_SECONDS = 2_592_000

/** Years have four digits in RFC 3339. */
const END_OF_TIME = Date.UTC(9999, 11, 31, 23, 59, 59, 999)

/** Whether a key may expire then: not in the past, and at a moment that can be written. */
export const isExpiryPossible = (expiresAt: Date, now: Date): boolean =>
  expiresAt.getTime() > now.getTime() && expiresAt.getTime() <= END_OF_TIME

/** When a renewed key expires at the latest: it lives no longer than the one it replaces did. Null: no limit. */
export function latestExpiryOfRenewed(
  replaced: { createdAt: Date; expiresAt: Date | null },
  now: Date,
): Date | null {
  if (replaced.expiresAt === null) return null
  const life = replaced.expiresAt.getTime() - replaced.createdAt.getTime()
  return new Date(Math.min(now.getTime() + life, END_OF_TIME))
}

/** What a revocation changes. All false: it says nothing new. */
export type RevocationChanges = {
  revokes: boolean
  setsReason: boolean
  revokesTokens: boolean
}

/**
 * A revocation only ever goes further: what is revoked stays so, with its reason and since when. Only that a key turns
 * out to be compromised is news about one that was revoked for something else.
 */
export function revocationChanges(
  key: { revokedAt: Date | null; revocationReason: string | null; tokensRevokedAt: Date | null },
  asked: { reason: RevocationReason; revokesTokens: boolean },
): RevocationChanges {
  const revokes = key.revokedAt === null
  const isNews = asked.reason === 'compromised' && key.revocationReason !== 'compromised'
  return {
    revokes,
    setsReason: revokes || isNews,
    // Whoever has a compromised key has its tokens.
    revokesTokens: key.tokensRevokedAt === null && (asked.revokesTokens || asked.reason === 'compromised'),
  }
}
