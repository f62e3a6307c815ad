/** Brings the schema up to date at start, one process at a time. */
import { fileURLToPath } from 'node:url'
import { sql } from 'drizzle-orm'
import { migrate } from 'drizzle-orm/postgres-js/migrator'
import { connectAsPlatform, type Database, type DatabaseTarget, disconnect } from './database.ts'

const MIGRATIONS = fileURLToPath(new URL('../../drizzle', import.meta.url))
/** Names the lock among all advisory locks of the database: "sgnt" in ASCII. */
const START_LOCK = 0x73676e74

export class UnsafeRoleError extends Error {
  override name = 'UnsafeRoleError'
}

/**
 * Runs `first` on an up-to-date schema while no other process starts on this database: drizzle's migrator takes no
 * lock of its own, and keys and organizations that a first start makes must be made once.
 *
 * Throws UnsafeRoleError, before it changes anything, when the database role could bypass row-level security.
 */
export async function withMigratedDatabase<T>(
  target: DatabaseTarget,
  first: (database: Database) => Promise<T>,
): Promise<T> {
  const database = connectAsPlatform(target, { max: 1, statementTimeoutMilliseconds: 60_000 })
  try {
    await refuseUnsafeRole(database)
    await database.execute(sql`select pg_advisory_lock(${START_LOCK})`)
    await migrate(database, { migrationsFolder: MIGRATIONS })
    return await first(database)
  } finally {
    // Ending the session releases the lock, on every way out.
    await disconnect(database)
  }
}

async function refuseUnsafeRole(database: Database): Promise<void> {
  const [role] = await database.execute<{ name: string; unsafe: boolean }>(
    sql`select rolname as name, rolsuper or rolbypassrls as unsafe from pg_roles where rolname = current_user`,
  )
  if (role && !role.unsafe) return
  throw new UnsafeRoleError(
    `The database role "${role?.name}" is a superuser or may bypass row-level security, which keeps tenants apart. ` +
      'Give Signet a role of its own: CREATE ROLE signet LOGIN NOSUPERUSER NOBYPASSRLS; CREATE DATABASE signet OWNER signet;',
  )
}
