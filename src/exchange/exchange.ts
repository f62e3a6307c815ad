/**
 * The exchange: a key in, a token out. It reads top to bottom as the argument why nothing leaves that should not:
 * a refusal is based on rows just read, a token on an admission that checked them again.
 */
import type { Refused } from '../audit/refusals.ts'
import type { Clock } from '../clock.ts'
import type { DelegationRows, Delegations } from '../delegations/delegations.ts'
import { ApiError, ERRORS } from '../errors.ts'
import { idPattern, newId } from '../ids.ts'
import type { KeyFormat } from '../keys/key-format.ts'
import type { Credential, Keys } from '../keys/keys.ts'
import type { PresentedKey } from '../keys/presented-key.ts'
import type { Judged, Window } from '../ledger/admission.ts'
import type { Ledger } from '../ledger/ledger.ts'
import type { Usage } from '../ledger/usage.ts'
import { sourceOf } from '../network/address.ts'
import type { Throttle } from '../network/throttle.ts'
import type { Signer } from '../signing/signer.ts'
import { type AccessTokenClaims, buildClaims } from './claims.ts'
import type { Refusal } from './denial.ts'
import { type Denial, evaluate, type Grant, type TokenRequest } from './policy.ts'

export type ExchangeRequest = {
  presented: PresentedKey
  /** Called once the key has proved itself. */
  onAuthenticated: (client: Credential['client']) => void
  /** Called after that. Rejects with an ApiError when the body breaks a rule. */
  readBody: () => Promise<TokenRequest>
  clientAddress: string
  origin: string | undefined
  requestId: string
}

export type Exchanged = {
  ok: true
  token: string
  /** Unix time, seconds. */
  expiry: number
  organization: Grant['organization']
  scopes: readonly string[]
  window: Window
}

export type Exchange = (request: ExchangeRequest) => Promise<Exchanged | Refusal>

/** One try on what is remembered, and twice more on fresh rows: then they change faster than we can read them. */
const ATTEMPTS = 3

export function createExchange(dependencies: {
  keyFormat: KeyFormat
  keys: Keys
  delegations: Delegations
  signer: Signer
  ledger: Ledger
  usage: Usage
  /** By source, never by the key that was named: else whoever knows a key's first characters could lock it out. */
  failures: Throttle
  /** By client. */
  denials: Throttle
  /** For the audit trail: called for each, never waited for. */
  onRefused: (refused: Refused) => void
  now: Clock
  issuer: string
  defaultAudience: string
}): Exchange {
  const {
    keyFormat,
    keys,
    delegations,
    signer,
    ledger,
    usage,
    failures,
    denials,
    onRefused,
    now,
    issuer,
    defaultAudience,
  } = dependencies

  return async function exchange(request) {
    const known: Known = { credential: undefined, asked: undefined }
    try {
      const answer = await decide(request, known)
      // An outage is nobody's refusal.
      if (!answer.ok && answer.reason !== 'unavailable') onRefused(refusedOf(answer.reason, request, known))
      return answer
    } catch (error) {
      if (error instanceof ApiError && ERRORS[error.code].status < 500)
        onRefused(refusedOf(error.code, request, known))
      throw error
    }
  }

  async function decide(request: ExchangeRequest, known: Known): Promise<Exchanged | Refusal> {
    // 1. Exactly one credential, and it is a well-formed key.
    const { presented, clientAddress, origin } = request
    if (presented.kind === 'several') return refuse('several_credentials')
    if (presented.kind === 'access_token') return refuse('access_token_presented')
    if (presented.kind === 'none') return refuseFailed('key_missing', clientAddress)
    const key = keyFormat.parse(presented.text)
    if (!key) return refuseFailed('key_malformed', clientAddress)

    // 2. The key proves itself, from memory or from the database. A source that failed too often gets no reads.
    let credential = keys.recall(key)
    let isGuess = credential !== undefined
    if (!credential) {
      const retryAfterSeconds = await failures.blockedSeconds(sourceOf(clientAddress))
      if (retryAfterSeconds !== undefined) return tooMany(retryAfterSeconds)
      credential = await keys.authenticate(key)
    }
    if (!credential) return refuseFailed('key_unknown', clientAddress)
    known.credential = credential
    request.onAuthenticated(credential.client)

    // 3. What is asked for.
    const asked = await request.readBody()
    known.asked = asked
    const isPartner = credential.client.kind === 'partner'
    let mandate: Mandate = isPartner ? delegations.recall(partiesOf(credential, asked)) : undefined
    if (mandate) isGuess = true
    else if (isPartner) {
      const retryAfterSeconds = await denials.blockedSeconds(credential.client.id)
      if (retryAfterSeconds !== undefined) return tooMany(retryAfterSeconds)
      mandate = await delegations.find(partiesOf(credential, asked))
    }

    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      // 4. May this key have it? Rows from memory may say yes, since the admission checks them; a no needs fresh ones.
      const at = now()
      const circumstances = { now: at, clientAddress, origin, issuer, defaultAudience }
      const decision = evaluate({ ...credential, mandate }, asked, circumstances)
      if (!decision.ok) {
        const retryAfterSeconds = await blockedFor(decision, credential, clientAddress)
        if (retryAfterSeconds !== undefined) return tooMany(retryAfterSeconds)
        if (!isGuess) return refuseDenied(decision, credential, clientAddress)
      }

      if (decision.ok) {
        // 5. A client that has used up its window costs nothing more.
        const blocked = ledger.blockedWindow(credential.client.id)
        if (blocked) {
          usage.countLimited(credential.client.id)
          return { ok: false, reason: 'limited', window: blocked }
        }

        // 6. The token is signed, and stays here until the ledger has let it out.
        const claims = claimsFor(decision, credential, at)
        const signed = await signer.sign(claims.environment, claims)
        if (!signed) return unavailable
        const admission = await ledger.admit({
          ...recordOf(claims, decision, request),
          ...judgedBy(credential, mandate),
          signingKey: { id: signed.kid, version: signed.signingKeyVersion },
        })
        switch (admission.outcome) {
          case 'admitted':
            usage.keyUsed(credential.key.id, clientAddress)
            return { ...decision, token: signed.token, expiry: claims.exp, window: admission.window }
          case 'limited':
            return { ok: false, reason: 'limited', window: admission.window }
          case 'unavailable':
            return unavailable
          case 'stale':
            await signer.refresh()
        }
      }

      // 7. What it was judged by is old, or is being changed just now: judge again, by what it is.
      const settle = { settle: decision.ok }
      const judged: Credential = credential
      credential = await keys.authenticateAgain(key, judged, settle)
      if (!credential) return refuseFailed('key_unknown', clientAddress)
      if (isPartner) mandate = await delegations.findAgain(partiesOf(credential, asked), mandate, settle)
      isGuess = false
    }
    return unavailable
  }

  async function refuseFailed(reason: FailedReason, clientAddress: string): Promise<Refusal> {
    const source = sourceOf(clientAddress)
    const retryAfterSeconds = await failures.blockedSeconds(source)
    if (retryAfterSeconds !== undefined) return tooMany(retryAfterSeconds)
    await failures.record(source)
    return { ok: false, reason }
  }

  async function refuseDenied(
    denial: Denial,
    { client }: Credential,
    clientAddress: string,
  ): Promise<Refusal> {
    if (isFailedAuthentication(denial)) await failures.record(sourceOf(clientAddress))
    else {
      await denials.record(client.id)
      usage.countDenied(client.id)
    }
    return denial
  }

  /** A refusal costs reads; who has had too many lately gets a 429 without one. */
  function blockedFor(
    denial: Denial,
    { client }: Credential,
    clientAddress: string,
  ): Promise<number | undefined> {
    return isFailedAuthentication(denial)
      ? failures.blockedSeconds(sourceOf(clientAddress))
      : denials.blockedSeconds(client.id)
  }

  function claimsFor(grant: Grant, { client, owner, key }: Credential, at: number): AccessTokenClaims {
    return buildClaims({
      grant,
      issuer,
      environment: client.environment,
      clientId: client.id,
      keyId: key.id,
      partnerId: client.kind === 'partner' ? owner.id : undefined,
      jti: newId('token'),
      now: at,
    })
  }
}

