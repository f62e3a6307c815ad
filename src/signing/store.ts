/** The SQL of signing keys. */
import { and, desc, eq, inArray, isNotNull, isNull, lte, or, type SQL, sql } from 'drizzle-orm'
import { type Database, exactlyOne } from '../database/database.ts'
import { type Environment, signingKeys } from '../database/schema.ts'
import { BrokenRowError, createCheck } from '../database/sound.ts'
import type { Transaction } from '../database/transaction.ts'
import type { Timeline } from './rotation.ts'

export type SigningKeyRow = typeof signingKeys.$inferSelect

export type SigningKeyStore = {
  /** All that verifiers may still need, and those to come. */
  findCurrent(): Promise<SigningKeyRow[]>
  /** Resolves once whoever is changing keys at this moment is done (bounded by the statement's timeout). */
  settle(): Promise<void>
  countIn(environment: Environment): Promise<number>
  insert(row: typeof signingKeys.$inferInsert): Promise<void>
}

/**
 * The lock of those who plan the life of keys. "sgnt" in ASCII, as for all locks of ours; the numbers up to 2,047 are
 * policy rows' (drizzle/0001_guards.sql), the next is the audit trail's.
 */
const PLANNING = sql`x'73676e74'::integer, 2049`

/** By the database's clock, but for a revocation: that counts as soon as it is written. */
const isCurrent = () =>
  and(isNull(signingKeys.revokedAt), or(isNull(signingKeys.removesAt), sql`${signingKeys.removesAt} > now()`))

/** What cannot sign is the signer's to tell: verifiers may still need its public half. */
const checkPublished = createCheck(signingKeys, { name: 'signing key', id: 'kid' }, ['sealedPrivateJwk'])

/**
 * Reads that wait run on `settling`, so that others need not wait for them. `onBroken` is told of rows that are not
 * what they should be: they count as if they were not there.
 */
export function createSigningKeyStore(
  database: Database,
  settling = database,
  onBroken?: (error: unknown) => void,
): SigningKeyStore {
  const current = database
    .select()
    .from(signingKeys)
    .where(isCurrent())
    .orderBy(signingKeys.kid)
    .prepare('signing_keys_current')
  return {
    async findCurrent() {
      const rows = await current.execute()
      return rows.filter((row) => {
        try {
          checkPublished(row)
          if (typeof row.publicJwk.kty !== 'string')
            throw new BrokenRowError(`signing key ${row.kid}: public_jwk is none`)
          if (row.sealedPrivateJwk === null)
            onBroken?.(new BrokenRowError(`signing key ${row.kid}: sealed_private_jwk is missing`))
          return true
        } catch (error) {
          onBroken?.(error)
          return false
        }
      })
    },
    async settle() {
      // Not the rows, locked: waiting for one while holding another would be a deadlock with who changes both.
      await settling.execute(sql`select pg_advisory_xact_lock_shared(${PLANNING})`)
    },
    countIn: (environment) => database.$count(signingKeys, eq(signingKeys.environment, environment)),
    async insert(row) {
      await database.insert(signingKeys).values(row)
    },
  }
}

/** What the management API reads and writes, in a transaction of the platform. */
export function createManagedSigningKeys(transaction: Transaction) {
  const select = () => transaction.select().from(signingKeys)
  return {
    /**
     * Keeps others from planning the life of keys until the transaction ends: rows alone, locked, would not keep two
     * from making one each. Answers with the time: the transaction may have begun long before it got its turn.
     */
    async lock(): Promise<Date> {
      await transaction.execute(sql`select pg_advisory_xact_lock(${PLANNING})`)
      const [row] = await transaction.execute<{ now: string }>(
        sql`select date_trunc('milliseconds', clock_timestamp()) as now`,
      )
      return new Date(row?.now ?? Number.NaN)
    },
    async find(kid: string): Promise<SigningKeyRow | undefined> {
      const [row] = await select().where(eq(signingKeys.kid, kid))
      return row
    },
    /** All that still matter. */
    findCurrent(environment?: Environment): Promise<SigningKeyRow[]> {
      return select().where(and(isCurrent(), ofEnvironment(environment)))
    },
    /** The newest first; `kids`: only these, or those whose life ended that way. `after` is a kid. */
    list(options: {
      environment: Environment | undefined
      kids: readonly string[] | 'removed' | 'revoked' | undefined
      now: Date
      after: string | undefined
      take: number
    }): Promise<SigningKeyRow[]> {
      const { environment, kids, now, after, take } = options
      return select()
        .where(and(ofEnvironment(environment), isOneOf(kids, now), isAfter(after)))
        .orderBy(desc(signingKeys.createdAt), desc(signingKeys.kid))
        .limit(take)
    },
    async insert(row: typeof signingKeys.$inferInsert): Promise<SigningKeyRow> {
      return exactlyOne(await transaction.insert(signingKeys).values(row).returning())
    },
    async update(kid: string, changes: Partial<Timeline>): Promise<SigningKeyRow> {
      return exactlyOne(
        await transaction.update(signingKeys).set(changes).where(eq(signingKeys.kid, kid)).returning(),
      )
    },
  }
}

const ofEnvironment = (environment: Environment | undefined): SQL | undefined =>
  environment === undefined ? undefined : eq(signingKeys.environment, environment)

function isOneOf(kids: readonly string[] | 'removed' | 'revoked' | undefined, now: Date): SQL | undefined {
  if (kids === undefined) return undefined
  if (kids === 'revoked') return isNotNull(signingKeys.revokedAt)
  if (kids === 'removed') return and(isNull(signingKeys.revokedAt), lte(signingKeys.removesAt, now))
  return kids.length > 0 ? inArray(signingKeys.kid, [...kids]) : sql`false`
}

/** By the row itself: on the wire, its time has lost the microseconds that the order has. */
const isAfter = (kid: string | undefined): SQL | undefined =>
  kid === undefined
    ? undefined
    : sql`(${signingKeys.createdAt}, ${signingKeys.kid}) <
        (select seen.created_at, seen.kid from ${signingKeys} as seen where seen.kid = ${kid})`
