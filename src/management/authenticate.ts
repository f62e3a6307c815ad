/**
 * Who asks: an access token that Signet itself minted for the management API, verified offline with the published SDK
 * like any other API would, and then, since the database is at hand here, held against what it says now.
 */
import type { IncomingMessage } from 'node:http'
import { createVerifier, type JwkSet, VerificationError } from '#sdk'
import type { Transaction } from '../database/transaction.ts'
import { ApiError } from '../errors.ts'
import { fieldLines } from '../http/fields.ts'
import type { Actor } from './operation.ts'
import { enterPlatform, enterTenant, findStanding } from './store.ts'

/** What a verified token says of its bearer. */
export type Bearer = {
  /** Its own, and those of the tokens that it was had for. */
  jtis: readonly string[]
  clientId: string
  keyId: string
  organizationId: string
  scopes: readonly string[]
  /** Unix time, seconds. */
  issuedAt: number
}

export type Authenticate = (
  request: Pick<IncomingMessage, 'rawHeaders'>,
  clientAddress: string,
) => Promise<Bearer>

/** Counts failures by where they come from: network/throttle.ts. */
type Failures = {
  blockedSeconds(clientAddress: string): Promise<number | undefined>
  record(clientAddress: string): Promise<void>
}

const INVALID = 'The access token is missing, malformed, expired, revoked, or for something else.'

export const invalidToken = () => new ApiError('invalid_token', INVALID)

/** RFC 6750 §3.1: names the scope that is needed. */
export const insufficientScope = (scope: string, detail: string) =>
  new ApiError('insufficient_scope', detail, {
    headers: { 'WWW-Authenticate': `Bearer realm="signet", error="insufficient_scope", scope="${scope}"` },
  })

/**
 * Verifies the token of a request. Throws ApiError: `invalid_token` (without `error` in the challenge where no token
 * was shown, RFC 6750 §3.1), `invalid_request` on several credentials, `rate_limited` after too many invalid ones from
 * that source, `unavailable` before the keys are loaded.
 */
export function createAuthenticate(options: {
  issuer: string
  /** The production key set; the same object for as long as it is the same set. */
  jwks: () => JwkSet | undefined
  failures: Failures
  now: () => number
}): Authenticate {
  const { issuer, failures, now } = options
  const verifier = createVerifier({
    issuer,
    // The issuer is the audience of its own management API; no token with other scopes ever has it.
    audience: issuer,
    jwks() {
      const jwks = options.jwks()
      if (!jwks) throw new Error('the keys have not been loaded yet')
      return jwks
    },
    now,
  })

  return async function authenticate(request, clientAddress) {
    const authorizations = fieldLines(request, 'authorization')
    if (authorizations.length + fieldLines(request, 'x-api-key').length > 1)
      throw new ApiError('invalid_request', 'Present one credential: an access token in Authorization.', {
        headers: { 'WWW-Authenticate': 'Bearer realm="signet", error="invalid_request"' },
      })
    // RFC 6750 §2.1; a foreign scheme is no attempt at this one.
    const token = /^bearer (.*)$/i.exec(authorizations[0] ?? '')?.[1]
    if (token === undefined)
      throw new ApiError('invalid_token', INVALID, {
        headers: { 'WWW-Authenticate': 'Bearer realm="signet"' },
      })
    try {
      const claims = await verifier.verify(token)
      // A partner's token is for the business of whoever delegated, never for its administration.
      if (claims.partner_id !== undefined) throw invalidToken()
      return {
        jtis: [claims.jti, ...(claims.subject_jtis ?? [])],
        clientId: claims.client_id,
        keyId: claims.key_id,
        organizationId: claims.organization_id,
        scopes: claims.scope.split(' '),
        issuedAt: claims.iat,
      }
    } catch (error) {
      if (!(error instanceof VerificationError)) throw error
      if (error.status !== 503) throw await failed(clientAddress)
      throw new ApiError('unavailable', 'The keys have not been loaded yet.', {
        headers: { 'Retry-After': '1' },
        cause: error,
      })
    }
  }

  /** Only failures are held up: behind the same address there may be others, whose tokens are good. */
  async function failed(clientAddress: string): Promise<ApiError> {
    const blockedSeconds = await failures.blockedSeconds(clientAddress)
    if (blockedSeconds === undefined) {
      await failures.record(clientAddress)
      return invalidToken()
    }
    return new ApiError('rate_limited', 'Too many invalid tokens; slow down.', {
      headers: { 'Retry-After': String(blockedSeconds) },
    })
  }
}

/**
 * Makes the transaction the bearer's tenant's, and tells who acts in it. Throws as checkStanding does.
 */
export async function enter(
  transaction: Transaction,
  bearer: Bearer,
  scope: string,
): Promise<{ actor: Actor; now: Date }> {
  await enterTenant(transaction, bearer.organizationId)
  const began = await checkStanding(transaction, bearer, scope)
  if (began.actor.isPlatform) await enterPlatform(transaction)
  return began
}

/**
 * A token outlives what it was minted by; here it does not count any more once it, its key's tokens, its client or its
 * organization has been revoked or suspended since it was issued (ApiError `invalid_token`), or its client has lost the
 * scope (`insufficient_scope`). For a transaction that has been entered.
 */
export async function checkStanding(
  transaction: Transaction,
  bearer: Bearer,
  scope: string,
): Promise<{ actor: Actor; now: Date }> {
  const standing = await findStanding(transaction, bearer)
  if (
    !standing ||
    standing.isTokenRevoked ||
    standing.areTokensRevoked ||
    standing.isCutOff ||
    (standing.clientStatus !== 'active' && standing.isClientOthers) ||
    standing.organizationStatus !== 'active'
  )
    throw invalidToken()
  if (!bearer.scopes.includes(scope))
    throw insufficientScope(scope, 'The access token lacks the scope of this operation.')
  if (!standing.clientScopes.includes(scope) && standing.isClientOthers)
    throw insufficientScope(scope, 'The client of the access token no longer holds the scope.')
  const { clientId, keyId, organizationId } = bearer
  const { isPlatform, clientScopes: scopes, keyCreatedBy, now } = standing
  return { actor: { clientId, keyId, organizationId, isPlatform, scopes, keyCreatedBy }, now }
}
