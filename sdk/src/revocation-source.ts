import type { AccessToken } from './access-token.ts'
import type { VerificationAlgorithm } from './algorithms.ts'
import { type BoundedFetch, fetchDocument } from './bounded-fetch.ts'
import { REVOCATION_FEED } from './compact-jws.ts'
import type { KeySource } from './key-source.ts'
import { isRevoked, merge, parseRevocations, type Revocations } from './revocations.ts'
import { readSignedJwt } from './signed-jwt.ts'
import type { JsonObject } from './strict-json.ts'
import { VerificationError } from './verification-error.ts'

// Of the feed's ttl, or of maxStaleness where that is shorter: from where to where the next fetch is drawn.
const EARLIEST = 0.3
const LATEST = 0.5
// Whatever ttl a feed names.
const SHORTEST_MS = 1_000
const LONGEST_MS = 150_000
// After failures: 1, 2, 4, 8, 15 s, of which up to half is left out at random.
const FIRST_RETRY_MS = 1_000
const LONGEST_RETRY_MS = 15_000
// A fetch gives up after 5 s. One that has not settled after 10 s never will: edge runtimes drop the timers and
// the I/O of a request that has been answered.
const ABANDON_AFTER_MS = 10_000
// Age is in whole seconds: by that much, the same copy may seem older than it did.
const ROUNDING_MS = 2_000

export type RevocationVerdict = 'revoked' | 'unavailable' | undefined

/** What is known to be revoked. It is learned in the background: `judge` never waits. */
export type RevocationSource = {
  /** Undefined: not revoked, as far as one has to know. */
  judge(token: AccessToken, kid: string): RevocationVerdict
  /** Rejects with `VerificationError` `revocations_unavailable`, unless a stale copy is allowed. */
  preload(): Promise<void>
  /** Why there is no copy that is fresh enough. */
  failure(): unknown
  close(): void
}

export type RevocationSourceOptions = {
  readonly uri: string
  readonly issuer: string
  readonly fetch: BoundedFetch
  readonly algorithms: ReadonlySet<VerificationAlgorithm>
  readonly keySource: Pick<KeySource, 'find'>
  readonly clockToleranceSeconds: number
  readonly maxStalenessSeconds: number
  readonly onStale: 'deny' | 'allow'
  readonly now: () => number
}

/** Times are on the monotonic clock, so that setting the system clock neither freezes a copy nor throws it away. */
type Copy = {
  readonly revocations: Revocations
  readonly etag: string | undefined
  /** When, at the latest, it was known to be complete. */
  readonly asOf: number
  /** Until when its signature lets it be used. */
  readonly usableUntil: number
}

