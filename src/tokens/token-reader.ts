/** Reading an access token of our own: that it is one, before anything it says is believed. */
import * as v from 'valibot'
import { type AccessToken, type JwkSet, VerificationError } from '#sdk'
import { DEFAULT_ALGORITHMS } from '#sdk/algorithms'
import { ACCESS_TOKEN } from '#sdk/compact-jws'
import { createLocalKeySource } from '#sdk/key-source'
import { readSignedJwt } from '#sdk/signed-jwt'
import { ENVIRONMENTS, type Environment } from '../database/schema.ts'
import { ApiError } from '../errors.ts'
import { idPattern } from '../ids.ts'

/** As exchange/claims.ts makes them: narrower than what a verifier of others' tokens may meet. */
export type OwnToken = AccessToken & v.InferOutput<typeof Claims>

/**
 * The claims of a token that this environment's keys have signed for its issuer, whether or not it has expired or been
 * revoked; undefined for whatever else it is. Reads no database. Rejects with ApiError `unavailable` before the keys are
 * loaded.
 */
export type ReadToken = (token: string, environment: Environment) => Promise<OwnToken | undefined>

const time = v.pipe(v.number(), v.safeInteger(), v.minValue(0))

/** A signature says who had the key, which a thief has too: what follows can rely on the form of all it reads. */
const Claims = v.looseObject({
  iss: v.string(),
  sub: v.string(),
  aud: v.string(),
  iat: time,
  exp: time,
  // None of our tokens is for later: one that says so is not ours.
  nbf: v.optional(v.never()),
  jti: v.pipe(v.string(), v.regex(idPattern('token'))),
  client_id: v.string(),
  scope: v.string(),
  organization_id: v.string(),
  environment: v.picklist(ENVIRONMENTS),
  key_id: v.string(),
  partner_id: v.optional(v.string()),
  subject_jtis: v.optional(v.array(v.pipe(v.string(), v.regex(idPattern('token'))))),
})

const algorithms = new Set(DEFAULT_ALGORITHMS)

export function createReadToken(options: {
  /** The environment's key set; the same object for as long as it is the same set. */
  jwks: (environment: Environment) => JwkSet | undefined
  issuerOf: (environment: Environment) => string
}): ReadToken {
  const { jwks, issuerOf } = options
  const sources = new Map(
    ENVIRONMENTS.map((environment) => {
      const ask = () => {
        const set = jwks(environment)
        if (!set) throw new Error('the keys have not been loaded yet')
        return set
      }
      return [environment, createLocalKeySource(ask, algorithms)]
    }),
  )

  return async function readToken(token, environment) {
    const keySource = sources.get(environment)
    if (!keySource) return undefined
    try {
      const claims = await readSignedJwt(token, ACCESS_TOKEN, { algorithms, keySource })
      const isOwn =
        v.is(Claims, claims) && claims.iss === issuerOf(environment) && claims.environment === environment
      return isOwn ? (claims as OwnToken) : undefined
    } catch (error) {
      if (!(error instanceof VerificationError)) throw error
      if (error.code !== 'jwks_unavailable') return undefined
      throw new ApiError('unavailable', 'The keys have not been loaded yet.', {
        headers: { 'Retry-After': '1' },
        cause: error,
      })
    }
  }
}
