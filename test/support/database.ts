/** A migrated database of the test's own, on the PostgreSQL of the run. */
import { randomBytes } from 'node:crypto'
import postgres, { type Sql } from 'postgres'
import { inject } from 'vitest'

export type TestDatabase = {
  target: { host: string; port: number; username: string; database: string }
  /** As the application's role, seeing every tenant. */
  sql: Sql
  drop(): Promise<void>
}

export async function createTestDatabase(): Promise<TestDatabase> {
  const server = inject('postgres')
  const database = `signet_${randomBytes(6).toString('hex')}`
  await asSuperuser((admin) =>
    admin.unsafe(`create database ${database} template signet_template owner signet`),
  )
  const target = { ...server, username: 'signet', database }
  const sql = connectTo(target)
  return {
    target,
    sql,
    async drop() {
      await sql.end({ timeout: 1 })
      await asSuperuser((admin) => admin.unsafe(`drop database ${database} with (force)`))
    },
  }
}

/** As the application's role; `settings` default to the system's mark. */
export const connectTo = (
  target: TestDatabase['target'],
  settings: Record<string, string> = { 'signet.platform': 'on' },
): Sql => postgres({ ...target, max: 4, onnotice: () => {}, connection: { TimeZone: 'UTC', ...settings } })

export async function asSuperuser<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = postgres({
    ...inject('postgres'),
    username: 'postgres',
    database: 'postgres',
    max: 1,
    onnotice: () => {},
  })
  try {
    return await work(sql)
  } finally {
    await sql.end()
  }
}
