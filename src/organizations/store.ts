/** The SQL of organizations. */
import { eq } from 'drizzle-orm'
import type { Database } from '../database/database.ts'
import { organizations } from '../database/schema.ts'

export function createOrganizationStore(database: Pick<Database, 'select' | 'insert'>) {
  return {
    /** The one that operates this service; there is none before the first start. */
    async findPlatform() {
      const [row] = await database.select().from(organizations).where(eq(organizations.platform, true))
      return row
    },
    async insert(row: typeof organizations.$inferInsert) {
      await database.insert(organizations).values(row)
    },
  }
}
