/** What an exchange leaves behind: the ledger row of its token, or its refusal in the audit trail. */
import type { Refused } from '../audit/refusals.ts'
import type { DelegationRows } from '../delegations/delegations.ts'
import { idPattern } from '../ids.ts'
import { actorOf, type Credential } from '../keys/keys.ts'
import type { AdmissionRequest, Judged } from '../ledger/admission.ts'
import type { AccessTokenClaims } from './claims.ts'
import type { Grant, TokenRequest } from './policy.ts'

/** The token's record, with the versions of all that it was judged by. */
export const admissionOf = (facts: {
  claims: AccessTokenClaims
  grant: Grant
  credential: Credential
  mandate: DelegationRows | undefined
  signed: { kid: string; signingKeyVersion: number }
  clientAddress: string
  requestId: string
}): AdmissionRequest => {
  const { claims, grant, credential, mandate, signed } = facts
  return {
    jti: claims.jti,
    issuedAt: claims.iat,
    expiresAt: claims.exp,
    environment: claims.environment,
    scopes: grant.scopes,
    audience: claims.aud,
    clientIp: facts.clientAddress,
    requestId: facts.requestId,
    subjectJtis: claims.subject_jtis,
    key: versionOf(credential.key),
    client: versionOf(credential.client),
    owner: versionOf(credential.owner),
    organization: versionOf(mandate?.organization ?? credential.owner),
    delegation: mandate && versionOf(mandate.delegation),
    signingKey: { id: signed.kid, version: signed.signingKeyVersion },
  }
}

const versionOf = ({ id, version }: Judged): Judged => ({ id, version })

/** What had come to light when the exchange ended. */
export type Known = { credential: Credential | undefined; asked: TokenRequest | undefined }

const ORGANIZATION_ID = idPattern('organization')

/** Who a presented key named is not told unless it proved itself, and of what was asked for nothing but an id. */
export function refusedOf(
  code: string,
  request: { operation: string; clientAddress: string; requestId: string },
  { credential, asked }: Known,
): Refused {
  const { operation, clientAddress, requestId } = request
  return {
    action: 'token.refused',
    operation,
    code,
    actor: credential && actorOf(credential),
    targetId: asked && ORGANIZATION_ID.test(asked.organizationId) ? asked.organizationId : undefined,
    clientAddress,
    requestId,
  }
}
