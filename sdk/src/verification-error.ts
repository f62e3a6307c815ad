/**
 * Why a token was refused. Stable: codes are added, never renamed.
 *
 * - `malformed` not a compact JWS of strict base64url and JSON, longer than 16 KiB, or without a usable `kid`
 * - `algorithm_not_allowed` `alg` is not on the allowlist, or is not the key's own `alg`
 * - `type_not_allowed` `typ` is not `at+jwt`
 * - `header_not_allowed` `crit`, `b64`, `jwk`, `jku`, `x5u` or `x5c` is present
 * - `unknown_key` the issuer's JWKS has no usable key with this `kid`
 * - `signature_invalid` the signature does not match
 * - `issuer_mismatch`, `audience_mismatch` another issuer, another audience or several
 * - `expired`, `not_yet_valid` outside `nbf`/`iat` … `exp`, clock tolerance included
 * - `claim_invalid` a claim that every Signet access token has is missing or of the wrong type
 * - `confirmation_unsupported` `cnf`: the token is bound to a key whose proof this verifier cannot check
 * - `revoked` valid, but the issuer's revocation feed lists it
 * - `insufficient_scope` valid, but a required scope is missing
 * - `organization_mismatch` valid, but for another organization
 * - `jwks_unavailable` no usable JWKS could be had; says nothing about the token
 * - `revocations_unavailable` no revocation feed that is fresh enough could be had; says nothing about the token
 */
export type VerificationErrorCode =
  | 'malformed'
  | 'algorithm_not_allowed'
  | 'type_not_allowed'
  | 'header_not_allowed'
  | 'unknown_key'
  | 'signature_invalid'
  | 'issuer_mismatch'
  | 'audience_mismatch'
  | 'expired'
  | 'not_yet_valid'
  | 'claim_invalid'
  | 'confirmation_unsupported'
  | 'revoked'
  | 'insufficient_scope'
  | 'organization_mismatch'
  | 'jwks_unavailable'
  | 'revocations_unavailable'

type Rendering = {
  readonly status: 401 | 403 | 503
  /** RFC 6750 §3.1 `error`; absent where the fault is not the token's. */
  readonly error?: 'invalid_token' | 'insufficient_scope'
  readonly message: string
}

const invalidToken = (message: string): Rendering => ({ status: 401, error: 'invalid_token', message })
// RFC 6750 §3.1 registers no code for "another tenant"; insufficient_scope is its only one for 403, "the request
// requires higher privileges than provided by the access token".
const forbidden = (message: string): Rendering => ({ status: 403, error: 'insufficient_scope', message })

// RFC 6750 §3: messages serve as error_description too, so they hold no quotation mark and no backslash.
const RENDERINGS: Readonly<Record<VerificationErrorCode, Rendering>> = {
  malformed: invalidToken('The access token is malformed'),
  algorithm_not_allowed: invalidToken('The algorithm of the access token is not allowed'),
  type_not_allowed: invalidToken('The token is not an access token'),
  header_not_allowed: invalidToken('The header of the access token has a member that is not allowed'),
  unknown_key: invalidToken('The access token is signed with an unknown key'),
  signature_invalid: invalidToken('The signature of the access token is invalid'),
  issuer_mismatch: invalidToken('The access token has another issuer'),
  audience_mismatch: invalidToken('The access token has another audience'),
  expired: invalidToken('The access token has expired'),
  not_yet_valid: invalidToken('The access token is not valid yet'),
  claim_invalid: invalidToken('A claim of the access token is missing or invalid'),
  confirmation_unsupported: invalidToken(
    'The access token is bound to a key and needs a proof of possession',
  ),
  revoked: invalidToken('The access token has been revoked'),
  insufficient_scope: forbidden('The access token lacks a required scope'),
  organization_mismatch: forbidden('The access token is for another organization'),
  jwks_unavailable: { status: 503, message: 'The keys of the issuer are not available' },
  revocations_unavailable: { status: 503, message: 'The revocations of the issuer are not available' },
}

/**
 * The one error that verification rejects with. Neither it nor its `cause` ever holds the token or a claim's
 * value, so it may be logged as it is. (Wrong options are a `TypeError`: a mistake of the caller.)
 */
export class VerificationError extends Error {
  override readonly name = 'VerificationError'
  readonly code: VerificationErrorCode
  /** HTTP status to answer with: 401, 403 (insufficient_scope, organization_mismatch), 503 (…_unavailable). */
  readonly status: 401 | 403 | 503
  /** Value for `WWW-Authenticate` (RFC 6750 §3); undefined with 503, where no other token would help. */
  readonly challenge: string | undefined

  constructor(
    code: VerificationErrorCode,
    details: { readonly scopes?: readonly string[]; readonly claim?: string; readonly cause?: unknown } = {},
  ) {
    const { status, error, message } = RENDERINGS[code]
    super(
      details.claim === undefined ? message : `${message}: ${details.claim}`,
      details.cause === undefined ? undefined : { cause: details.cause },
    )
    this.code = code
    this.status = status
    const scope = details.scopes === undefined ? '' : `, scope="${details.scopes.join(' ')}"`
    this.challenge =
      error === undefined ? undefined : `Bearer error="${error}", error_description="${this.message}"${scope}`
  }
}
