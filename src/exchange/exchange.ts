/**
 * The exchange: a credential in, a token out, by whichever door. It reads top to bottom as the argument why nothing leaves
 * that should not: a refusal is based on rows just read, a token on an admission that checked them again.
 */
import type { Refused } from '../audit/refusals.ts'
import { type Clock, toSeconds, untilNextSecond } from '../clock.ts'
import type { Delegations } from '../delegations/delegations.ts'
import { ApiError, ERRORS } from '../errors.ts'
import { newJti } from '../ids.ts'
import type { Credential } from '../keys/keys.ts'
import type { Presented, Proof, Prove, Unproven } from '../keys/proof.ts'
import { findKeyDenial } from '../keys/standing.ts'
import type { Window } from '../ledger/admission.ts'
import type { Ledger } from '../ledger/ledger.ts'
import type { Usage } from '../ledger/usage.ts'
import type { Throttle } from '../network/throttle.ts'
import type { Signer } from '../signing/signer.ts'
import type { InspectToken } from '../tokens/inspection.ts'
import { createBrakes } from './brakes.ts'
import { type AccessTokenClaims, buildClaims } from './claims.ts'
import type { Refusal } from './denial.ts'
import { evaluate, firstValidIssue, type Grant, type SubjectToken, type TokenRequest } from './policy.ts'
import { admissionOf, type Known, refusedOf } from './record.ts'
import { createFindSubject, type PresentedTokens } from './subject.ts'

export type ExchangeRequest = {
  /** OpenAPI's operationId, for the audit trail. */
  operation: string
  presented: Presented
  /** Called once the credential has proved itself, whether or not it may be used. */
  onAuthenticated: (client: Credential['client']) => void
  /** Called once the credential may be used. Rejects with an ApiError when what is asked for breaks a rule. */
  readRequest: () => Promise<Wish>
  clientAddress: string
  origin: string | undefined
  requestId: string
}

/** What is asked for, as it was sent. */
export type Wish = Omit<TokenRequest, 'organizationId' | 'subject'> & {
  /** Undefined: whom the subject token is for, or else the client's owner. */
  organizationId: string | undefined
  /** What is to be exchanged for it (RFC 8693). */
  tokens: PresentedTokens | undefined
}

export type Exchanged = Grant & {
  token: string
  /** Unix time, seconds. */
  expiry: number
  window: Window
}

export type Exchange = (request: ExchangeRequest) => Promise<Exchanged | Refusal>

/** One try on what is remembered, and twice more on fresh rows: then they change faster than we can read them. */
const ATTEMPTS = 3

