/** The public keys that a client has registered: in memory, imported once, and which of them has signed something. */
import { type CryptoKey, compactVerify, generateKeyPair } from 'jose'
import { importKeys, selectKeys } from '#sdk/key-set'
import { createPolicyCache, type ReadOptions } from '../database/policy-cache.ts'
import type { AssertionForm } from './assertion-form.ts'
import { type Credential, toCredential } from './keys.ts'
import { ASSERTION_ALGORITHMS } from './public-jwk.ts'
import type { AssertionStore, CredentialRows } from './store.ts'

/** Those of one client; never empty. */
export type RegisteredKeys = readonly {
  kid: string
  algorithm: string
  publicKey: CryptoKey
  credential: Credential
}[]

type KeyRegister = {
  /** From memory, which may be old. */
  recall(clientId: string): RegisteredKeys | undefined
  /** By a read that begins after the call; `seen` is what the caller knows already. Rejects with ApiError `unavailable`. */
  read(
    clientId: string,
    seen: RegisteredKeys | undefined,
    options: ReadOptions,
  ): Promise<RegisteredKeys | undefined>
}

const ALGORITHMS = new Set(ASSERTION_ALGORITHMS)

export function createKeyRegister(options: {
  store: Pick<AssertionStore, 'findPublicKeys'>
  cacheSize: number
  /** Of a row that cannot be used: the others can. */
  onUnusable: (keyId: string) => void
}): KeyRegister {
  const { store, cacheSize, onUnusable } = options
  const cache = createPolicyCache<RegisteredKeys>({
    max: cacheSize,
    async read(clientId, readOptions) {
      const rows = await store.findPublicKeys(clientId, readOptions)
      const usable = (await Promise.all(rows.map(toRegistered))).flat()
      return usable.length > 0 ? usable : undefined
    },
  })

  async function toRegistered(rows: CredentialRows): Promise<RegisteredKeys> {
    const candidates = selectKeys({ keys: [rows.key.publicJwk] }, ALGORITHMS)
    const imported = [...(await importKeys(candidates))]
    if (imported.length === 0) onUnusable(rows.key.id)
    return imported.map(([kid, key]) => ({ kid, ...key, credential: toCredential(rows) }))
  }

  return {
    recall: (clientId) => cache.recall(clientId),
    read: (clientId, seen, { settle }) => cache.findAgain(clientId, seen, { settle, own: true }),
  }
}

/** At most so many keys are tried where the assertion does not say which it is: a client has no more. */
const MAX_TRIES = 5

/**
 * The credential of the key that has signed it. Undefined: none has. That costs a verification even where there is no such
 * key, so that the time does not tell which clients have keys.
 */
type FindSigner = (
  assertion: string,
  form: AssertionForm,
  among: RegisteredKeys | undefined,
  /** The ids of keys that have not signed it, for the next time: none is tried twice. */
  tried: Set<string>,
) => Promise<Credential | undefined>

export function createFindSigner(): FindSigner {
  const decoys = new Map<string, Promise<CryptoKey>>()

  /** Whose private half is dropped as soon as it is made. */
  function decoyFor(algorithm: string): Promise<CryptoKey> {
    const known = decoys.get(algorithm)
    if (known) return known
    const made = generateKeyPair(algorithm).then(({ publicKey }) => publicKey)
    decoys.set(algorithm, made)
    // Not for ever, if it could not be made.
    made.catch(() => decoys.delete(algorithm))
    return made
  }

  return async function findSigner(assertion, { algorithm, kid }, among = [], tried) {
    // draft-ietf-oauth-rfc8725bis §3.1: the key decides the algorithm, the assertion may only agree.
    const fitting = among
      .filter((key) => key.algorithm === algorithm && (kid === undefined || key.kid === kid))
      .slice(0, MAX_TRIES)
    if (fitting.length === 0) await isSignedBy(assertion, algorithm, await decoyFor(algorithm))
    for (const { publicKey, credential } of fitting) {
      if (tried.has(credential.key.id)) continue
      if (await isSignedBy(assertion, algorithm, publicKey)) return credential
      tried.add(credential.key.id)
    }
    return undefined
  }
}

async function isSignedBy(assertion: string, algorithm: string, publicKey: CryptoKey): Promise<boolean> {
  try {
    await compactVerify(assertion, publicKey, { algorithms: [algorithm] })
    return true
  } catch {
    return false
  }
}
