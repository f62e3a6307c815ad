/** F7: the disk under PostgreSQL fills up: a small file system of the test's own, in memory, and a file that takes the rest. */
import { execFile } from 'node:child_process'
import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import postgres from 'postgres'
import { afterAll, expect, test } from 'vitest'
import { createPostgresServer, findPostgresVersions } from '../../support/postgres-server.ts'
import { compareWithLedger, createProcesses, startLoad, waitFor } from '../../support/process.ts'
import { seedClient } from '../../support/seed.ts'
import { startService } from '../../support/service.ts'

const run = promisify(execFile)
const MEGABYTES = 224
const processes = createProcesses()
const disk = join(await processes.folder(), 'disk')
await mkdir(disk, { mode: 0o700 })
const reason = await run('mount', [
  '-t',
  'tmpfs',
  '-o',
  `size=${MEGABYTES}m,mode=0700`,
  'signet-test',
  disk,
]).then(
  () => undefined,
  (error: Error) => error.message.trim(),
)
if (reason !== undefined)
  console.log(`F7: a full disk is left out: no file system can be mounted here (${reason})`)
afterAll(async () => {
  if (reason === undefined) await run('umount', ['-l', disk])
  await processes.cleanUp()
})

/** Takes all the room there is. */
async function fill(path: string): Promise<void> {
  const file = await open(path, 'w')
  const block = Buffer.alloc(2 ** 16)
  try {
    for (;;) await file.write(block)
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENOSPC' })
  } finally {
    await file.close()
  }
}

test.skipIf(reason !== undefined)(
  'F7 a full disk: 503 and no token without its row; with room again, it goes on by itself',
  async () => {
    const [version] = await findPostgresVersions()
    if (!version) throw new Error('there is no PostgreSQL')
    const server = await createPostgresServer(disk, version.binaries)
    await server.start({ max_wal_size: '48MB', min_wal_size: '32MB' })
    const service = await startService({ target: server.url('signet', 'one') as never }, { logLevel: 'warn' })
    const connect = () =>
      postgres(server.url('signet', 'one'), {
        max: 1,
        onnotice: () => {},
        connection: { 'signet.platform': 'on' },
      })
    try {
      const seeding = connect()
      const client = await seedClient(seeding)
      await seeding.end()
      const load = startLoad(service.url, client, 8)
      await waitFor('tokens', async () => load.received.length > 100)
      const ballast = join(disk, 'ballast')
      await fill(ballast)
      // It goes on for as long as there is room in the files that it has.
      await waitFor('refusals', async () => (load.statuses.get(503) ?? 0) > 20, 60_000)
      const full = load.received.length
      await rm(ballast)
      const backMs = await waitFor('tokens', async () => load.received.length > full + 20)
      await load.stop()
      expect(load.surprises).toEqual([])
      expect([...load.statuses.keys()].toSorted()).toEqual([200, 503])
      const sql = connect()
      const { compared, ...found } = await compareWithLedger(sql, load.received).finally(() => sql.end())
      expect(found).toEqual({ lost: [], doubled: [], receivedTwice: 0 })
      console.log(
        `F7: ${load.statuses.get(503)} refusals, tokens ${backMs} ms after there was room; ${compared} compared with the ledger`,
      )
    } finally {
      await service.stop()
      await server.stop('immediate')
    }
  },
)