export function createExchange(dependencies: {
  prove: Prove
  delegations: Delegations
  inspectToken: InspectToken
  signer: Signer
  ledger: Ledger
  usage: Usage
  /** By source. */
  failures: Throttle
  /** By client. */
  denials: Throttle
  /** For the audit trail: called for each, never waited for. */
  onRefused: (refused: Refused) => void
  now: Clock
  issuer: string
  defaultAudience: string
}): Exchange {
  const { prove, delegations, signer, ledger, usage, onRefused, now, issuer, defaultAudience } = dependencies
  const brakes = createBrakes(dependencies)
  const findSubject = createFindSubject(dependencies)

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

  async function identify(request: ExchangeRequest, known: Known): Promise<Identified | Refusal> {
    const { clientAddress, origin } = request
    // 1. Exactly one credential, and it is well-formed.
    const proof = prove(request.presented)
    if ('reason' in proof)
      return isFailed(proof.reason)
        ? brakes.fail(proof.reason, clientAddress)
        : { ok: false, reason: proof.reason }

    // 2. It proves itself, from memory or from the database. A source that failed too often gets no reads.
    let credential = await proof.recall()
    const isGuess = credential !== undefined
    if (!credential) {
      const braked = await brakes.checkSource(clientAddress)
      if (braked) return braked
      credential = await proof.authenticate()
    }
    if (!credential) return brakes.fail('key_unknown', clientAddress)
    known.credential = credential
    request.onAuthenticated(credential.client)

    // 3. It may be used, from where it is used: else nothing that is asked for changes the answer. A no needs fresh rows.
    const find = (rows: Credential) => findKeyDenial(rows, { now: now(), clientAddress, origin })
    let denial = find(credential)
    if (!denial) return { ok: true, proof, credential, isGuess }
    const braked = await brakes.checkDenied(denial, { credential, clientAddress })
    if (braked) return braked
    if (isGuess) {
      credential = await proof.authenticateAgain(credential, { settle: false })
      if (!credential) return brakes.fail('key_unknown', clientAddress)
      denial = find(credential)
    }
    if (denial) return brakes.deny(denial, { credential, clientAddress })
    return { ok: true, proof, credential, isGuess: false }
  }

  async function decide(request: ExchangeRequest, known: Known): Promise<Exchanged | Refusal> {
    const { clientAddress, origin } = request
    const identified = await identify(request, known)
    if (!identified.ok) return identified
    const { proof } = identified
    let { credential, isGuess } = identified

    // 4. A client that has used up its window costs nothing more.
    const blocked = ledger.blockedWindow(credential.client.id)
    if (blocked) {
      usage.countLimited(credential.client.id)
      return { ok: false, reason: 'limited', window: blocked }
    }

    // 5. What is asked for; and the token that is given for it, by what the database says now.
    const wish = await request.readRequest()
    const { tokens } = wish
    let subject: SubjectToken | undefined
    if (tokens) {
      const braked = await brakes.checkClient(credential)
      if (braked) return braked
      const found = await findSubject(tokens, credential.client)
      if ('reason' in found) return brakes.deny(found, { credential, clientAddress })
      subject = found
    }
    const organizationId = wish.organizationId ?? subject?.organizationId ?? credential.owner.id
    const { scopes, expirySeconds, audience } = wish
    const asked: TokenRequest = { organizationId, scopes, expirySeconds, audience, subject }
    known.asked = asked

    // 6. Of a partner: what the organization has delegated to it, from memory or from the database.
    const parties = partiesOf(credential, asked)
    let mandate = parties && delegations.recall(parties)
    if (mandate) isGuess = true
    else if (parties) {
      const braked = await brakes.checkClient(credential)
      if (braked) return braked
      mandate = await delegations.find(parties)
    }

    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      // 7. May this key have it? Rows from memory may say yes, since the admission checks them; a no needs fresh ones.
      const standing = { ...credential, mandate }
      const judge = (at: number) =>
        evaluate(standing, asked, { now: at, clientAddress, origin, issuer, defaultAudience })
      const validFrom = firstValidIssue(standing)
      let at = now()
      let decision = judge(at)
      if (decision.ok && toSeconds(at) < validFrom) {
        at = await momentOf(validFrom)
        decision = judge(at)
      }
      if (!decision.ok) {
        const braked = await brakes.checkDenied(decision, { credential, clientAddress })
        if (braked) return braked
        if (!isGuess) return brakes.deny(decision, { credential, clientAddress })
      }

      if (decision.ok) {
        // 8. A cut-off covers the whole second in which it was set: what is minted in it would be revoked already.
        if (toSeconds(at) < validFrom) return unavailable

        // 9. The token is signed, and stays here until the ledger has let it out.
        const claims = claimsFor(decision, credential, asked, at)
        const signed = await signer.sign(claims.environment, claims)
        if (!signed) return unavailable
        const { requestId } = request
        const admission = await ledger.admit(
          admissionOf({ claims, grant: decision, credential, mandate, signed, clientAddress, requestId }),
        )
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

      // 10. What it was judged by is old, or is being changed just now: judge again, by what it is.
      const settle = { settle: decision.ok }
      const again = await proof.authenticateAgain(credential, settle)
      if (!again) return brakes.fail('key_unknown', clientAddress)
      credential = again
      if (parties) mandate = await delegations.findAgain(parties, mandate, settle)
      if (decision.ok && tokens) {
        const found = await findSubject(tokens, credential.client)
        if ('reason' in found) return brakes.deny(found, { credential, clientAddress })
      }
      isGuess = false
    }
    return unavailable
  }

  /** In that second, where it is the next one; else now. */
  async function momentOf(second: number): Promise<number> {
    // Twice, because a timer may be early by a fraction of a millisecond.
    for (let i = 0; i < 2 && second - toSeconds(now()) === 1; i++) await untilNextSecond(now())
    return now()
  }

  function claimsFor(
    grant: Grant,
    { client, owner, key }: Credential,
    { subject }: TokenRequest,
    at: number,
  ): AccessTokenClaims {
    return buildClaims({
      grant,
      issuer,
      environment: client.environment,
      clientId: client.id,
      keyId: key.id,
      partnerId: client.kind === 'partner' ? owner.id : undefined,
      jti: newJti(),
      subject,
      now: at,
    })
  }
}

/** Who asks, with a credential that may be used; a guess is what memory says. */
type Identified = { ok: true; proof: Proof; credential: Credential; isGuess: boolean }

const isFailed = (reason: Unproven['reason']): reason is 'key_missing' | 'key_malformed' =>
  reason === 'key_missing' || reason === 'key_malformed'

const unavailable: Refusal = { ok: false, reason: 'unavailable' }

/** Undefined: no partner asks. */
const partiesOf = ({ client, owner }: Credential, { organizationId }: TokenRequest) =>
  client.kind === 'partner'
    ? { partnerId: owner.id, organizationId, environment: client.environment }
    : undefined
