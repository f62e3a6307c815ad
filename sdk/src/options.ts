import { isScopeToken, type Requirements } from './access-token.ts'
import { DEFAULT_ALGORITHMS, isVerificationAlgorithm, type VerificationAlgorithm } from './algorithms.ts'
import type { JwksFetch } from './jwks-fetch.ts'
import { isJwkSet, type JwkSet } from './key-set.ts'

/** How a verifier is set up. Anything missing or wrong is a TypeError when it is created. */
export type VerifierOptions = {
  /**
   * The issuer, compared byte for byte: `https://host` for production, `https://host/sandbox` for sandbox.
   * https (http on loopback only), no query, no fragment, no trailing slash.
   */
  readonly issuer: string
  /** What this API is called in `aud`, or several such names. Required: there is no "any audience". */
  readonly audience: string | readonly string[]
  /** Where the issuer's keys are. Default: issuer + `/.well-known/jwks.json`. */
  readonly jwksUri?: string
  /** Accepted algorithms, asymmetric ones only. Default: ES256, RS256, Ed25519. */
  readonly algorithms?: readonly VerificationAlgorithm[]
  /** Allowed difference of clocks in seconds, 0 to 60. Default: 5. */
  readonly clockToleranceSeconds?: number
  /**
   * For how many seconds the last good set of keys is used while no newer one can be fetched, 900 to 604800.
   * After that, verification fails with `jwks_unavailable`. Default: 86400 (24 h).
   */
  readonly jwksMaxStaleSeconds?: number
  /**
   * The keys themselves, instead of `jwksUri`: a JWK set, or a function returning one. The function is called
   * at every verification; let it return the same object for as long as the set is the same.
   */
  readonly jwks?: JwkSet | (() => JwkSet | Promise<JwkSet>)
  /**
   * Refuses tokens that have been revoked, by the issuer's revocation feed. It is fetched at once, and then in the
   * background for as long as the verifier is not closed. Default: none; a token counts until it expires.
   */
  readonly revocations?: RevocationOptions
  /** Used to fetch the JWKS and the revocation feed. Default: the global `fetch`. */
  readonly fetch?: JwksFetch
  /** Milliseconds since 1970. Default: `Date.now`. */
  readonly now?: () => number
}

export type RevocationOptions = {
  /**
   * For how many seconds a copy of the feed may be used after the last moment at which it was known to be complete,
   * 30 to 1800: the longest that a revocation may go unheeded. Copies are renewed every 9 to 15 seconds. Below 60, a
   * cache between here and the issuer, or a fetch that takes long, may make every copy too old.
   */
  readonly maxStaleness: number
  /**
   * What to do without such a copy. `deny` (the default): refuse every token, with `revocations_unavailable`. `allow`:
   * go on with the last copy, or without any.
   */
  readonly onStale?: 'deny' | 'allow'
  /** Where the feed is. Default: issuer + `/oauth2/revocations`. */
  readonly uri?: string
}

/** What a request needs beyond a valid token. */
export type VerifyOptions = {
  /** Every one of them must be in the token's scope, exactly as written. */
  readonly scopes?: readonly string[]
  /** The organization the token must be for, exactly as written. */
  readonly organizationId?: string
}

export type VerifierSettings = {
  readonly issuer: string
  readonly audiences: ReadonlySet<string>
  readonly algorithms: ReadonlySet<VerificationAlgorithm>
  readonly clockToleranceSeconds: number
  readonly jwksMaxStaleSeconds: number
  readonly jwksUri: string
  readonly jwks: VerifierOptions['jwks']
  readonly revocations: Required<RevocationOptions> | undefined
  readonly fetch: JwksFetch
  readonly now: () => number
}

