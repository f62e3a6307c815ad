import { type AccessToken, evaluateClaims, evaluateRequirements } from './access-token.ts'
import { ACCESS_TOKEN } from './compact-jws.ts'
import { createLocalKeySource, createRemoteKeySource, type KeySource } from './key-source.ts'
import {
  getRequirements,
  getSettings,
  type VerifierOptions,
  type VerifierSettings,
  type VerifyOptions,
} from './options.ts'
import { createRevocationSource, type RevocationSource } from './revocation-source.ts'
import { readJwtAndKid } from './signed-jwt.ts'
import { VerificationError } from './verification-error.ts'

export type Verifier = {
  /**
   * Verifies an access token and returns its claims, deeply frozen. Needs no network once the issuer's keys are
   * cached. Rejects with `VerificationError`; with TypeError if `options` are wrong.
   */
  verify(token: string, options?: VerifyOptions): Promise<AccessToken>
  /**
   * Fetches the issuer's keys ahead, so that the first verification need not; with `revocations`, waits for the feed
   * too. Rejects with `VerificationError` `jwks_unavailable`, or `revocations_unavailable` where `onStale` is `deny`.
   */
  preload(): Promise<void>
  /** Ends the fetching of the revocation feed. What was fetched stays in use until it is too old. */
  close(): void
}

/**
 * Creates a verifier of the access tokens of one Signet issuer for one API (RFC 9068 §4).
 *
 * Keys are fetched at the first verification (or `preload`), refreshed beside verification after 10 minutes,
 * and refreshed before it after 15 minutes without use. An unknown `kid` causes at most one request in 30 s.
 * While the issuer cannot be reached, the last good keys serve for `jwksMaxStaleSeconds`.
 *
 * With `revocations`, the issuer's feed is fetched at once and in the background; a verification never waits for it.
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
  const revocations = settings.revocations && followRevocations(settings.revocations, settings, keySource)

  return {
    async verify(token, verifyOptions = {}) {
      const requirements = getRequirements(verifyOptions)

      const { payload, kid } = await readJwtAndKid(token, ACCESS_TOKEN, { algorithms, keySource })
      const verdict = evaluateClaims(payload, settings, now() / 1000)
      if (!verdict.ok) {
        throw new VerificationError(verdict.reason, 'claim' in verdict ? { claim: verdict.claim } : {})
      }

      switch (revocations?.judge(verdict.claims, kid)) {
        case 'revoked':
          throw new VerificationError('revoked')
        case 'unavailable':
          throw new VerificationError('revocations_unavailable', { cause: revocations?.failure() })
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
    async preload() {
      await Promise.all([keySource.preload(), revocations?.preload()])
    },
    close() {
      revocations?.close()
    },
  }
}

const followRevocations = (
  { uri, maxStaleness, onStale }: NonNullable<VerifierSettings['revocations']>,
  { issuer, fetch, algorithms, clockToleranceSeconds, now }: VerifierSettings,
  keySource: KeySource,
): RevocationSource =>
  createRevocationSource({
    uri,
    issuer,
    fetch,
    algorithms,
    keySource,
    clockToleranceSeconds,
    maxStalenessSeconds: maxStaleness,
    onStale,
    now,
  })
