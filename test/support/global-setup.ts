/** One PostgreSQL for the whole run, with a migrated template; each test file gets a database of its own from it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getConstructionPlans } from 'pg-boss'
import postgres from 'postgres'
import type { TestProject } from 'vitest/node'
import { startEmbeddedPostgres } from '../../src/database/embedded.ts'
import { withMigratedDatabase } from '../../src/database/migrate.ts'
import { ensureLedgerPartitions } from '../../src/ledger/retention.ts'
import { createLedgerStore } from '../../src/ledger/store.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    postgres: { host: string; port: number }
  }
}

export default async function setup(project: TestProject) {
  const dataDir = await mkdtemp(join(tmpdir(), 'signet-test-'))
  const embedded = await startEmbeddedPostgres({ dataDir, durable: false })
  try {
    await makeTemplate(embedded)
  } catch (error) {
    await embedded.stop()
    throw error
  }
  const { host, port } = embedded.connection
  project.provide('postgres', { host, port })

  return async () => {
    await embedded.stop()
    await rm(dataDir, { recursive: true, force: true })
  }
}

/** With the schema of the job queue: a service that lives long enough would make its own. */
async function makeTemplate(embedded: Awaited<ReturnType<typeof startEmbeddedPostgres>>): Promise<void> {
  const admin = postgres({ ...embedded.superuser, max: 1, onnotice: () => {} })
  await admin.unsafe('create database signet_template owner signet')
  const target = { ...embedded.connection, database: 'signet_template' }
  await withMigratedDatabase(target, (database) =>
    ensureLedgerPartitions(createLedgerStore(database), Date.now()),
  )
  const owner = postgres({ ...target, max: 1, onnotice: () => {} })
  await owner.unsafe(getConstructionPlans('pgboss'))
  await owner.end()
  await admin.end()
}
