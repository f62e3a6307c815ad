import type { VerificationAlgorithm } from './algorithms.ts'
import { fetchJwkSet, type JwksFetch } from './jwks-fetch.ts'
import {
  importKeys,
  isJwkSet,
  type JwkSet,
  type KeySet,
  selectKeys,
  type VerificationKey,
} from './key-set.ts'
import { VerificationError } from './verification-error.ts'

// From when on a set is refreshed beside verification, and from when on verification waits for the refresh.
const REFRESH_AFTER_MS = 10 * 60_000
const WAIT_AFTER_MS = 15 * 60_000
// Between two fetches, whatever asks for them: a flood of unknown kids costs the issuer one request in 30 s.
const COOL_DOWN_MS = 30_000
// Without any set there is nothing to verify with, so the first failures are retried sooner: 1, 2, 4, … 30 s.
const FIRST_RETRY_MS = 1_000
// A fetch gives up after 5 s. One that has not settled after 10 s never will: edge runtimes drop the timers and
// the I/O of a request that has been answered.
const ABANDON_AFTER_MS = 10_000

/** Where verification keys come from. Both methods reject with `VerificationError` `jwks_unavailable` only. */
export type KeySource = {
  find(kid: string): Promise<VerificationKey | undefined>
  preload(): Promise<void>
}

type RemoteOptions = {
  readonly uri: string
  readonly fetch: JwksFetch
  readonly algorithms: ReadonlySet<VerificationAlgorithm>
  readonly maxStaleSeconds: number
}

/**
 * Keys from a JWKS URI, cached. Times are read from the monotonic clock, so that setting the system clock
 * neither freezes the cache nor floods the issuer.
 *
 * jose's createRemoteJWKSet is not used: it bounds no size, measures with Date.now, sends one request per
 * verification while the issuer is down, and drops a set that can no longer be refreshed.
 */
export function createRemoteKeySource({ uri, fetch, algorithms, maxStaleSeconds }: RemoteOptions): KeySource {
  let current: { readonly keys: KeySet; readonly fetchedAt: number } | undefined
  let attempt: { readonly startedAt: number; readonly settled: Promise<void> } | undefined
  let nextAttemptAt = Number.NEGATIVE_INFINITY
  let failures = 0
  let lastFailure: unknown

  const age = () => (current === undefined ? Number.POSITIVE_INFINITY : performance.now() - current.fetchedAt)
  const isUsable = () => age() < maxStaleSeconds * 1000

  /** Single flight, rate-limited; resolves in any case. What came of it is in `current` and `lastFailure`. */
  function refresh(): Promise<void> {
    const startedAt = performance.now()
    if (attempt !== undefined && startedAt - attempt.startedAt < ABANDON_AFTER_MS) return attempt.settled
    if (startedAt < nextAttemptAt) return Promise.resolve()
    nextAttemptAt = startedAt + COOL_DOWN_MS
    const loading = fetchJwkSet(uri, fetch).then((set) => importKeys(selectKeys(set, algorithms)))
    const own = {
      startedAt,
      settled: loading.then(
        (keys) => {
          if (attempt !== own) return
          attempt = undefined
          failures = 0
          current = { keys, fetchedAt: startedAt }
        },
        (error: unknown) => {
          if (attempt !== own) return
          attempt = undefined
          lastFailure = error
          if (!isUsable()) {
            nextAttemptAt = performance.now() + Math.min(COOL_DOWN_MS, FIRST_RETRY_MS * 2 ** failures)
          }
          failures += 1
        },
      ),
    }
    attempt = own
    return own.settled
  }

  async function getKeys(): Promise<KeySet> {
    // A verifier that idled past WAIT_AFTER_MS asks before it trusts a key that may have been removed meanwhile.
    // Once that has failed it no longer waits: the issuer being down must not slow verification down.
    if (!isUsable() || (age() >= WAIT_AFTER_MS && failures === 0)) await refresh()
    else if (age() >= REFRESH_AFTER_MS) void refresh()
    if (current === undefined || !isUsable()) {
      throw new VerificationError('jwks_unavailable', { cause: lastFailure })
    }
    return current.keys
  }

  return {
    async find(kid) {
      const known = (await getKeys()).get(kid)
      if (known !== undefined) return known
      await refresh()
      return current?.keys.get(kid)
    },
    async preload() {
      await getKeys()
    },
  }
}

/**
 * Keys that the caller holds. A function is asked at every verification; what it returns is imported once per
 * object, so it should return the same object for as long as the set is the same.
 */
export function createLocalKeySource(
  jwks: JwkSet | (() => JwkSet | Promise<JwkSet>),
  algorithms: ReadonlySet<VerificationAlgorithm>,
): KeySource {
  let imported: { readonly set: JwkSet; readonly keys: Promise<KeySet> } | undefined

  function importOnce(set: JwkSet): Promise<KeySet> {
    if (imported?.set !== set) imported = { set, keys: importKeys(selectKeys(set, algorithms)) }
    return imported.keys
  }

  async function askForKeys(ask: () => JwkSet | Promise<JwkSet>): Promise<KeySet> {
    try {
      const set = await ask()
      if (!isJwkSet(set)) throw new TypeError('jwks() did not return a JWK set')
      return await importOnce(set)
    } catch (cause) {
      throw new VerificationError('jwks_unavailable', { cause })
    }
  }

  function createGetKeys(): () => Promise<KeySet> {
    if (typeof jwks === 'function') return () => askForKeys(jwks)
    // Selected and copied now: what the caller does to the object afterwards changes nothing.
    const fixed = importOnce(jwks)
    return () => fixed
  }
  const getKeys = createGetKeys()

  return {
    async find(kid) {
      return (await getKeys()).get(kid)
    },
    async preload() {
      await getKeys()
    },
  }
}
