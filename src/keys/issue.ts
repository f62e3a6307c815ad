/** Making a key: for a client that gets one more, or in place of one that is renewed. */
import { ApiError, brokenRule } from '../errors.ts'
import { newId } from '../ids.ts'
import type { KeyFormat } from './key-format.ts'
import { isExpiryPossible, MAX_LIVE_KEYS } from './lifecycle.ts'
import type { KeyRow, KeyStore } from './store.ts'

/**
 * Makes a key of a client whose row the transaction has locked. `key` is to be shown once: it is not kept. Throws
 * ApiError `conflict` when the client has as many live keys as it may.
 */
export async function issueKey(
  store: KeyStore,
  keyFormat: KeyFormat,
  {
    client,
    expiresAt,
    createdBy,
    replaces,
  }: {
    client: { id: string; environment: 'sandbox' | 'production' }
    expiresAt: Date | null
    /** The client that answers for it. */
    createdBy: string | null
    replaces?: string
  },
): Promise<{ key: string; row: KeyRow }> {
  if ((await store.countLive(client.id)) >= MAX_LIVE_KEYS)
    throw new ApiError(
      'conflict',
      `The client has ${MAX_LIVE_KEYS} live keys, which is as many as it may have; revoke one first.`,
    )
  const { key, lookupId, hash, prefix } = keyFormat.generate(client.environment)
  const id = newId('key')
  await store.insert({ id, clientId: client.id, lookupId, hash, prefix, expiresAt, replaces, createdBy })
  const row = await store.find(id)
  if (!row) throw new Error('a key that was just made is not there')
  return { key, row }
}

/** Throws ApiError `invalid_request` when no key may expire then. */
export function checkExpiry(expiresAt: Date | undefined, now: Date): void {
  if (expiresAt !== undefined && !isExpiryPossible(expiresAt, now))
    throw expiryError('must be in the future, and before the year 10000')
}

export const expiryError = (rule: string) => brokenRule('body', { pointer: '/expires_at', detail: rule })
