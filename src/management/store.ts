/** The SQL of the management API's frame: whose transaction it is, and what was answered to an Idempotency-Key. */
import { and, arrayContains, eq, exists, gt, inArray, isNull, lt, ne, or, sql } from 'drizzle-orm'
import type { PgTable } from 'drizzle-orm/pg-core'
import { type Database, deleteInParts } from '../database/database.ts'
import { idempotencyKeys, revokedTokens } from '../database/records.ts'
import { clients, keys, organizations } from '../database/schema.ts'
import type { Transaction } from '../database/transaction.ts'
import { ApiError } from '../errors.ts'
import type { Actor } from './operation.ts'

/** Makes the transaction that of a tenant: row-level security shows it nobody else's rows. */
export const enterTenant = (transaction: Transaction, organizationId: string): Promise<unknown> =>
  transaction.execute(sql`select set_config('signet.organization_id', ${organizationId}, true)`)

/** Makes the transaction the platform's. Only for an actor whose own rows say that it is the platform. */
export const enterPlatform = (transaction: Transaction): Promise<unknown> =>
  transaction.execute(sql`select set_config('signet.platform', 'on', true)`)

/** Runs `look` as the platform, for what another tenant's rows must tell of ones that the actor sees. */
export async function asPlatform<T>(
  transaction: Transaction,
  { isPlatform }: { isPlatform: boolean },
  look: () => Promise<T>,
): Promise<T> {
  if (isPlatform) return look()
  await enterPlatform(transaction)
  const seen = await look()
  await transaction.execute(sql`select set_config('signet.platform', '', true)`)
  return seen
}

const isOthers = (table: PgTable) => sql`${table}.xmin is distinct from pg_current_xact_id_if_assigned()::xid`

/** What the database says of the bearer of a token, in its own tenant's transaction; undefined: there is none. */
export async function findStanding(
  transaction: Transaction,
  token: {
    jtis: readonly string[]
    keyId: string
    clientId: string
    organizationId: string
    issuedAt: number
  },
) {
  const isCutOff = (table: typeof clients | typeof organizations) =>
    sql`${table.tokensRevokedAt} >= to_timestamp(${token.issuedAt}) and ${isOthers(table)}`

  const [row] = await transaction
    .select({
      clientStatus: clients.status,
      clientScopes: clients.scopes,
      organizationStatus: organizations.status,
      isPlatform: organizations.platform,
      keyCreatedBy: keys.createdBy,
      // Who has just ended what their own right came from had it until then: rows that this very transaction has written
      // count as they were.
      areTokensRevoked: sql<boolean>`${keys.tokensRevokedAt} is not null and ${isOthers(keys)}`,
      // What stopped the client or the organization revoked what was issued until then, and does so when it goes on.
      isCutOff: sql<boolean>`coalesce(${isCutOff(clients)} or ${isCutOff(organizations)}, false)`,
      isClientOthers: sql<boolean>`${isOthers(clients)}`,
      isTokenRevoked: exists(
        transaction
          .select({ jti: revokedTokens.jti })
          .from(revokedTokens)
          .where(and(inArray(revokedTokens.jti, [...token.jtis]), isOthers(revokedTokens))),
      ).mapWith(Boolean),
      now: sql`now()`.mapWith((value: string) => new Date(value)),
    })
    .from(keys)
    .innerJoin(clients, eq(clients.id, keys.clientId))
    .innerJoin(organizations, eq(organizations.id, clients.organizationId))
    .where(
      and(
        eq(keys.id, token.keyId),
        eq(clients.id, token.clientId),
        eq(organizations.id, token.organizationId),
      ),
    )
  return row
}

/** Whether what belongs to that organization is the platform's own, and the actor its. */
export const isPlatforms = (actor: Actor, { organizationId }: { organizationId: string }): boolean =>
  actor.isPlatform && actor.organizationId === organizationId

const ADMINISTRATION = ['signet:clients:write', 'signet:clients:approve']

/**
 * To be called after a change to the platform's own clients and keys. Throws ApiError `conflict` when it would leave none
 * with which clients can be administered, `besides` one that does not count: nobody could let the operators in again. Those
 * who ask stand in a row.
 */
export async function keepAdministrators(transaction: Transaction, besides?: string): Promise<void> {
  await transaction
    .select({ id: organizations.id })
    .from(organizations)
    .where(eq(organizations.platform, true))
    .for('no key update')
  const [administrator] = await transaction
    .select({ id: clients.id })
    .from(clients)
    .innerJoin(
      organizations,
      and(eq(organizations.id, clients.organizationId), eq(organizations.platform, true)),
    )
    .innerJoin(keys, eq(keys.clientId, clients.id))
    .where(
      and(
        besides === undefined ? undefined : ne(clients.id, besides),
        eq(clients.status, 'active'),
        eq(clients.environment, 'production'),
        arrayContains(clients.scopes, ADMINISTRATION),
        isNull(keys.revokedAt),
        or(isNull(keys.expiresAt), gt(keys.expiresAt, sql`now()`)),
      ),
    )
    .limit(1)
  if (!administrator)
    throw new ApiError(
      'conflict',
      'This would leave the platform without a client and a live key to administer clients with.',
    )
}

export type IdempotencyScope = {
  clientId: string
  organizationId: string
  /** Method and path template. */
  operation: string
  key: string
}

export type StoredAnswer = {
  fingerprint: Uint8Array
  status: number
  location: string | null
  body: string
}

const DAY = '24 hours'

/** Whether nobody else runs a request of that key. Held until the transaction ends, however it ends. */
export async function lockIdempotencyKey(
  transaction: Transaction,
  scope: IdempotencyScope,
): Promise<boolean> {
  const name = JSON.stringify(['idempotency', scope.clientId, scope.operation, scope.key])
  const [row] = await transaction.execute<{ locked: boolean }>(
    sql`select pg_try_advisory_xact_lock(hashtextextended(${name}, 0)) as locked`,
  )
  return row?.locked === true
}

const inScope = (scope: IdempotencyScope) =>
  and(
    eq(idempotencyKeys.clientId, scope.clientId),
    eq(idempotencyKeys.operation, scope.operation),
    eq(idempotencyKeys.key, scope.key),
  )

/** What was answered within the last day. */
export async function findAnswer(
  transaction: Transaction,
  scope: IdempotencyScope,
): Promise<StoredAnswer | undefined> {
  const [row] = await transaction
    .select()
    .from(idempotencyKeys)
    .where(and(inScope(scope), sql`${idempotencyKeys.createdAt} > now() - ${DAY}::interval`))
  return row
}

/** Takes the place of an older one; never of one that still counts, which its finder would have replayed. */
export async function keepAnswer(
  transaction: Transaction,
  scope: IdempotencyScope,
  answer: StoredAnswer,
): Promise<void> {
  const row = { ...scope, ...answer, createdAt: sql`now()` }
  await transaction
    .insert(idempotencyKeys)
    .values(row)
    .onConflictDoUpdate({
      target: [idempotencyKeys.clientId, idempotencyKeys.operation, idempotencyKeys.key],
      set: { ...answer, createdAt: sql`now()` },
    })
}

/** Deletes what nobody may replay any more. */
export const forgetAnswers = (database: Database): Promise<void> =>
  deleteInParts(database, idempotencyKeys, lt(idempotencyKeys.createdAt, sql`now() - ${DAY}::interval`))
