/** Making a key: for a client that gets one more, or in place of one that is renewed. */
import { ApiError, brokenRule } from '../errors.ts'
import { newId } from '../ids.ts'
import { insufficientScope } from '../management/authenticate.ts'
import { isManagementScope } from '../management/scopes.ts'
import type { KeyFormat } from './key-format.ts'
import { isExpiryPossible, MAX_LIVE_KEYS } from './lifecycle.ts'
import { refuseKey } from './refusal.ts'
import type { KeyRow, KeyStore, LockedClient } from './store.ts'

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
  await checkRoom(store, client.id, 1)
  const { key, lookupId, hash, prefix } = keyFormat.generate(client.environment)
  const id = newId('key')
  await store.insert({ id, clientId: client.id, lookupId, hash, prefix, expiresAt, replaces, createdBy })
  const row = await store.find(id)
  if (!row) throw new Error('a key that was just made is not there')
  return { key, row }
}

/** Throws ApiError `conflict` where so many keys more, of both kinds, are too many. */
export async function checkRoom(store: KeyStore, clientId: string, more: number): Promise<void> {
  if ((await store.countLive(clientId)) + more > MAX_LIVE_KEYS)
    throw new ApiError(
      'conflict',
      `A client may have ${MAX_LIVE_KEYS} live keys, secret and public ones together; revoke one first.`,
    )
}

/** Throws ApiError where that client may have no new keys, or whoever acts may make none for it. */
export function checkMayMakeKeys(client: LockedClient, actor: { scopes: readonly string[] }): void {
  checkMayHaveKeys(client)
  // Whoever makes a key can use it: so it must not open more of this API than they may do themselves.
  const beyond = client.scopes.find((scope) => isManagementScope(scope) && !actor.scopes.includes(scope))
  if (beyond !== undefined)
    throw insufficientScope(beyond, 'The client holds a management scope that the one that asks does not.')
}

/** What a key would be refused for, a client gets none for. */
function checkMayHaveKeys({ status, ownerStatus }: LockedClient): void {
  switch (status) {
    case 'pending_approval':
    case 'suspended':
      throw refuseKey(`client_${status}`)
    case 'revoked':
      throw new ApiError('conflict', 'The client has been revoked, which is for good.')
    case 'active':
      if (ownerStatus === 'suspended') throw refuseKey('owner_suspended')
  }
}

/** Throws ApiError `invalid_request` when no key may expire then. */
export function checkExpiry(expiresAt: Date | undefined, now: Date): void {
  if (expiresAt !== undefined && !isExpiryPossible(expiresAt, now))
    throw expiryError('must be in the future, and before the year 10000')
}

export const expiryError = (rule: string) => brokenRule('body', { pointer: '/expires_at', detail: rule })
