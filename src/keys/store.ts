/** The SQL of keys. */
import { and, asc, count, desc, eq, isNotNull, isNull, lt, lte, or, type SQL, sql } from 'drizzle-orm'
import { alias } from 'drizzle-orm/pg-core'
import { type Database, deleteInParts, exactlyOne } from '../database/database.ts'
import type { ReadOptions } from '../database/policy-cache.ts'
import { clientAssertions, keyUsage } from '../database/records.ts'
import { clients, keys, organizations } from '../database/schema.ts'
import { BrokenRowError, createCheck } from '../database/sound.ts'
import type { RevocationChanges, RevocationReason } from './lifecycle.ts'

export type CredentialStore = ReturnType<typeof createCredentialStore>
export type AssertionStore = ReturnType<typeof createAssertionStore>
export type KeyStore = ReturnType<typeof createKeyStore>
/** A key with what its rights depend on: its client and the organization that owns the client. */
export type CredentialRows = NonNullable<Awaited<ReturnType<CredentialStore['findCredential']>>>
/** A key as it is shown. */
export type KeyRow = NonNullable<Awaited<ReturnType<KeyStore['find']>>>
export type LockedClient = NonNullable<Awaited<ReturnType<KeyStore['lockClient']>>>

export const KEY_STATUSES = ['active', 'expired', 'revoked'] as const
export type KeyStatus = (typeof KEY_STATUSES)[number]

/** Each is a condition that stands alone, so that an index can serve it. */
const inStatus = {
  active: and(isNull(keys.revokedAt), or(isNull(keys.expiresAt), sql`${keys.expiresAt} > now()`)),
  expired: and(isNull(keys.revokedAt), lte(keys.expiresAt, sql`now()`)),
  revoked: isNotNull(keys.revokedAt),
} as const

const credentialRows = { key: keys, client: clients, owner: organizations }

const successors = alias(keys, 'successors')

/** Without the hash, which nobody outside of an authentication needs. */
const shown = {
  id: keys.id,
  clientId: keys.clientId,
  clientName: clients.name,
  organizationId: clients.organizationId,
  environment: clients.environment,
  prefix: keys.prefix,
  publicJwk: keys.publicJwk,
  createdAt: keys.createdAt,
  lastUsedAt: keyUsage.lastUsedAt,
  lastUsedIp: keyUsage.lastUsedIp,
  expiresAt: keys.expiresAt,
  status: sql<KeyStatus>`case when ${inStatus.revoked} then 'revoked' when ${inStatus.active} then 'active' else 'expired' end`,
  revokedAt: keys.revokedAt,
  revocationReason: keys.revocationReason,
  tokensRevokedAt: keys.tokensRevokedAt,
  createdBy: keys.createdBy,
  replaces: keys.replaces,
  replacedBy: successors.id,
}

/** Keys with what their rights depend on. */
const credentials = (on: Pick<Database, 'select'>) =>
  on
    .select(credentialRows)
    .from(keys)
    .innerJoin(clients, eq(clients.id, keys.clientId))
    .innerJoin(organizations, eq(organizations.id, clients.organizationId))

const checkKey = createCheck(keys, { name: 'key', id: 'id' })
const checkClient = createCheck(clients, { name: 'client', id: 'id' })
const checkOrganization = createCheck(organizations, { name: 'organization', id: 'id' })
const HASH_BYTES = 32

/** Throws BrokenRowError: nobody is judged by rows that are not what they should be. */
function checkCredential(row: CredentialRows): void {
  const { key, client, owner } = row
  checkKey(key)
  if (key.publicJwk === null && key.hash?.length !== HASH_BYTES)
    throw new BrokenRowError(`key ${key.id}: hash is none`)
  checkClient(client)
  checkOrganization(owner)
}

/** In the order in which changes lock them: the other way round, each would wait for the other. */
const LOCKED = { of: [clients, keys, organizations] }

/**
 * What the exchange reads of a key. Reads that wait for whoever is changing the rows run on `settling`, so that others
 * need not wait for them.
 */
export function createCredentialStore(
  database: Pick<Database, 'select'>,
  settling: Pick<Database, 'select'>,
) {
  const credential = (on: Pick<Database, 'select'>) =>
    credentials(on).where(eq(keys.lookupId, sql.placeholder('lookupId')))

  const find = credential(database).prepare('key_credential')
  const findSettled = credential(settling).for('share', LOCKED).prepare('key_credential_settled')

  return {
    async findCredential(lookupId: string, { settle }: ReadOptions) {
      const [row] = await (settle ? findSettled : find).execute({ lookupId })
      if (row) checkCredential(row)
      return row
    },
  }
}

/**
 * What client assertions are judged by: the public keys of the client, and which assertions were used. Reads as
 * createCredentialStore does.
 */
export function createAssertionStore(
  database: Pick<Database, 'select' | 'insert'>,
  settling: Pick<Database, 'select'>,
) {
  const publicKeys = (on: Pick<Database, 'select'>) =>
    credentials(on).where(
      and(eq(keys.clientId, sql.placeholder('clientId')), isNotNull(keys.publicJwk), inStatus.active),
    )

  const find = publicKeys(database).prepare('key_public')
  const findSettled = publicKeys(settling).for('share', LOCKED).prepare('key_public_settled')
  const use = database
    .insert(clientAssertions)
    .values({
      clientId: sql.placeholder('clientId'),
      jti: sql.placeholder('jti'),
      expiresAt: sql.placeholder('expiresAt'),
    })
    .onConflictDoNothing()
    .returning({ jti: clientAssertions.jti })
    .prepare('key_assertion_use')

  return {
    async findPublicKeys(clientId: string, { settle }: ReadOptions) {
      const rows = await (settle ? findSettled : find).execute({ clientId })
      rows.forEach(checkCredential)
      return rows
    },
    /** Whether this is its first use, by whichever instance. */
    async useAssertion(assertion: { clientId: string; jti: string; expiresAt: Date }): Promise<boolean> {
      return (await use.execute(assertion)).length === 1
    },
  }
}

