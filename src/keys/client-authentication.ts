/**
 * A client proves itself for something other than a token: introspection, revocation. It is judged by the rules of the
 * exchange, by rows just read: no admission checks them again.
 */
import type { Clock } from '../clock.ts'
import { ApiError } from '../errors.ts'
import { sourceOf } from '../network/address.ts'
import type { Throttle } from '../network/throttle.ts'
import type { Credential } from './keys.ts'
import type { Presented, Prove, Unproven } from './proof.ts'
import { keyRefusalToApiError } from './refusal.ts'
import { findKeyDenial, type KeyDenial } from './standing.ts'

/** Why a client is not taken: for the audit trail, and for nobody else. */
export type ClientRefusal = {
  ok: false
  reason: Unproven['reason'] | 'key_unknown' | KeyDenial['reason'] | 'too_many_refusals'
  /** Whose it is, where that was proved all the same. */
  credential: Credential | undefined
  /** What the client is told. */
  error: ApiError
}

/** Whose client asks, or why it is not taken. Rejects with ApiError `unavailable`. */
export type AuthenticateClient = (request: {
  presented: Presented
  clientAddress: string
  origin: string | undefined
}) => Promise<{ ok: true; credential: Credential } | ClientRefusal>

/** Unknown, wrong, expired, revoked, suspended, from the wrong place: the same words, so that the answers are the same. */
export const invalidClient = (): ApiError =>
  new ApiError('invalid_client', 'The client is not authenticated, or may not be used so.')

export function createAuthenticateClient(dependencies: {
  prove: Prove
  /** By source; the same as the exchange's. */
  failures: Throttle
  now: Clock
}): AuthenticateClient {
  const { prove, failures, now } = dependencies

  return async function authenticateClient({ presented, clientAddress, origin }) {
    const source = sourceOf(clientAddress)
    const proof = prove(presented)
    if ('reason' in proof) {
      const { reason } = proof
      if (reason === 'several_credentials')
        return { ok: false, reason, credential: undefined, error: severalCredentials() }
      return refuse(reason, source)
    }
    let proven = await proof.recall()
    if (!proven) {
      const tooMany = await findBrake(source)
      if (tooMany) return tooMany
      proven = await proof.authenticate()
    }
    // Either may rest on a read that began before this request: the one that counts does not.
    const credential = proven && (await proof.authenticateAgain(proven, { settle: false, own: true }))
    if (!credential) return refuse('key_unknown', source)
    const denial = findKeyDenial(credential, { now: now(), clientAddress, origin })
    return denial ? refuse(denial.reason, source, credential) : { ok: true, credential }
  }

  async function refuse(
    reason: ClientRefusal['reason'],
    source: string,
    credential?: Credential,
  ): Promise<ClientRefusal> {
    const tooMany = await findBrake(source)
    if (tooMany) return { ...tooMany, credential }
    await failures.record(source)
    return { ok: false, reason, credential, error: invalidClient() }
  }

  async function findBrake(source: string): Promise<ClientRefusal | undefined> {
    const retryAfterSeconds = await failures.blockedSeconds(source)
    if (retryAfterSeconds === undefined) return undefined
    const reason = 'too_many_refusals'
    const error = keyRefusalToApiError({ ok: false, reason, retryAfterSeconds })
    return { ok: false, reason, credential: undefined, error }
  }
}

export const severalCredentials = (): ApiError =>
  new ApiError('invalid_request', 'The client must authenticate in one way only.')
