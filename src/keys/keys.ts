/** Authentication by key: who is asking, as far as a key can prove it. */
import { createPolicyCache, type ReadOptions } from '../database/policy-cache.ts'
import { compileNetworks, type Networks } from '../network/address.ts'
import { type ParsedKey, sameHash } from './key-format.ts'
import type { CredentialRows, CredentialStore } from './store.ts'

/** A key's rows, with its client's allow-list ready for use (undefined: from anywhere). */
export type Credential = CredentialRows & { allowedNetworks: Networks | undefined }

export type Keys = {
  /** The credential of this very key, if it is in memory. */
  recall(key: ParsedKey): Credential | undefined
  /** The credential of this very key, or undefined when there is none: unknown and wrong look the same. */
  authenticate(key: ParsedKey): Promise<Credential | undefined>
  /** As authenticate, from rows younger than those of `judged`. */
  authenticateAgain(key: ParsedKey, judged: Credential, options: ReadOptions): Promise<Credential | undefined>
}

export function toCredential(rows: CredentialRows): Credential {
  const cidrs = rows.client.allowedCidrs
  return { ...rows, allowedNetworks: cidrs ? compileNetworks(cidrs) : undefined }
}

/** Whose credential it is: for the audit trail. */
export const actorOf = ({ key, client, owner }: Pick<CredentialRows, 'key' | 'client' | 'owner'>) => ({
  clientId: client.id,
  keyId: key.id,
  organizationId: owner.id,
})

const NOBODY = new Uint8Array(32)

export function createKeys(options: { store: CredentialStore; cacheSize: number }): Keys {
  const { store, cacheSize } = options
  const cache = createPolicyCache<Credential>({
    max: cacheSize,
    async read(lookupId, readOptions) {
      const rows = await store.findCredential(lookupId, readOptions)
      return rows && toCredential(rows)
    },
  })

  /** A lookup id only names a key; the hash of the whole key proves it. Compared even when there is no such key. */
  function prove(key: ParsedKey, candidate: Credential | undefined): Credential | undefined {
    const proven = sameHash(key.hash, candidate?.key.hash ?? NOBODY)
    return proven && candidate?.client.environment === key.environment ? candidate : undefined
  }

  return {
    recall: (key) => prove(key, cache.recall(key.lookupId)),
    async authenticate(key) {
      // What is remembered and is another key's is read all the same, as an unknown one is: else the time, and in an
      // outage the answer, would tell whoever has but half of a key that there is one.
      const remembered = cache.recall(key.lookupId)
      if (!remembered || prove(key, remembered)) return prove(key, await cache.find(key.lookupId))
      return prove(key, await cache.findAgain(key.lookupId, remembered, { settle: false }))
    },
    authenticateAgain: async (key, judged, readOptions) =>
      prove(key, await cache.findAgain(key.lookupId, judged, readOptions)),
  }
}
