/** The SQL of signing keys. */
import { eq, isNull, or, sql } from 'drizzle-orm'
import type { Database } from '../database/database.ts'
import { type Environment, signingKeys } from '../database/schema.ts'

export type SigningKeyRow = typeof signingKeys.$inferSelect

export type SigningKeyStore = {
  /** All that verifiers may still need, and those to come. */
  findCurrent(): Promise<SigningKeyRow[]>
  countIn(environment: Environment): Promise<number>
  insert(row: typeof signingKeys.$inferInsert): Promise<void>
}

export function createSigningKeyStore(database: Database): SigningKeyStore {
  const current = database
    .select()
    .from(signingKeys)
    .where(or(isNull(signingKeys.removesAt), sql`${signingKeys.removesAt} > now()`))
    .orderBy(signingKeys.kid)
    .prepare('signing_keys_current')
  return {
    findCurrent: () => current.execute(),
    countIn: (environment) => database.$count(signingKeys, eq(signingKeys.environment, environment)),
    async insert(row) {
      await database.insert(signingKeys).values(row)
    },
  }
}
