/** The revocation feed: how a revocation reaches those who verify offline. docs/revocation-feed.md is its format. */
import { hash } from 'node:crypto'
import { type Clock, inTime, TooLateError, toSeconds } from '../clock.ts'
import { type Database, disconnect, type PoolOptions } from '../database/database.ts'
import { ENVIRONMENTS, type Environment } from '../database/schema.ts'
import type { Signer } from '../signing/signer.ts'
import { buildRevoked, covers, type Revoked } from './feed-format.ts'
import { createRevocationFeedStore } from './store.ts'

export type SignedFeed = {
  jwt: string
  /** Strong: another one whenever the bytes are others. */
  etag: string
  /** Since it was last known to be complete, rounded up: RFC 9111 §5.1, Age. */
  ageSeconds: number
}

export type RevocationFeed = {
  /**
   * Reads what is revoked, by a read that begins after the call, and signs it where something has been added. Many
   * callers at once cost one read. Never rejects.
   */
  refresh(): Promise<void>
  /**
   * What the change resolves to, once the feed has what it revoked: so that who revokes something finds it there. Where
   * the database does not answer in time, the next refresh brings it.
   */
  follow<Answer>(change: Promise<Answer>): Promise<Answer>
  /** From memory. Undefined until the first refresh, and once what was signed last has expired. */
  current(environment: Environment): SignedFeed | undefined
  close(): Promise<void>
}

/** How old a copy may be, in seconds: what a revocation takes at most to reach those who heed the feed. */
export const FEED_TTL_SECONDS = 30
/** Of a signature. It bounds for how long somebody between us and a verifier could hide a revocation. */
const LIFE_SECONDS = 3600
/** From then on it is signed anew, so that whoever fetches it has at least this long to fetch another. */
const HALF_LIFE_SECONDS = LIFE_SECONDS / 2
/** How long another instance's revocation may be missing. */
export const FEED_POLL_MILLISECONDS = 2_000
/** How long the answer to a change waits. */
const PATIENCE_MILLISECONDS = 300
/** Of the database. For 100,000 revocations it takes half a second. */
const STATEMENT_MILLISECONDS = 5_000
/** Of its session: the planner expects next to nothing behind row-level security, and would sort 100,000 rows on disk. */
export const FEED_SETTINGS = { jit: 'off', work_mem: '64MB' }
/** Past it, nobody answers at the other end. */
const DEADLINE_MILLISECONDS = STATEMENT_MILLISECONDS + 1_000
/** Of failures in a row, those that are reported: at a poll every 2 s, one in a minute. */
const REPORTED = 30

type Signed = { jwt: string; etag: string; kid: string; issuedAt: number; listed: Revoked }
type Held = {
  signed: Signed
  /** By the database, when it was last asked; `listed` may hold more, that no longer matters. */
  revoked: Revoked
  digest: string
  /** On the monotonic clock: when the read began that last found it complete. */
  confirmedAt: number
}

