/** The SQL of organizations. */
import { and, desc, eq, lt } from 'drizzle-orm'
import { type Database, exactlyOne } from '../database/database.ts'
import { organizations } from '../database/schema.ts'

export type OrganizationRow = typeof organizations.$inferSelect
type Changes = Partial<Pick<OrganizationRow, 'name' | 'status'>>

export function createOrganizationStore(database: Pick<Database, 'select' | 'insert' | 'update'>) {
  const select = () => database.select().from(organizations)
  return {
    /** The one that operates this service; there is none before the first start. */
    async findPlatform(): Promise<OrganizationRow | undefined> {
      const [row] = await select().where(eq(organizations.platform, true))
      return row
    },
    async find(id: string): Promise<OrganizationRow | undefined> {
      const [row] = await select().where(eq(organizations.id, id))
      return row
    },
    /** Keeps others from changing it until the transaction ends. */
    async findForUpdate(id: string): Promise<OrganizationRow | undefined> {
      const [row] = await select().where(eq(organizations.id, id)).for('update')
      return row
    },
    /** The newest first. */
    list(options: {
      /** Of this one alone, for an index to serve: row-level security would look at all of them. */
      only: string | undefined
      status: OrganizationRow['status'] | undefined
      after: string | undefined
      take: number
    }) {
      const { only, status, after, take } = options
      return select()
        .where(
          and(
            only === undefined ? undefined : eq(organizations.id, only),
            status === undefined ? undefined : eq(organizations.status, status),
            after === undefined ? undefined : lt(organizations.id, after),
          ),
        )
        .orderBy(desc(organizations.id))
        .limit(take)
    },
    async insert(row: typeof organizations.$inferInsert): Promise<OrganizationRow> {
      return exactlyOne(await database.insert(organizations).values(row).returning())
    },
    async update(id: string, changes: Changes): Promise<OrganizationRow> {
      return exactlyOne(
        await database.update(organizations).set(changes).where(eq(organizations.id, id)).returning(),
      )
    },
  }
}
