/** The claims of an access token (RFC 9068 §2.2), with Signet's own beside them. */
import { toSeconds } from '../clock.ts'
import type { Environment } from '../database/schema.ts'
import type { Grant } from './policy.ts'

/** What is undefined is not in the token. */
export type AccessTokenClaims = {
  iss: string
  sub: string
  aud: string
  iat: number
  exp: number
  jti: string
  client_id: string
  scope: string
  organization_id: string
  environment: Environment
  key_id: string
  partner_id: string | undefined
  act: ActorClaim | undefined
  /** What it was had for, the last first: a token is revoked with any of them. */
  subject_jtis: readonly string[] | undefined
}

/** Who had the token for another one, and before that, innermost the earliest (RFC 8693 §4.1). Nothing else is in it. */
export type ActorClaim = { iss: string; sub: string; act?: ActorClaim }

/** Each environment has its own issuer. */
export const issuerOf = (issuer: string, environment: Environment): string =>
  environment === 'production' ? issuer : `${issuer}/sandbox`

/** Times are whole seconds: RFC 7519 allows fractions, some verifiers do not. */
export function buildClaims(facts: {
  grant: Grant
  issuer: string
  environment: Environment
  clientId: string
  keyId: string
  /** The minting organization, when it is not the one the token is for. */
  partnerId: string | undefined
  jti: string
  /** Undefined: it is not had for another token. */
  subject: { act: ActorClaim | undefined; jti: string; subjectJtis: readonly string[] } | undefined
  now: number
}): AccessTokenClaims {
  const { grant, subject } = facts
  const iss = issuerOf(facts.issuer, facts.environment)
  const iat = toSeconds(facts.now)
  return {
    iss,
    // The client is the subject (RFC 9068 §2.2); `cli_` keeps it apart from any user's name (§5).
    sub: facts.clientId,
    aud: grant.audience,
    iat,
    exp: iat + grant.expirySeconds,
    jti: facts.jti,
    client_id: facts.clientId,
    scope: grant.scopes.join(' '),
    organization_id: grant.organization.id,
    environment: facts.environment,
    key_id: facts.keyId,
    partner_id: facts.partnerId,
    act: subject && { iss, sub: facts.clientId, ...(subject.act ? { act: subject.act } : {}) },
    subject_jtis: subject && [subject.jti, ...subject.subjectJtis],
  }
}