/** Deletes what nobody can use again: it has expired, by any instance's clock. */
export const forgetAssertions = (database: Pick<Database, 'select' | 'delete'>): Promise<void> =>
  deleteInParts(database, clientAssertions, lt(clientAssertions.expiresAt, sql`now() - interval '1 minute'`))

/** Keys as they are managed: in a transaction, or at the first start. */
export function createKeyStore(database: Pick<Database, 'select' | 'insert' | 'update'>) {
  /** The keys of a subquery that names them; nothing is joined for any other. */
  function show(named: ReturnType<typeof idsOf>) {
    return database
      .select(shown)
      .from(named)
      .innerJoin(keys, eq(keys.id, named.id))
      .innerJoin(clients, eq(clients.id, keys.clientId))
      .leftJoin(keyUsage, eq(keyUsage.keyId, keys.id))
      .leftJoin(successors, eq(successors.replaces, keys.id))
      .orderBy(desc(named.id))
  }

  const idsOf = (condition: SQL | undefined, take: number) =>
    database
      .select({ id: keys.id })
      .from(keys)
      .where(condition)
      .orderBy(desc(keys.id))
      .limit(take)
      .as('named')

  return {
    /** With the database's time. `lock` keeps others from changing the key until the transaction ends. */
    async findCredentialOf(keyId: string, { lock }: { lock: boolean }) {
      const query = database
        .select({ ...credentialRows, now: sql`now()`.mapWith((value: string) => new Date(value)) })
        .from(keys)
        .innerJoin(clients, eq(clients.id, keys.clientId))
        .innerJoin(organizations, eq(organizations.id, clients.organizationId))
        .where(eq(keys.id, keyId))
      const [row] = await (lock ? query.for('update', { of: keys }) : query)
      return row
    },
    async find(id: string) {
      const [row] = await show(idsOf(eq(keys.id, id), 1))
      return row
    },
    /** The newest first. */
    list(options: {
      clientId: string
      status: KeyStatus | undefined
      after: string | undefined
      take: number
    }) {
      const { clientId, status, after, take } = options
      return show(
        idsOf(
          and(
            eq(keys.clientId, clientId),
            status && inStatus[status],
            after === undefined ? undefined : lt(keys.id, after),
          ),
          take,
        ),
      )
    },
    async hasClient(id: string): Promise<boolean> {
      const rows = await database.select({ id: clients.id }).from(clients).where(eq(clients.id, id))
      return rows.length > 0
    },
    /** Keeps others from making, renewing and revoking its keys until the transaction ends. */
    async lockClient(id: string) {
      const [row] = await database
        .select({
          id: clients.id,
          environment: clients.environment,
          status: clients.status,
          scopes: clients.scopes,
          organizationId: clients.organizationId,
          ownerStatus: organizations.status,
        })
        .from(clients)
        .innerJoin(organizations, eq(organizations.id, clients.organizationId))
        .where(eq(clients.id, id))
        .for('update', { of: clients })
      return row
    },
    /** Those of the client that count, the oldest first. */
    async listPublic(clientId: string) {
      const rows = await database
        .select({ id: keys.id, publicJwk: keys.publicJwk })
        .from(keys)
        .where(and(eq(keys.clientId, clientId), isNotNull(keys.publicJwk), inStatus.active))
        .orderBy(asc(keys.id))
      return rows.flatMap(({ id, publicJwk }) => (publicJwk ? [{ id, publicJwk }] : []))
    },
    /** Whether the client had the public key with these members, and it was revoked as compromised. */
    async isCompromised(clientId: string, members: Record<string, string>): Promise<boolean> {
      const rows = await database
        .select({ id: keys.id })
        .from(keys)
        .where(
          and(
            eq(keys.clientId, clientId),
            eq(keys.revocationReason, 'compromised'),
            sql`${keys.publicJwk} @> ${JSON.stringify(members)}::jsonb`,
          ),
        )
        .limit(1)
      return rows.length > 0
    },
    async countLive(clientId: string): Promise<number> {
      const [row] = await database
        .select({ live: count() })
        .from(keys)
        .where(and(eq(keys.clientId, clientId), inStatus.active))
      return row?.live ?? 0
    },
    async isReplaced(id: string): Promise<boolean> {
      const rows = await database.select({ id: keys.id }).from(keys).where(eq(keys.replaces, id))
      return rows.length > 0
    },
    async insert(row: typeof keys.$inferInsert) {
      await database.insert(keys).values(row)
    },
    async revoke(id: string, reason: RevocationReason, changes: RevocationChanges): Promise<void> {
      exactlyOne(
        await database
          .update(keys)
          .set({
            ...(changes.revokes ? { revokedAt: sql`now()` } : {}),
            ...(changes.setsReason ? { revocationReason: reason } : {}),
            ...(changes.revokesTokens ? { tokensRevokedAt: sql`now()` } : {}),
          })
          .where(eq(keys.id, id))
          .returning({ id: keys.id }),
      )
    },
    /** Ends it when the overlap is over, unless it ends before. */
    async endAfter(id: string, overlapSeconds: number): Promise<Date | null> {
      const row = exactlyOne(
        await database
          .update(keys)
          // least() knows no null: a key without an expiry gets one.
          .set({ expiresAt: sql`least(${keys.expiresAt}, now() + make_interval(secs => ${overlapSeconds}))` })
          .where(eq(keys.id, id))
          .returning({ expiresAt: keys.expiresAt }),
      )
      return row.expiresAt
    },
  }
}
