/** The database of the service, for commands that only look: nothing is migrated, and no empty one comes into being. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type Config, parseConfig } from '../config.ts'
import { connectAsPlatform, type Database, type DatabaseTarget, disconnect } from '../database/database.ts'
import { EmbeddedPostgresError, startEmbeddedPostgres } from '../database/embedded.ts'

/** Its message is for whoever typed the command. */
export class CannotRunError extends Error {
  override name = 'CannotRunError'
}

/** Runs `work` on the database that the environment variables name. Throws CannotRunError when it cannot be reached. */
export async function withDatabase<T>(
  variables: Record<string, string | undefined>,
  work: (database: Database) => Promise<T>,
): Promise<T> {
  const parsed = parseConfig(variables)
  if (!parsed.ok) {
    const rules = parsed.problems.map(({ name, rule }) => `  ${name} ${rule}`)
    throw new CannotRunError(['The configuration is not valid:', ...rules].join('\n'))
  }
  return withTarget(parsed.config, async (target) => {
    const database = connectAsPlatform(target, { max: 1, statementTimeoutMilliseconds: 60_000 })
    try {
      return await work(database)
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
      throw new CannotRunError(
        `The database cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
        { cause: error },
      )
    } finally {
      await disconnect(database)
    }
  })
}

/** The embedded PostgreSQL is joined where the service runs, and else started for as long as this takes. */
async function withTarget<T>(config: Config, work: (target: DatabaseTarget) => Promise<T>): Promise<T> {
  if (config.databaseUrl !== undefined) return work(config.databaseUrl)
  if (!existsSync(join(config.dataDir, 'postgres', 'PG_VERSION')))
    throw new CannotRunError('There is neither DATABASE_URL nor a database in DATA_DIR.')
  try {
    const embedded = await startEmbeddedPostgres({ dataDir: config.dataDir })
    try {
      return await work(embedded.connection)
    } finally {
      await embedded.stop()
    }
  } catch (error) {
    throw error instanceof EmbeddedPostgresError ? new CannotRunError(error.message, { cause: error }) : error
  }
}
