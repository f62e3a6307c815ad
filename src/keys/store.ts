/** The SQL of keys. */
import { eq, sql } from 'drizzle-orm'
import type { Database } from '../database/database.ts'
import type { ReadOptions } from '../database/policy-cache.ts'
import { clients, keys, organizations } from '../database/schema.ts'

export type KeyStore = ReturnType<typeof createKeyStore>
/** A key with what its rights depend on: its client and the organization that owns the client. */
export type CredentialRows = NonNullable<Awaited<ReturnType<KeyStore['findCredential']>>>

/** Reads that wait for whoever is changing the rows run on `settling`, so that others need not wait for them. */
export function createKeyStore(
  database: Pick<Database, 'select' | 'insert'>,
  settling: Pick<Database, 'select'> = database,
) {
  const credential = (on: Pick<Database, 'select'>) =>
    on
      .select({ key: keys, client: clients, owner: organizations })
      .from(keys)
      .innerJoin(clients, eq(clients.id, keys.clientId))
      .innerJoin(organizations, eq(organizations.id, clients.organizationId))
      .where(eq(keys.lookupId, sql.placeholder('lookupId')))

  const find = credential(database).prepare('key_credential')
  const findSettled = credential(settling).for('share').prepare('key_credential_settled')

  return {
    async findCredential(lookupId: string, { settle }: ReadOptions) {
      const [row] = await (settle ? findSettled : find).execute({ lookupId })
      return row
    },
    async insert(row: typeof keys.$inferInsert) {
      await database.insert(keys).values(row)
    },
  }
}