/** What had come to light when the exchange ended. */
type Known = { credential: Credential | undefined; asked: TokenRequest | undefined }
type Mandate = DelegationRows | undefined
type FailedReason = 'key_missing' | 'key_malformed' | 'key_unknown'

/** An expired or revoked key is none; whatever else is refused was asked for by a good one. */
function isFailedAuthentication({ reason }: Denial): boolean {
  return reason === 'key_expired' || reason === 'key_revoked' || reason === 'client_revoked'
}

const tooMany = (retryAfterSeconds: number): Refusal => ({
  ok: false,
  reason: 'too_many_refusals',
  retryAfterSeconds,
})
const refuse = (reason: 'several_credentials' | 'access_token_presented'): Refusal => ({ ok: false, reason })
const unavailable: Refusal = { ok: false, reason: 'unavailable' }

const ORGANIZATION_ID = idPattern('organization')

/** Who a presented key named is not told unless it proved itself, and of what was asked for nothing but an id. */
function refusedOf(code: string, request: ExchangeRequest, { credential, asked }: Known): Refused {
  const { clientAddress, requestId } = request
  return {
    action: 'token.refused',
    operation: 'exchangeKey',
    code,
    actor: credential && {
      clientId: credential.client.id,
      keyId: credential.key.id,
      organizationId: credential.owner.id,
    },
    targetId: asked && ORGANIZATION_ID.test(asked.organizationId) ? asked.organizationId : undefined,
    clientAddress,
    requestId,
  }
}

const partiesOf = ({ client, owner }: Credential, asked: TokenRequest) => ({
  partnerId: owner.id,
  organizationId: asked.organizationId,
  environment: client.environment,
})

const recordOf = (claims: AccessTokenClaims, grant: Grant, request: ExchangeRequest) => ({
  jti: claims.jti,
  issuedAt: claims.iat,
  expiresAt: claims.exp,
  environment: claims.environment,
  scopes: grant.scopes,
  audience: claims.aud,
  clientIp: request.clientAddress,
  requestId: request.requestId,
})

const judgedBy = ({ key, client, owner }: Credential, mandate: Mandate) => ({
  key: versionOf(key),
  client: versionOf(client),
  owner: versionOf(owner),
  organization: versionOf(mandate?.organization ?? owner),
  delegation: mandate && versionOf(mandate.delegation),
})

const versionOf = ({ id, version }: Judged): Judged => ({ id, version })
