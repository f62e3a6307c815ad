/** Whether a key may be used at all, and from where: a pure function of its rows, its client's and its owner's. */
import type { Networks } from '../network/address.ts'

export type KeyStanding = {
  key: { expiresAt: Date | null; revokedAt: Date | null }
  client: {
    allowedOrigins: readonly string[] | null
    status: 'pending_approval' | 'active' | 'suspended' | 'revoked'
  }
  /** Undefined: from anywhere. */
  allowedNetworks: Networks | undefined
  owner: { status: 'active' | 'suspended' }
}

export type KeyCircumstances = {
  /** Milliseconds. */
  now: number
  /** Canonical. */
  clientAddress: string
  /** The Origin header of a browser's request. */
  origin: string | undefined
}

export type KeyDenial =
  | { ok: false; reason: 'key_expired' | 'key_revoked' | 'client_revoked' }
  | { ok: false; reason: 'address_not_allowed' | 'origin_not_allowed' }
  | { ok: false; reason: 'client_pending_approval' | 'client_suspended' | 'owner_suspended' }

/** Why the key may not be used; undefined: it may. */
export function findKeyDenial(
  { key, client, owner, allowedNetworks }: KeyStanding,
  { now, clientAddress, origin }: KeyCircumstances,
): KeyDenial | undefined {
  // The key itself, and from where it may be used.
  if (key.revokedAt !== null) return deny('key_revoked')
  if (key.expiresAt !== null && key.expiresAt.getTime() <= now) return deny('key_expired')
  if (client.status === 'revoked') return deny('client_revoked')
  if (allowedNetworks && !allowedNetworks(clientAddress)) return deny('address_not_allowed')
  if (origin !== undefined && !client.allowedOrigins?.includes(origin)) return deny('origin_not_allowed')

  // Its client and the owner.
  if (client.status === 'pending_approval') return deny('client_pending_approval')
  if (client.status === 'suspended') return deny('client_suspended')
  if (owner.status === 'suspended') return deny('owner_suspended')
  return undefined
}

const deny = <Reason extends string>(reason: Reason) => ({ ok: false as const, reason })