export function createRevocationSource(options: RevocationSourceOptions): RevocationSource {
  const { uri, issuer, fetch, algorithms, keySource, onStale, now } = options
  const maxStalenessMs = options.maxStalenessSeconds * 1000
  let copy: Copy | undefined
  let attempt: { readonly startedAt: number; readonly settled: Promise<void> } | undefined
  let nextAttemptAt = Number.NEGATIVE_INFINITY
  let timer: ReturnType<typeof setTimeout> | undefined
  let failures = 0
  let lastFailure: unknown
  let isClosed = false

  /** Single flight; resolves in any case. What came of it is in `copy` and `lastFailure`. */
  function refresh(): Promise<void> {
    const startedAt = performance.now()
    if (attempt !== undefined && startedAt - attempt.startedAt < ABANDON_AFTER_MS) return attempt.settled
    const own = {
      startedAt,
      settled: load(startedAt).then(
        (loaded) => {
          if (attempt !== own) return
          copy = loaded
          failures = 0
          lastFailure = undefined
          planNext(regularPause(loaded.revocations.ttl))
        },
        (error: unknown) => {
          if (attempt !== own) return
          lastFailure = error
          planNext(Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** failures) * (1 - Math.random() / 2))
          failures += 1
        },
      ),
    }
    attempt = own
    // Should it never settle: the next one is due when it counts as abandoned.
    setNext(ABANDON_AFTER_MS + 50)
    return own.settled
  }

  function planNext(pauseMs: number): void {
    attempt = undefined
    setNext(pauseMs)
  }

  function setNext(pauseMs: number): void {
    nextAttemptAt = performance.now() + pauseMs
    clearTimeout(timer)
    if (isClosed) return
    try {
      timer = setTimeout(() => void refresh(), pauseMs)
      // Nobody waits for the next feed: in Node, it must not keep the process alive.
      ;(timer as { unref?: () => void }).unref?.()
    } catch {
      // Where timers are refused (Cloudflare Workers, outside of a request), verification sees to it.
    }
  }

  function regularPause(ttl: number): number {
    const share = EARLIEST + (LATEST - EARLIEST) * Math.random()
    const pause = Math.min(ttl * 1000, maxStalenessMs) * share
    return Math.min(LONGEST_MS, Math.max(SHORTEST_MS, pause))
  }

  /** The copy to go on with. Rejects when what was answered is no feed, or one that is older than what is here. */
  async function load(startedAt: number): Promise<Copy> {
    const known = copy
    const isConditional = known?.etag !== undefined && startedAt < known.usableUntil
    const { status, headers, body } = await fetchDocument(uri, {
      what: 'revocation feed',
      fetch,
      headers: {
        accept: 'application/jwt',
        ...(isConditional ? { 'if-none-match': known.etag } : {}),
      },
      maxBytes: REVOCATION_FEED.maxCharacters,
      statuses: isConditional ? [200, 304] : [200],
    })
    if (status === 304 && known !== undefined) {
      const asOf = startedAt - ageOf(headers, known.revocations) * 1000
      return { ...known, asOf: Math.max(asOf, known.asOf) }
    }

    const revocations = parseRevocations(await readPayload(body, known), issuer)
    if (revocations === undefined) throw new Error('The revocation feed is not what it should be')
    const { issuedAt, expiresAt } = revocations
    const leftSeconds = expiresAt + options.clockToleranceSeconds - now() / 1000
    if (!(leftSeconds > 0)) throw new Error('The revocation feed has expired')

    const asOf = startedAt - ageOf(headers, revocations) * 1000
    if (known !== undefined && asOf < known.asOf) {
      if (asOf >= known.asOf - ROUNDING_MS) return known
      throw new Error('The revocation feed is older than the last one')
    }
    return {
      // Instances sign for themselves, so that one signed earlier may be as complete. Whether it is, nothing that is
      // signed says: what is known to be revoked stays so.
      revocations:
        known !== undefined && issuedAt < known.revocations.issuedAt
          ? { ...merge(known.revocations, revocations), issuedAt: known.revocations.issuedAt }
          : revocations,
      etag: headers.get('etag') ?? undefined,
      asOf,
      usableUntil: startedAt + Math.min(leftSeconds, expiresAt - issuedAt) * 1000,
    }
  }

  async function readPayload(body: Uint8Array, known: Copy | undefined): Promise<JsonObject> {
    // Who stole a signing key can sign feeds with it too, for as long as it is among our keys.
    const find = async (kid: string) =>
      known?.revocations.cutOffs.kid.has(kid) ? undefined : keySource.find(kid)
    try {
      const jwt = new TextDecoder().decode(body)
      return await readSignedJwt(jwt, REVOCATION_FEED, { algorithms, keySource: { find } })
    } catch (cause) {
      throw new Error('The revocation feed does not verify', { cause })
    }
  }

  /** RFC 9111 §5.1. Without it, only the signature says from when the feed is. */
  function ageOf(headers: Headers, { issuedAt }: Revocations): number {
    const age = headers.get('age')
    if (age === null) return Math.max(0, now() / 1000 - issuedAt)
    if (!/^\d{1,10}$/.test(age)) throw new Error('The Age of the revocation feed is not a number of seconds')
    return Number(age)
  }

  const isFresh = (at: number) =>
    copy !== undefined && at - copy.asOf <= maxStalenessMs && at < copy.usableUntil

  // Not awaited: whatever it does, creating a verifier does not fail by it.
  void refresh()

  return {
    judge(token, kid) {
      const at = performance.now()
      // The timer does this, where there is one.
      if (!isClosed && at >= nextAttemptAt) void refresh()
      // By a copy that is too old as well: nothing that was revoked is good again.
      if (copy !== undefined && isRevoked(copy.revocations, token, kid)) return 'revoked'
      return onStale === 'allow' || isFresh(at) ? undefined : 'unavailable'
    },
    async preload() {
      if (isFresh(performance.now())) return
      await refresh()
      if (onStale === 'deny' && !isFresh(performance.now())) {
        throw new VerificationError('revocations_unavailable', { cause: lastFailure })
      }
    },
    failure: () => lastFailure,
    close() {
      isClosed = true
      clearTimeout(timer)
    },
  }
}
