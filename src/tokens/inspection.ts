/** Whether an access token is good at this moment, by what the database says: introspection, and token exchange. */
import { type Clock, toSeconds } from '../clock.ts'
import { createBounded } from '../database/bounded.ts'
import type { Environment } from '../database/schema.ts'
import type { InspectedToken, InspectionStore } from './store.ts'
import type { OwnToken, ReadToken } from './token-reader.ts'

/**
 * The claims of a token of that environment that was issued, has not expired and has not been revoked, by whatever means,
 * on whichever instance. Undefined for all else. Rejects with ApiError `unavailable`.
 */
export type InspectToken = (token: string, environment: Environment) => Promise<OwnToken | undefined>

/** Another instance's clock may be ahead, and what it has just issued is good. */
const AHEAD_SECONDS = 60
/** These are answered within a fraction of a second. */
const READS = {
  maxPending: 300,
  deadlineMilliseconds: 500,
  detail: 'Whether a token is good cannot be told at the moment.',
}

export function createInspectToken(dependencies: {
  readToken: ReadToken
  store: InspectionStore
  now: Clock
}): InspectToken {
  const { readToken, store, now } = dependencies
  const bounded = createBounded(READS)

  return async function inspectToken(token, environment) {
    // 1. In memory: what our keys have not signed, or is over, costs no read (RFC 7519 §4.1.4: on exp it is over).
    const claims = await readToken(token, environment)
    if (!claims) return undefined
    const seconds = toSeconds(now())
    if (claims.exp <= seconds || claims.iat > seconds + AHEAD_SECONDS) return undefined

    // 2. At the source, whatever it was that made the token bad: the same one read.
    const issued = await bounded(() => store.find(claims.jti, claims.iat))
    return issued && !issued.isRevoked && isAsIssued(claims, issued) ? claims : undefined
  }
}

/**
 * Whether the ledger says what the token says. What our key has signed and nobody recorded was never let out: it is the
 * work of whoever else has the key.
 */
function isAsIssued(claims: OwnToken, issued: InspectedToken): boolean {
  const { organizationId, ownerId } = issued
  return (
    claims.sub === issued.clientId &&
    claims.client_id === issued.clientId &&
    claims.key_id === issued.keyId &&
    claims.organization_id === organizationId &&
    // Named exactly when a partner minted for another.
    claims.partner_id === (ownerId === organizationId ? undefined : ownerId) &&
    claims.environment === issued.environment &&
    claims.scope === issued.scope &&
    claims.aud === issued.audience &&
    claims.exp === issued.expiresAt &&
    [claims.jti, ...(claims.subject_jtis ?? [])].join() === issued.jtis.join()
  )
}
