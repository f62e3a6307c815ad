/** One PostgreSQL for the whole run, with a migrated template; each test file gets a database of its own from it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
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

async function makeTemplate(embedded: Awaited<ReturnType<typeof startEmbeddedPostgres>>): Promise<void> {
  const admin = postgres({ ...embedded.superuser, max: 1, onnotice: () => {} })
  await admin.unsafe('create database signet_template owner signet')
  await withMigratedDatabase({ ...embedded.connection, database: 'signet_template' }, (database) =>
    ensureLedgerPartitions(createLedgerStore(database), Date.now()),
  )
  await admin.end()
}
