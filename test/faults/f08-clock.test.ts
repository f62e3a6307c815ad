/**
 * F8: the clock of a running process jumps by an hour, in both directions (libfaketime, which reads the jump from a file;
 * the monotonic clock stays real). The database's clock is right throughout.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, expect, test } from 'vitest'
import { exists } from '../../src/database/embedded-program.ts'
import { timed } from '../support/behind-proxy.ts'
import { mint } from '../support/mint.ts'
import { createProcesses, readDemo, startLoad, waitFor, withDatabase } from '../support/process.ts'

const LIBRARIES = ['x86_64-linux-gnu', 'aarch64-linux-gnu', ''].map((folder) =>
  join('/usr/lib', folder, 'faketime/libfaketimeMT.so.1'),
)
const found = await Promise.all(LIBRARIES.map(exists))
const library = LIBRARIES[found.indexOf(true)]
if (!library) console.log('F8 is left out: libfaketime is not installed (apt-get install faketime)')

const processes = createProcesses()
afterEach(processes.cleanUp)
afterAll(processes.close)

test.skipIf(!library)(
  'F8 a clock that jumps: no token leaves, readiness says why, the log says how far; then it goes on by itself',
  async () => {
    const folder = await processes.folder()
    const [dataDir, shift, bootstrapFile] = [
      join(folder, 'data'),
      join(folder, 'shift'),
      join(folder, 'bootstrap.json'),
    ]
    await writeFile(shift, '+0')
    const jump = (offset: string) => writeFile(shift, offset)
    const service = await processes.start({
      DATA_DIR: dataDir,
      BOOTSTRAP_FILE: bootstrapFile,
      LOG_LEVEL: 'warn',
      LD_PRELOAD: library ?? '',
      FAKETIME_TIMESTAMP_FILE: shift,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    })
    const demo = await readDemo(bootstrapFile)
    await withDatabase(dataDir, (sql) => sql`update clients set rate_limit_per_minute = 1000000`)
    const readiness = async () => {
      const response = await fetch(`${service.url}/readyz`)
      return [response.status, ((await response.json()) as { reason?: string }).reason]
    }
    const isReady = async () => (await readiness())[0] === 200
    await waitFor('readiness', isReady)

    let received = 0
    for (const offset of ['+3600', '-3600', '+30']) {
      const load = startLoad(service.url, demo, 4)
      await waitFor('tokens', async () => load.received.length > 20)
      await jump(offset)
      await waitFor('a refusal', async () => (await mint(service.url, demo)).status === 503)
      // With what was under way.
      await load.stop()
      received += load.received.length
      const answers = await Promise.all(
        Array.from({ length: 20 }, () => timed(() => mint(service.url, demo))),
      )
      for (const { status, milliseconds, retryAfter } of answers) {
        expect([status, retryAfter]).toEqual([503, '1'])
        expect(milliseconds).toBeLessThan(1_500)
      }
      expect(await readiness()).toEqual([503, 'clock'])
      expect((await fetch(`${service.url}/sandbox/.well-known/jwks.json`)).status).toBe(200)
      await jump('+0')
      await waitFor('readiness', isReady)
      // Not a single refusal that would have been the caller's.
      expect(load.surprises).toEqual([])
    }
    const off = [...service.stderr().matchAll(/"ahead_seconds":(-?\d+)/g)].map(([, seconds]) =>
      Math.round(Number(seconds) / 10),
    )
    expect(off).toEqual([360, -360, 3])

    // Whatever left, or was even recorded, bears the database's time.
    const [row] = await withDatabase(
      dataDir,
      (sql) => sql`
    select count(*)::integer as count, max(abs(extract(epoch from issued_at - u.at)))::float8 as off
    from issued_tokens, (select clock_timestamp() as at) as u`,
    )
    expect(row?.count).toBeGreaterThanOrEqual(received)
    expect(row?.off).toBeLessThan(120)
  },
)