/** Checks options and fills in defaults. Throws TypeError. */
export function getSettings(options: VerifierOptions): VerifierSettings {
  if (typeof options !== 'object' || options === null) throw new TypeError('options must be an object')
  const { issuer, jwks } = options
  checkUrl('issuer', issuer)
  if (/[?#]|\/$/.test(issuer)) {
    throw new TypeError('issuer must have no query, no fragment and no trailing slash')
  }
  if (jwks !== undefined && options.jwksUri !== undefined) {
    throw new TypeError('jwks and jwksUri exclude each other')
  }
  if (jwks !== undefined && typeof jwks !== 'function' && !isJwkSet(jwks)) {
    throw new TypeError('jwks must be a JWK set or a function returning one')
  }
  const jwksUri = options.jwksUri ?? `${issuer}/.well-known/jwks.json`
  checkUrl('jwksUri', jwksUri)

  const audiences = Array.isArray(options.audience) ? options.audience : [options.audience]
  if (
    audiences.length === 0 ||
    !audiences.every((audience) => typeof audience === 'string' && audience !== '')
  ) {
    throw new TypeError('audience must be a non-empty string or a non-empty array of them')
  }
  const algorithms = options.algorithms ?? DEFAULT_ALGORITHMS
  if (!Array.isArray(algorithms) || algorithms.length === 0 || !algorithms.every(isVerificationAlgorithm)) {
    throw new TypeError('algorithms must be a non-empty array of asymmetric JWS algorithms')
  }
  return {
    issuer,
    audiences: new Set(audiences),
    algorithms: new Set(algorithms),
    clockToleranceSeconds: getNumber('clockToleranceSeconds', options.clockToleranceSeconds ?? 5, 0, 60),
    jwksMaxStaleSeconds: getNumber(
      'jwksMaxStaleSeconds',
      options.jwksMaxStaleSeconds ?? 86_400,
      900,
      604_800,
    ),
    jwksUri,
    jwks,
    revocations: getRevocationSettings(options),
    // Called as a property of globalThis: browsers refuse a detached fetch.
    fetch: getFunction('fetch', options.fetch ?? ((url, init) => globalThis.fetch(url, init))),
    now: getFunction('now', options.now ?? (() => Date.now())),
  }
}

/**
 * Checks what a caller demands of a token. Throws TypeError. A member that is there but undefined is refused
 * too: a route parameter that is not what its author thinks must not switch the check off.
 */
export function getRequirements(options: VerifyOptions): Requirements {
  if (typeof options !== 'object' || options === null) throw new TypeError('options must be an object')
  const { scopes = [], organizationId } = options
  if ('scopes' in options && !Array.isArray(options.scopes)) throw new TypeError('scopes must be an array')
  // RFC 6749 §3.3, and so that a scope cannot break out of the challenge that names it.
  if (!scopes.every(isScopeToken)) throw new TypeError('scopes must be scope tokens')
  if ('organizationId' in options && (typeof organizationId !== 'string' || organizationId === '')) {
    throw new TypeError('organizationId must be a non-empty string')
  }
  return { scopes, organizationId }
}

function getRevocationSettings(options: VerifierOptions): VerifierSettings['revocations'] {
  const { revocations, issuer } = options
  // Present but undefined is refused: what is missing in a configuration must not switch the check off.
  if (!('revocations' in options)) return undefined
  if (typeof revocations !== 'object' || revocations === null) {
    throw new TypeError('revocations must be an object')
  }
  const { onStale = 'deny', uri = `${issuer}/oauth2/revocations` } = revocations
  if (onStale !== 'deny' && onStale !== 'allow') {
    throw new TypeError("revocations.onStale must be 'deny' or 'allow'")
  }
  checkUrl('revocations.uri', uri)
  const maxStaleness = getNumber('revocations.maxStaleness', revocations.maxStaleness, 30, 1800)
  return { maxStaleness, onStale, uri }
}

function checkUrl(name: string, value: unknown): void {
  if (typeof value !== 'string' || !URL.canParse(value)) throw new TypeError(`${name} must be a URL`)
  const { protocol, hostname, username, password } = new URL(value)
  const isLoopback = hostname === 'localhost' || hostname === '[::1]' || /^127(?:\.\d+){3}$/.test(hostname)
  if (protocol !== 'https:' && !(protocol === 'http:' && isLoopback)) {
    throw new TypeError(`${name} must be an https URL (http on loopback only)`)
  }
  if (username !== '' || password !== '') throw new TypeError(`${name} must hold no credentials`)
}

function getNumber(name: string, value: unknown, lowest: number, highest: number): number {
  // Negated, so that NaN is refused.
  if (typeof value !== 'number' || !(value >= lowest && value <= highest)) {
    throw new TypeError(`${name} must be a number from ${lowest} to ${highest}`)
  }
  return value
}

function getFunction<T>(name: string, value: T): T {
  if (typeof value !== 'function') throw new TypeError(`${name} must be a function`)
  return value
}
