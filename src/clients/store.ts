/** The SQL of clients. */
import type { Database } from '../database/database.ts'
import { clients } from '../database/schema.ts'

export function createClientStore(database: Pick<Database, 'insert'>) {
  return {
    async insert(row: typeof clients.$inferInsert) {
      await database.insert(clients).values(row)
    },
  }
}