/** Makes its pool itself, because it makes a new one when its connection has died in silence. */
export function createRevocationFeed(options: {
  connect: (options: PoolOptions) => Database
  signer: Pick<Signer, 'sign' | 'jwks' | 'reload'>
  issuerOf: (environment: Environment) => string
  now: Clock
  onFailure: (error: unknown) => void
  deadlineMilliseconds?: number
}): RevocationFeed {
  const { signer, issuerOf, now, onFailure, deadlineMilliseconds = DEADLINE_MILLISECONDS } = options
  const connect = () =>
    options.connect({
      max: 1,
      statementTimeoutMilliseconds: STATEMENT_MILLISECONDS,
      settings: FEED_SETTINGS,
    })
  let database = connect()
  let store = createRevocationFeedStore(database)
  const held = new Map<Environment, Held>()
  let failures = 0
  let running: Promise<void> | undefined
  let next: Promise<void> | undefined

  function start(): Promise<void> {
    next = undefined
    running = update().finally(() => {
      running = undefined
    })
    return running
  }

  function refresh(): Promise<void> {
    if (!running) return start()
    next ??= running.then(start)
    return next
  }

  async function update(): Promise<void> {
    const used = database
    try {
      // Before the read: whatever is committed after this may be missing.
      const confirmedAt = performance.now()
      const issuedAt = toSeconds(now())
      const digest = await inTime(store.findDigest(), deadlineMilliseconds)
      const results = await Promise.allSettled(
        ENVIRONMENTS.map((each) => updateOne(each, digest, { confirmedAt, issuedAt })),
      )
      // What is amiss in one environment must not keep the news from the other.
      for (const result of results) if (result.status === 'rejected') throw result.reason
      failures = 0
    } catch (error) {
      if (failures % REPORTED === 0) onFailure(error)
      failures += 1
      if (error instanceof TooLateError && used === database) {
        database = connect()
        store = createRevocationFeedStore(database)
        disconnect(used).catch(() => {})
      }
    }
  }

  async function updateOne(
    environment: Environment,
    digest: string,
    { confirmedAt, issuedAt }: { confirmedAt: number; issuedAt: number },
  ): Promise<void> {
    const known = held.get(environment)
    // Read again for each signature, too: what no longer matters is left out then.
    const isCurrent = known?.digest === digest && !mustBeReplaced(known.signed, environment)
    const revoked = isCurrent
      ? known.revoked
      : buildRevoked(await inTime(store.findRevoked(environment), deadlineMilliseconds))
    // Another instance has revoked it: who signs here learns of it now, and not at the signer's next look.
    if (publishedKids(environment).some((kid) => Object.hasOwn(revoked.kid, kid))) await signer.reload()

    const isCovered = isCurrent || (known && covers(known.signed.listed, revoked))
    const isGood = isCovered && !mustBeReplaced(known.signed, environment)
    if (known && !publishedKids(environment).includes(known.signed.kid)) held.delete(environment)
    const signed = isGood ? known.signed : await sign(environment, revoked, issuedAt)
    held.set(environment, { signed, revoked, digest, confirmedAt })
  }

  const publishedKids = (environment: Environment): string[] =>
    (signer.jwks(environment)?.set.keys ?? []).flatMap(({ kid }) => kid ?? [])

  /** A clock that was set back would leave it signed in the future, and signed again only when that comes. */
  const mustBeReplaced = ({ kid, issuedAt }: Signed, environment: Environment): boolean =>
    !publishedKids(environment).includes(kid) || Math.abs(toSeconds(now()) - issuedAt) >= HALF_LIFE_SECONDS

  async function sign(environment: Environment, revoked: Revoked, issuedAt: number): Promise<Signed> {
    const claims = {
      iss: issuerOf(environment),
      iat: issuedAt,
      exp: issuedAt + LIFE_SECONDS,
      ttl: FEED_TTL_SECONDS,
      revoked,
    }
    const result = await signer.sign(environment, claims, 'revocations+jwt')
    if (!result)
      throw new Error(`no signing key for ${environment} is active and opens: its feed cannot be signed`)
    // The keys could not be read anew: whoever has stolen this one could have signed it as well.
    if (Object.hasOwn(revoked.kid, result.kid))
      throw new Error(`the signing key ${result.kid} has been revoked`)
    const { token: jwt, kid } = result
    return { jwt, etag: `"${hash('sha256', jwt, 'base64url')}"`, kid, issuedAt, listed: revoked }
  }

  return {
    refresh,
    async follow(change) {
      const answer = await change
      await inTime(refresh(), PATIENCE_MILLISECONDS).catch(() => {})
      return answer
    },
    current(environment) {
      const known = held.get(environment)
      if (!known || toSeconds(now()) >= known.signed.issuedAt + LIFE_SECONDS) return undefined
      const { jwt, etag } = known.signed
      return { jwt, etag, ageSeconds: Math.ceil((performance.now() - known.confirmedAt) / 1000) }
    },
    close: () => disconnect(database),
  }
}
