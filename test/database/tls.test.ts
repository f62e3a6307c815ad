/** sslmode: whether the connection is encrypted, and whom it believes. */
import { execFile } from 'node:child_process'
import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { connectAsNobody, disconnect } from '../../src/database/database.ts'
import {
  createPostgresServer,
  findPostgresVersions,
  type PostgresServer,
} from '../support/postgres-server.ts'
import { createProcesses } from '../support/process.ts'

const run = promisify(execFile)
const hasOpenssl = await run('openssl', ['version']).then(
  () => true,
  () => false,
)
if (!hasOpenssl) console.log('TLS to the database is left out: it takes openssl to make a certificate')

const processes = createProcesses()
let plain: PostgresServer
let secure: PostgresServer | undefined
beforeAll(async () => {
  if (!hasOpenssl) return
  const [version] = await findPostgresVersions()
  if (!version) throw new Error('there is no PostgreSQL')
  plain = await createPostgresServer(await processes.folder(), version.binaries)
  secure = await plain.createStandby(await processes.folder(), 'secure')
  await plain.start()
  const key = join(secure.cluster, 'server.key')
  await run('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
    ...['-subj', '/CN=elsewhere.test', '-keyout', key, '-out', join(secure.cluster, 'server.crt')],
  ])
  await chmod(key, 0o600)
  await secure.start({ ssl: 'on' })
  await secure.promote()
})
afterAll(async () => {
  await secure?.stop('immediate')
  await plain?.stop('immediate')
  await processes.cleanUp()
})

async function connectsTo(server: PostgresServer | undefined, mode: string): Promise<string> {
  const database = connectAsNobody(`${server?.url('signet', 'one')}?sslmode=${mode}`, {
    max: 1,
    statementTimeoutMilliseconds: 1_000,
  })
  try {
    const [row] = await database.execute<{ ssl: boolean }>(
      sql`select ssl from pg_stat_ssl where pid = pg_backend_pid()`,
    )
    // Statements and answers of any size go through.
    const rows = await database.execute(sql`select repeat('x', 1000) from generate_series(1, 2000)`)
    return row?.ssl && rows.length === 2000 ? 'encrypted' : 'plain'
  } catch (error) {
    return (error as { cause: { code: string } }).cause.code
  } finally {
    await disconnect(database)
  }
}

test.skipIf(!hasOpenssl).each([
  ['disable', 'plain', 'plain'],
  ['prefer', 'encrypted', 'plain'],
  ['require', 'encrypted', 'CONNECTION_INSECURE'],
  ['verify-full', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'CONNECTION_INSECURE'],
  // Of a word that nobody knows, the strictest is meant.
  ['verify_full', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'CONNECTION_INSECURE'],
])(
  'sslmode=%s: %s where the server speaks TLS, with a certificate that nobody vouches for; else %s',
  async (mode, encrypted, unencrypted) => {
    expect([await connectsTo(secure, mode), await connectsTo(plain, mode)]).toEqual([encrypted, unencrypted])
  },
)
