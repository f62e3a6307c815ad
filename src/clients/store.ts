/** The SQL of clients. */
import { and, desc, eq, isNull, lt, ne, sql } from 'drizzle-orm'
import { type Database, exactlyOne } from '../database/database.ts'
import { clients, keys, organizations } from '../database/schema.ts'

export type ClientRow = typeof clients.$inferSelect
export type ClientChanges = Partial<Omit<typeof clients.$inferInsert, 'id' | 'organizationId' | 'version'>>

type Filters = {
  [Name in 'status' | 'environment' | 'kind']: ClientRow[Name] | undefined
}

export function createClientStore(database: Pick<Database, 'select' | 'insert' | 'update' | '$count'>) {
  const select = () => database.select().from(clients)
  return {
    async insert(row: typeof clients.$inferInsert): Promise<ClientRow> {
      return exactlyOne(await database.insert(clients).values(row).returning())
    },
    async find(id: string): Promise<ClientRow | undefined> {
      const [row] = await select().where(eq(clients.id, id))
      return row
    },
    /** Keeps others from changing it until the transaction ends. */
    async findForUpdate(id: string): Promise<ClientRow | undefined> {
      const [row] = await select().where(eq(clients.id, id)).for('update')
      return row
    },
    async update(id: string, changes: ClientChanges): Promise<ClientRow> {
      return exactlyOne(await database.update(clients).set(changes).where(eq(clients.id, id)).returning())
    },
    async organizationExists(id: string): Promise<boolean> {
      return (await database.$count(organizations, eq(organizations.id, id))) === 1
    },
    /** The newest first. */
    list(organizationId: string, filters: Filters, page: { after: string | undefined; take: number }) {
      return select()
        .where(
          and(
            eq(clients.organizationId, organizationId),
            filters.status && eq(clients.status, filters.status),
            filters.environment && eq(clients.environment, filters.environment),
            filters.kind && eq(clients.kind, filters.kind),
            page.after === undefined ? undefined : lt(clients.id, page.after),
          ),
        )
        .orderBy(desc(clients.id))
        .limit(page.take)
    },
    /** For good, like the client whose they are. */
    async revokeKeys(clientId: string): Promise<void> {
      await database
        .update(keys)
        .set({ revokedAt: sql`now()`, revocationReason: 'cessation_of_operation' })
        .where(and(eq(keys.clientId, clientId), isNull(keys.revokedAt)))
    },
    /** Keeps others from making clients of it until the transaction ends. */
    async lockOrganization(id: string): Promise<boolean> {
      const rows = await database
        .select({ id: organizations.id })
        .from(organizations)
        .where(eq(organizations.id, id))
        .for('no key update')
      return rows.length > 0
    },
    countUnrevoked(organizationId: string): Promise<number> {
      return database.$count(
        clients,
        and(eq(clients.organizationId, organizationId), ne(clients.status, 'revoked')),
      )
    },
  }
}
