/** The SQL of issued tokens: reading the ledger, and revoking one of its tokens. */
import { and, desc, eq, gte, inArray, lt, lte, sql } from 'drizzle-orm'
import { clients, issuedTokens, keys, revokedTokens, signingKeys } from '../database/schema.ts'
import type { Transaction } from '../database/transaction.ts'
import { asPlatform } from '../management/store.ts'

export type TokenRow = typeof issuedTokens.$inferSelect
export type Revocation = { revokedAt: Date; reason: string | null }

export type TokenFilters = {
  organizationId: string | undefined
  clientId: string | undefined
  keyId: string | undefined
  /** From then on. */
  issuedAfter: Date | undefined
  /** Not at that moment any more. */
  issuedBefore: Date | undefined
  /** Where the page goes on. */
  after: { issuedAt: Date; jti: string } | undefined
  take: number
}

export function createTokenStore(transaction: Transaction) {
  return {
    async find(jti: string): Promise<TokenRow | undefined> {
      const [row] = await transaction.select().from(issuedTokens).where(eq(issuedTokens.jti, jti))
      return row
    },

    /** The newest first. To be narrowed to a client or an organization unless all are wanted: those have an index. */
    list({ organizationId, clientId, keyId, issuedAfter, issuedBefore, after, take }: TokenFilters) {
      return transaction
        .select()
        .from(issuedTokens)
        .where(
          and(
            organizationId === undefined ? undefined : eq(issuedTokens.organizationId, organizationId),
            clientId === undefined ? undefined : eq(issuedTokens.clientId, clientId),
            keyId === undefined ? undefined : eq(issuedTokens.keyId, keyId),
            issuedAfter === undefined ? undefined : gte(issuedTokens.issuedAt, issuedAfter),
            issuedBefore === undefined ? undefined : lt(issuedTokens.issuedAt, issuedBefore),
            // The first of the two says nothing new, but lets the partitions of later days be left out.
            after === undefined ? undefined : lte(issuedTokens.issuedAt, after.issuedAt),
            after === undefined
              ? undefined
              : sql`(${issuedTokens.issuedAt}, ${issuedTokens.jti}) < (${after.issuedAt.toISOString()}::timestamptz, ${after.jti})`,
          ),
        )
        .orderBy(desc(issuedTokens.issuedAt), desc(issuedTokens.jti))
        .limit(take)
    },

    /** Whether the transaction's tenant has such a client. */
    async ownsClient(clientId: string): Promise<boolean> {
      return (
        (await transaction.select({ id: clients.id }).from(clients).where(eq(clients.id, clientId))).length >
        0
      )
    },

    /** The client of a key that the transaction's tenant has. */
    async findClientOfKey(keyId: string): Promise<string | undefined> {
      const [row] = await transaction.select({ clientId: keys.clientId }).from(keys).where(eq(keys.id, keyId))
      return row?.clientId
    },

    /**
     * What revoked each of these tokens, by `jti`: itself, its key or the key that signed it, whichever came first.
     * The rows must be ones that the actor sees. What revoked them may be another tenant's (a partner's key), or the
     * platform's, and is still to be told: for this look, the transaction counts as the platform's.
     */
    async findRevocations(
      tokens: readonly TokenRow[],
      actor: { isPlatform: boolean },
    ): Promise<Map<string, Revocation>> {
      if (tokens.length === 0) return new Map()
      const namesOf = (member: 'jti' | 'keyId' | 'kid') => [...new Set(tokens.map((token) => token[member]))]
      const found = await asPlatform(transaction, actor, async () => {
        const singly = await transaction
          .select({ id: revokedTokens.jti, revokedAt: revokedTokens.revokedAt, reason: revokedTokens.reason })
          .from(revokedTokens)
          .where(inArray(revokedTokens.jti, namesOf('jti')))
        const withKey = await transaction
          .select({ id: keys.id, revokedAt: keys.tokensRevokedAt, reason: keys.revocationReason })
          .from(keys)
          .where(inArray(keys.id, namesOf('keyId')))
        const withSigningKey = await transaction
          .select({ id: signingKeys.kid, revokedAt: signingKeys.revokedAt, reason: sql<null>`null` })
          .from(signingKeys)
          .where(inArray(signingKeys.kid, namesOf('kid')))
        return [...singly, ...withKey, ...withSigningKey]
      })

      const byId = new Map(found.map((row) => [row.id, row]))
      return new Map(
        tokens.flatMap(({ jti, keyId, kid }) => {
          const [first] = [jti, keyId, kid]
            .map((id) => byId.get(id))
            .flatMap((row) => (row?.revokedAt ? [{ revokedAt: row.revokedAt, reason: row.reason }] : []))
            .sort((a, b) => a.revokedAt.getTime() - b.revokedAt.getTime())
          return first ? [[jti, first] as const] : []
        }),
      )
    },

    /** Of a token that is revoked already, the record stays as it is. */
    async revoke({ jti, organizationId, clientId, expiresAt }: TokenRow, reason: string): Promise<void> {
      await transaction
        .insert(revokedTokens)
        .values({ jti, organizationId, clientId, expiresAt, reason })
        .onConflictDoNothing()
    },
  }
}
