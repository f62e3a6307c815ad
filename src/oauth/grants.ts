/** The grants of the token endpoint: from a form to what is asked for. Pure. */
import { ApiError } from '../errors.ts'
import type { Wish } from '../exchange/exchange.ts'
import { MAX_EXPIRY_SECONDS, MAX_SCOPES, MIN_EXPIRY_SECONDS, SCOPE_TOKEN } from '../management/wire.ts'
import type { Form } from './form.ts'
import { invalidTarget } from './refusal.ts'

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
export const GRANT_TYPES = ['client_credentials', TOKEN_EXCHANGE] as const

/** RFC 8693 §3: an access token, or the JWT that ours are, too. */
export const TOKEN_TYPES = [
  'urn:ietf:params:oauth:token-type:access_token',
  'urn:ietf:params:oauth:token-type:jwt',
] as const
export type TokenType = (typeof TOKEN_TYPES)[number]

/** The `requested_token_type`, once readGrant has found it good. */
export const issuedTokenType = (form: Form): TokenType =>
  TOKEN_TYPES.find((type) => type === form.get('requested_token_type')) ?? TOKEN_TYPES[0]

/**
 * Throws ApiError: `unsupported_grant_type`, `invalid_request`, `invalid_target` or `invalid_scope`, in the order in
 * which grant, parameters, target and scope are looked at.
 */
export function readGrant(form: Form): Wish {
  const grant = GRANT_TYPES.find((each) => each === form.get('grant_type'))
  switch (grant) {
    case undefined:
      throw new ApiError('unsupported_grant_type', 'There is no such grant here.')
    case 'client_credentials':
      return { ...readParameters(form, MIN_EXPIRY_SECONDS), tokens: undefined }
    case TOKEN_EXCHANGE: {
      const tokens = readTokens(form)
      // What is left of a token, or is to be, may be less than a token may be minted with.
      return { ...readParameters(form, 1), tokens }
    }
  }
}

const readParameters = (form: Form, minSeconds: number) => ({
  organizationId: form.get('organization_id'),
  expirySeconds: readExpirySeconds(form, minSeconds),
  audience: readAudience(form),
  scopes: readScopes(form),
})

/** RFC 8693 §2.1: each token with its type, and no type without its token. */
function readTokens(form: Form): NonNullable<Wish['tokens']> {
  const subjectToken = form.get('subject_token')
  const actorToken = form.get('actor_token')
  const actorTokenType = form.get('actor_token_type')
  const requested = form.get('requested_token_type')
  if (subjectToken === undefined) throw invalid('subject_token is missing.')
  if (!isTokenType(form.get('subject_token_type')))
    throw invalid('subject_token_type is missing, or not that of an access token.')
  if ((actorToken === undefined) !== (actorTokenType === undefined))
    throw invalid('actor_token and actor_token_type must stand together.')
  if (actorTokenType !== undefined && !isTokenType(actorTokenType))
    throw invalid('actor_token_type is not that of an access token.')
  if (requested !== undefined && !isTokenType(requested))
    throw invalid('requested_token_type is not that of an access token.')
  return { subjectToken, actorToken }
}

const isTokenType = (type: string | undefined) => TOKEN_TYPES.some((each) => each === type)

/** Digits alone, as JSON writes integers; never cut to fit. */
function readExpirySeconds(form: Form, minSeconds: number): number | undefined {
  const text = form.get('signet_expires_in_seconds')
  if (text === undefined) return undefined
  const seconds = /^[1-9]\d{0,4}$/.test(text) ? Number(text) : 0
  if (seconds < minSeconds || seconds > MAX_EXPIRY_SECONDS)
    throw invalid(`signet_expires_in_seconds must be an integer from ${minSeconds} to ${MAX_EXPIRY_SECONDS}.`)
  return seconds
}

/** RFC 8707 §2: an absolute URI without a fragment. RFC 8693 §2.1: a name. A token has one audience: all must name it. */
function readAudience(form: Form): string | undefined {
  const resources = form.getAll('resource')
  if (!resources.every((resource) => /^[a-z][a-z0-9+.-]*:[^#]+$/i.test(resource))) throw invalidTarget()
  const [target, ...others] = new Set([...resources, ...form.getAll('audience')])
  if (others.length > 0) throw invalidTarget()
  return target
}

/** RFC 6749 §3.3: tokens with one space between them; a set, in which saying it twice adds nothing. */
function readScopes(form: Form): readonly string[] | undefined {
  const text = form.get('scope')
  if (text === undefined) return undefined
  const scopes = [...new Set(text.split(' '))]
  if (scopes.length > MAX_SCOPES || !scopes.every((scope) => SCOPE_TOKEN.test(scope)))
    throw new ApiError(
      'invalid_scope',
      `scope must be at most ${MAX_SCOPES} scopes with one space between them.`,
    )
  return scopes
}

const invalid = (detail: string) => new ApiError('invalid_request', detail)
