/** Signs access tokens with each environment's active key, and knows which keys verifiers must know. */
import type { Clock } from '../clock.ts'
import { SIGNING_ALGORITHMS, type SigningAlgorithm } from '../config.ts'
import { ENVIRONMENTS, type Environment } from '../database/schema.ts'
import { buildJwks, type Jwks } from './jwks.ts'
import { activeSigningKey, isPublished } from './rotation.ts'
import type { Sealing } from './sealing.ts'
import { makeSigningKey, openSigningKey, type SignBytes, signBytesWith } from './signing-key.ts'
import type { SigningKeyRow, SigningKeyStore } from './store.ts'

export type SignedToken = { token: string; kid: string; signingKeyVersion: number }

export type Signer = {
  /** Reads the keys from the database. Throws when an environment has no key that opens and may sign. */
  load(): Promise<void>
  /** Like load, many callers at once costing one read; what fails is reported and leaves the keys as they were. */
  refresh(): Promise<void>
  /** RFC 9068: `typ` is `at+jwt`. Undefined when the environment has no active key. */
  sign(environment: Environment, claims: object): Promise<SignedToken | undefined>
  /** The environment's key set, from memory. Undefined until the first load. */
  jwks(environment: Environment): Jwks | undefined
}

type LoadedKey = SigningKeyRow & { header: string; signBytes: SignBytes | undefined }

export function createSigner(options: {
  store: SigningKeyStore
  sealing: Sealing
  now: Clock
  onFailure?: (error: unknown) => void
}): Signer {
  const { store, sealing, now, onFailure } = options
  let keys: LoadedKey[] | undefined
  let refreshing: Promise<void> | undefined

  async function load(): Promise<void> {
    const rows = await store.findCurrent()
    const loaded = await Promise.all(rows.map((row) => loadKey(row)))
    for (const environment of ENVIRONMENTS) {
      const active = activeSigningKey(
        loaded.filter((key) => key.environment === environment),
        now(),
      )
      if (!active) throw new Error(`there is no active signing key for ${environment}`)
      if (!active.signBytes)
        throw new Error(`the active signing key for ${environment}, ${active.kid}, does not open`)
    }
    keys = loaded
  }

  async function loadKey(row: SigningKeyRow): Promise<LoadedKey> {
    const known = keys?.find((key) => key.kid === row.kid)
    if (known?.signBytes) return { ...known, ...row }
    const alg = SIGNING_ALGORITHMS.find((name) => name === row.alg)
    const header = encode({ alg: row.alg, kid: row.kid, typ: 'at+jwt' })
    try {
      if (!alg) throw new Error(`signing key ${row.kid} is for an unknown algorithm`)
      return { ...row, header, signBytes: signBytesWith(alg, await openSigningKey(row, sealing)) }
    } catch (error) {
      // A key that does not open fails alone: verifiers still need its public half.
      onFailure?.(error)
      return { ...row, header, signBytes: undefined }
    }
  }

  return {
    load,
    refresh() {
      refreshing ??= load()
        .catch((error) => onFailure?.(error))
        .finally(() => {
          refreshing = undefined
        })
      return refreshing
    },
    async sign(environment, claims) {
      const key = activeSigningKey(
        (keys ?? []).filter((each) => each.environment === environment),
        now(),
      )
      if (!key?.signBytes) return undefined
      const input = `${key.header}.${encode(claims)}`
      const signature = await key.signBytes(Buffer.from(input, 'latin1'))
      const token = `${input}.${Buffer.from(signature).toString('base64url')}`
      return { token, kid: key.kid, signingKeyVersion: key.version }
    },
    jwks(environment) {
      if (!keys) return undefined
      return buildJwks(keys.filter((key) => key.environment === environment && isPublished(key, now())))
    },
  }
}

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
    const at = new Date(now)
    await store.insert({
      ...(await makeSigningKey(environment, alg, sealing)),
      publishedAt: at,
      activatesAt: at,
    })
  }
}
