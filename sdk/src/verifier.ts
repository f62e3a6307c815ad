import { compactVerify } from 'jose'
import { type AccessToken, evaluateClaims, evaluateRequirements } from './access-token.ts'
import { parseCompactJws } from './compact-jws.ts'
import type { VerificationKey } from './key-set.ts'
import { createLocalKeySource, createRemoteKeySource } from './key-source.ts'
import { getRequirements, getSettings, type VerifierOptions, type VerifyOptions } from './options.ts'
import { parseJsonObject } from './strict-json.ts'
import { VerificationError } from './verification-error.ts'

export type Verifier = {
  /**
   * Verifies an access token and returns its claims, deeply frozen. Needs no network once the issuer's keys are
   * cached. Rejects with `VerificationError`; with TypeError if `options` are wrong.
   */
  verify(token: string, options?: VerifyOptions): Promise<AccessToken>
  /**
   * Fetches the issuer's keys ahead, so that the first verification need not.
   * Rejects with `VerificationError` `jwks_unavailable`.
   */
  preload(): Promise<void>
}

/**
 * Creates a verifier of the access tokens of one Signet issuer for one API (RFC 9068 §4).
 *
 * Keys are fetched at the first verification (or `preload`), refreshed beside verification after 10 minutes,
 * and refreshed before it after 15 minutes without use. An unknown `kid` causes at most one request in 30 s.
 * While the issuer cannot be reached, the last good keys serve for `jwksMaxStaleSeconds`.
 *
 * A token must be for exactly one audience: `aud` is one of `audience`, or an array holding just that.
 *
 * Throws TypeError if an option is missing or wrong.
 */
export function createVerifier(options: VerifierOptions): Verifier {
  const settings = getSettings(options)
  const { algorithms, jwks, now } = settings
  const keySource =
    jwks === undefined
      ? createRemoteKeySource({
          uri: settings.jwksUri,
          fetch: settings.fetch,
          algorithms,
          maxStaleSeconds: settings.jwksMaxStaleSeconds,
        })
      : createLocalKeySource(jwks, algorithms)

  return {
    async verify(token, verifyOptions = {}) {
      const requirements = getRequirements(verifyOptions)

      const jws = parseCompactJws(token, algorithms)
      if (!jws.ok) throw new VerificationError(jws.reason)

      const key = await keySource.find(jws.kid)
      if (key === undefined) throw new VerificationError('unknown_key')
      // draft-ietf-oauth-rfc8725bis §3.1: the key decides the algorithm, the token may only agree.
      if (key.algorithm !== jws.algorithm) throw new VerificationError('algorithm_not_allowed')

      const payload = parseJsonObject(await getSignedPayload(token, key))
      if (payload === undefined) throw new VerificationError('malformed')

      const verdict = evaluateClaims(payload, settings, now() / 1000)
      if (!verdict.ok) {
        throw new VerificationError(verdict.reason, 'claim' in verdict ? { claim: verdict.claim } : {})
      }

      const authorized = evaluateRequirements(verdict.claims, requirements)
      if (!authorized.ok) {
        throw new VerificationError(
          authorized.reason,
          authorized.reason === 'insufficient_scope' ? { scopes: requirements.scopes } : {},
        )
      }
      return verdict.claims
    },
    preload: () => keySource.preload(),
  }
}

/** The payload's bytes, if the signature is right. */
async function getSignedPayload(
  token: string,
  { algorithm, publicKey }: VerificationKey,
): Promise<Uint8Array> {
  try {
    return (await compactVerify(token, publicKey, { algorithms: [algorithm] })).payload
  } catch {
    // Without its cause: nothing that saw the token goes into an error that may be logged.
    throw new VerificationError('signature_invalid')
  }
}
