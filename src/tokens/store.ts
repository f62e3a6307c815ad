/** The SQL of issued tokens: reading the ledger, and revoking one of its tokens. */
import { and, desc, eq, gte, lt, lte, sql } from 'drizzle-orm'
import type { Database } from '../database/database.ts'
import { issuedTokens, revokedTokens } from '../database/records.ts'
import { clients, type Environment, keys } from '../database/schema.ts'
import type { Transaction } from '../database/transaction.ts'
import { asPlatform } from '../management/store.ts'
import type { RevokedOfKind } from './feed-format.ts'

export type TokenRow = typeof issuedTokens.$inferSelect
export type Revocation = { revokedAt: Date; reason: string | null }
export type TokenStore = ReturnType<typeof createTokenStore>

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
    /** `issuedAt`, where it is known (Unix time, seconds), leads to the one partition. */
    async find(jti: string, issuedAt?: number): Promise<TokenRow | undefined> {
      const then = issuedAt === undefined ? undefined : new Date(issuedAt * 1000)
      const [row] = await transaction
        .select()
        .from(issuedTokens)
        .where(and(eq(issuedTokens.jti, jti), then && eq(issuedTokens.issuedAt, then)))
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
     * What revoked each of these tokens, by `jti`: itself, what it was had for, its key, the key that signed it, or what
     * stopped its client, an organization or the delegation after it was issued (drizzle/0005_revocations.sql); whichever
     * came first.
     * The rows must be ones that the actor sees. What revoked them may be another tenant's (a partner's key), or the
     * platform's, and is still to be told: for this look, the transaction counts as the platform's.
     */
    async findRevocations(
      tokens: readonly TokenRow[],
      actor: { isPlatform: boolean },
    ): Promise<Map<string, Revocation>> {
      if (tokens.length === 0) return new Map()
      const asked = tokens.map(
        ({ jti, subjectJtis, issuedAt, expiresAt, keyId, kid, clientId, organizationId, environment }) => ({
          jtis: [jti, ...(subjectJtis ?? [])],
          ...{ jti, environment, kid, key_id: keyId, client_id: clientId, organization_id: organizationId },
          ...{ issued_at: issuedAt.toISOString(), expires_at: expiresAt.toISOString() },
        }),
      )
      const found = await asPlatform(transaction, actor, () =>
        transaction.execute<{ jti: string; revokedAt: string; reason: string | null }>(sql`
          select distinct on (t.jti) t.jti, r.at as "revokedAt", r.reason
          from jsonb_to_recordset(${JSON.stringify(asked)}::text::jsonb) as t (jti text, jtis text[],
            environment text, kid text, key_id text, client_id text, organization_id text, issued_at timestamptz, expires_at timestamptz)
          left join clients c on c.id = t.client_id
          cross join lateral (
            select revoked_at, reason from revoked_tokens where jti = any (t.jtis)
            union all
            select tokens_revoked_at, revocation_reason from keys where id = t.key_id
            union all
            select revoked_at, null from signing_keys where kid = t.kid
            union all
            select c.tokens_revoked_at, null where c.tokens_revoked_at >= t.issued_at
            union all
            select tokens_revoked_at, null from organizations
              where id in (t.organization_id, c.organization_id) and tokens_revoked_at >= t.issued_at
            union all
            select tokens_revoked_at, null from delegations
              where organization_id = t.organization_id and partner_id = c.organization_id
                and environment = t.environment and tokens_revoked_at >= t.issued_at
          ) as r (at, reason)
          where r.at < t.expires_at
          order by t.jti, r.at`),
      )
      return new Map(
        found.map(({ jti, revokedAt, reason }) => [jti, { revokedAt: new Date(revokedAt), reason }]),
      )
    },

    /** Whether it was not on record yet; one that is stays as it is. */
    async revoke(token: TokenRow, reason: string): Promise<boolean> {
      const { jti, organizationId, clientId, environment, expiresAt } = token
      const inserted = await transaction
        .insert(revokedTokens)
        .values({ jti, organizationId, clientId, environment, expiresAt, reason })
        .onConflictDoNothing()
        .returning({ jti: revokedTokens.jti })
      return inserted.length === 1
    },
  }
}

/** What the ledger says of a token, and whether anything has revoked it. Times are Unix time, seconds. */
export type InspectedToken = {
  keyId: string
  clientId: string
  /** Whose client it is. */
  ownerId: string
  organizationId: string
  environment: Environment
  /** Separated by spaces, in the order of the token. */
  scope: string
  audience: string
  expiresAt: number
  /** Itself, and what it was had for, the last first. */
  jtis: readonly string[]
  isRevoked: boolean
}

