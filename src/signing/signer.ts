/** Signs access tokens with each environment's active key, and knows which keys verifiers must know. */
import { type Clock, inTime } from '../clock.ts'
import { SIGNING_ALGORITHMS, type SigningAlgorithm } from '../config.ts'
import { ENVIRONMENTS, type Environment } from '../database/schema.ts'
import { buildJwks, type Jwks } from './jwks.ts'
import { activeSigningKey, atOnce, isPublished } from './rotation.ts'
import type { Sealing } from './sealing.ts'
import { makeSigningKey, openSigningKey, type SignBytes, signBytesWith } from './signing-key.ts'
import type { SigningKeyRow, SigningKeyStore } from './store.ts'

export type SignedToken = { token: string; kid: string; signingKeyVersion: number }

/**
 * `typ` tells apart what one key signs, so that none can pass for another (RFC 8725 §3.11): access tokens (RFC 9068 §2.1),
 * answers of introspection (RFC 9701 §5) and the revocation feed.
 */
export type TokenType = 'at+jwt' | 'token-introspection+jwt' | 'revocations+jwt'

export type Signer = {
  /** Reads the keys from the database. What does not open, or is missing, is reported: it fails alone. */
  load(): Promise<void>
  /**
   * Like load, many callers at once costing one read; never rejects. Waits for whoever is changing keys at this moment,
   * a bounded time: asked again before that, the admission would refuse again. Whether they could be read.
   */
  refresh(): Promise<boolean>
  /** Like refresh, but never by a read that began before the call: for who has just changed the keys. */
  reload(): Promise<boolean>
  /** Whether tokens of both environments can be signed. */
  isReady(): boolean
  /** Undefined when the environment has no active key. */
  sign(environment: Environment, claims: object, type?: TokenType): Promise<SignedToken | undefined>
  /** The environment's key set, from memory. Undefined until the first load. */
  jwks(environment: Environment): Jwks | undefined
}

const READ_DEADLINE_MILLISECONDS = 500
const SETTLE_DEADLINE_MILLISECONDS = 250

type LoadedKey = SigningKeyRow & { headers: Record<TokenType, string>; signBytes: SignBytes | undefined }

export function createSigner(options: {
  store: SigningKeyStore
  sealing: Sealing
  now: Clock
  onFailure?: (error: unknown) => void
}): Signer {
  const { store, sealing, now, onFailure } = options
  let keys: LoadedKey[] | undefined
  let refreshing: Promise<boolean> | undefined
  const published = new Map<Environment, Jwks>()

  async function load(): Promise<void> {
    const rows = await inTime(store.findCurrent(), READ_DEADLINE_MILLISECONDS)
    keys = await Promise.all(rows.map((row) => loadKey(row)))
    // What is amiss in one environment must not keep the news from the other.
    for (const environment of ENVIRONMENTS)
      if (!activeKey(environment)?.signBytes) onFailure?.(notSigning(environment))
  }

  const activeKey = (environment: Environment) =>
    activeSigningKey(
      (keys ?? []).filter((key) => key.environment === environment),
      now(),
    )

  async function loadKey(row: SigningKeyRow): Promise<LoadedKey> {
    const known = keys?.find((key) => key.kid === row.kid)
    if (known?.signBytes) return { ...known, ...row }
    const alg = SIGNING_ALGORITHMS.find((name) => name === row.alg)
    const headerOf = (typ: TokenType) => encode({ alg: row.alg, kid: row.kid, typ })
    const headers = {
      'at+jwt': headerOf('at+jwt'),
      'token-introspection+jwt': headerOf('token-introspection+jwt'),
      'revocations+jwt': headerOf('revocations+jwt'),
    }
    try {
      if (!alg) throw new Error(`signing key ${row.kid} is for an unknown algorithm`)
      return { ...row, headers, signBytes: signBytesWith(alg, await openSigningKey(row, sealing)) }
    } catch (error) {
      // A key that does not open fails alone: verifiers still need its public half.
      onFailure?.(error)
      return { ...row, headers, signBytes: undefined }
    }
  }

  function refresh(): Promise<boolean> {
    refreshing ??= inTime(store.settle(), SETTLE_DEADLINE_MILLISECONDS)
      // Then it is read as it is: waiting only spares the exchange a try.
      .catch(() => {})
      .then(load)
      .then(() => true)
      .catch((error) => {
        onFailure?.(error)
        return false
      })
      .finally(() => {
        refreshing = undefined
      })
    return refreshing
  }

  return {
    load,
    refresh,
    async reload() {
      await refreshing
      return refresh()
    },
    async sign(environment, claims, type = 'at+jwt') {
      const key = activeKey(environment)
      if (!key?.signBytes) return undefined
      const input = `${key.headers[type]}.${encode(claims)}`
      const signature = await key.signBytes(Buffer.from(input, 'latin1'))
      const token = `${input}.${Buffer.from(signature).toString('base64url')}`
      return { token, kid: key.kid, signingKeyVersion: key.version }
    },
    isReady: () => ENVIRONMENTS.every((environment) => activeKey(environment)?.signBytes),
    jwks(environment) {
      if (!keys) return undefined
      const jwks = buildJwks(keys.filter((key) => key.environment === environment && isPublished(key, now())))
      // The same object for as long as it is the same set: who verifies with it imports its keys once.
      const known = published.get(environment)
      if (known?.etag === jwks.etag) return known
      published.set(environment, jwks)
      return jwks
    },
  }
}

const notSigning = (environment: Environment) =>
  new Error(`no signing key for ${environment} is active and opens: its tokens cannot be signed`)

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** Makes the first signing key of each environment that has none. To be called while no other process starts. */
export async function ensureSigningKeys(
  store: SigningKeyStore,
  sealing: Sealing,
  alg: SigningAlgorithm,
  now: number,
): Promise<void> {
  for (const environment of ENVIRONMENTS) {
    // Any key counts, even one that does not open: a new one beside it would hide that the old ones are lost.
    if ((await store.countIn(environment)) > 0) continue
    // Nobody has fetched a key set yet, so the first key may sign at once.
    await store.insert({
      ...(await makeSigningKey(alg, sealing)),
      environment,
      ...atOnce(now),
    })
  }
}
