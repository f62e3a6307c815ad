/** The end of a single token: by whoever manages it, or by the client that holds it (RFC 7009). */
import type { InTransaction } from '../database/transaction.ts'
import { invalidClient } from '../keys/client-authentication.ts'
import { actorOf, type Credential, toCredential } from '../keys/keys.ts'
import type { RevocationReason } from '../keys/lifecycle.ts'
import { findKeyDenial } from '../keys/standing.ts'
import { createKeyStore } from '../keys/store.ts'
import type { RecordEvent } from '../management/change.ts'
import { differences } from '../management/operation.ts'
import { enterTenant } from '../management/store.ts'
import { describe, type TokenResource } from './resource.ts'
import { createTokenStore, type TokenRow, type TokenStore } from './store.ts'
import type { OwnToken } from './token-reader.ts'

/**
 * Revokes a token, and with it every token that was had for it (RFC 8693), and for those: they name it. So one that is
 * revoked already by what minted it is recorded all the same. Of one that has expired, or is on record, nothing changes. The
 * transaction is one that sees it.
 */
export async function revokeIssued(
  store: TokenStore,
  row: TokenRow,
  asked: { actor: { isPlatform: boolean }; now: Date; reason: RevocationReason },
): Promise<{ after: TokenResource; change: { before: object; after: object } }> {
  const before = await describe(store, row, asked)
  const isNew = before.status !== 'expired' && (await store.revoke(row, asked.reason))
  const after = await describe(store, row, asked)
  const change = differences(before, after)
  // What it looks like may be the same; that it is on record now is a change.
  return { after, change: isNew ? { ...change, after: { ...change.after, reason: asked.reason } } : change }
}

/** Rejects with ApiError: `invalid_client` when the credential is good no longer, `unavailable`. */
export type RevokeToken = (request: {
  token: OwnToken
  /** Whose token it is: that has been checked. */
  credential: Credential
  clientAddress: string
  origin: string | undefined
  requestId: string
}) => Promise<void>

export function createRevokeToken(dependencies: {
  /** On connections of those who serve themselves, by client. */
  inTransaction: InTransaction
  record: RecordEvent
}): RevokeToken {
  const { inTransaction, record } = dependencies

  return async function revokeToken({ token, credential, clientAddress, origin, requestId }) {
    const { client, key, owner } = credential
    await inTransaction(client.id, async (transaction) => {
      await enterTenant(transaction, owner.id)
      const keys = createKeyStore(transaction)
      /** By the rows as they are now. */
      async function judge(): Promise<Date> {
        const rows = await keys.findCredentialOf(key.id, { lock: false })
        const now = rows?.now.getTime()
        if (!rows || now === undefined || findKeyDenial(toCredential(rows), { now, clientAddress, origin }))
          throw invalidClient()
        return rows.now
      }

      const now = await judge()
      const store = createTokenStore(transaction)
      const row = await store.find(token.jti, token.iat)
      if (row?.clientId !== client.id) return
      const { change } = await revokeIssued(store, row, {
        actor: { isPlatform: false },
        now,
        reason: 'unspecified',
      })
      if (Object.keys(change.after).length === 0) return
      await record(transaction, {
        // The client's, also where its owner is a partner: it cannot write into another's trail.
        organizationId: owner.id,
        action: 'token.revoke',
        targetId: row.jti,
        ...change,
        actor: actorOf(credential),
        clientAddress,
        requestId,
      })
      // Again, with the lock of the audit chain, which every change has: a revocation of the key that was answered before is
      // seen (docs/decisions/0008-audit-chain.md).
      await judge()
    })
  }
}