export type InspectionStore = ReturnType<typeof createInspectionStore>

/**
 * Settings of the sessions that inspect. The statement is planned once, with all partitions and the view in it: that takes
 * twenty times as long as running it, and the planner would do it each time. Its plan is kept from when the tables
 * were small, hence no scans.
 */
export const INSPECTION_SETTINGS = {
  plan_cache_mode: 'force_generic_plan',
  enable_seqscan: 'off',
  jit: 'off',
}

const NAMED = {
  jti: sql`r.id = any (t.jtis)`,
  key_id: sql`r.id = t."keyId"`,
  client_id: sql`r.id = t."clientId"`,
  organization_id: sql`r.id = t."organizationId"`,
  partner_id: sql`r.id = t."ownerId"`,
  delegation: sql`r.id = t."organizationId" and r.partner_id = t."ownerId"`,
  kid: sql`r.id = t.kid`,
}

/** By kind, each with a condition of its own, so that of the view nothing else is looked at, and that by index. */
const isRevoked = sql.join(
  Object.entries(NAMED).map(([claim, names]) => {
    // An organization's revocation names whoever owns the client, too.
    const kind = claim === 'partner_id' ? 'organization_id' : claim
    return sql`exists (select from revocations r where r.kind = ${sql.raw(`'${kind}'`)} and ${names}
      and r.environment = t.environment and (r.before is null or t.iat < r.before))`
  }),
  sql` or `,
)

/** Takes `jti` and `issuedAt`. */
export const selectInspected = (database: Pick<Database, 'select'>) =>
  database
    .select({
      keyId: sql<string>`t."keyId"`,
      clientId: sql<string>`t."clientId"`,
      ownerId: sql<string>`t."ownerId"`,
      organizationId: sql<string>`t."organizationId"`,
      environment: sql<Environment>`t.environment`,
      scope: sql<string>`t.scope`,
      audience: sql<string>`t.audience`,
      expiresAt: sql<number>`t."expiresAt"`,
      jtis: sql<string[]>`to_json(t.jtis)`,
      isRevoked: sql<boolean>`${isRevoked}`,
    })
    // Apart, so that what is asked above is planned once, and not once for each partition; and without a join, which would
    // begin with all clients while there are few.
    .from(
      sql`(
        select t.jti || coalesce(t.subject_jtis, '{}') as jtis, t.environment, t.audience, t.kid,
          t.key_id as "keyId", t.client_id as "clientId", t.organization_id as "organizationId",
          (select c.organization_id from clients c where c.id = t.client_id) as "ownerId",
          array_to_string(t.scopes, ' ') as scope, extract(epoch from t.issued_at)::float8 as iat,
          extract(epoch from t.expires_at)::float8 as "expiresAt"
        from issued_tokens t
        where t.jti = ${sql.placeholder('jti')} and t.issued_at = to_timestamp(${sql.placeholder('issuedAt')})
        offset 0
      ) as t`,
    )

/** On a connection with INSPECTION_SETTINGS. */
export function createInspectionStore(database: Database) {
  const find = selectInspected(database).prepare('token_inspection')
  return {
    /** `issuedAt` (Unix time, seconds) leads to the one partition of the ledger. */
    async find(jti: string, issuedAt: number): Promise<InspectedToken | undefined> {
      const [row] = await find.execute({ jti, issuedAt })
      return row
    },
  }
}

/** What the revocation feed is made of (drizzle/0005_revocations.sql). */
export function createRevocationFeedStore(database: Database) {
  return {
    /** Another one whenever a revocation has been added. */
    async findDigest(): Promise<string> {
      const [row] = await database.execute<{ digest: string }>(sql`select revocation_digest() as digest`)
      return row?.digest ?? ''
    },

    findRevoked(environment: Environment): Promise<RevokedOfKind[]> {
      return database.execute<RevokedOfKind>(sql`
        select kind, json_agg(id order by id collate "C", partner_id collate "C") as ids,
          coalesce(json_agg(partner_id order by id collate "C", partner_id collate "C")
            filter (where partner_id is not null), '[]') as "partnerIds",
          coalesce(json_agg(before order by id collate "C", partner_id collate "C")
            filter (where before is not null), '[]') as befores
        from revocations where environment = ${environment} group by kind`)
    },
  }
}
