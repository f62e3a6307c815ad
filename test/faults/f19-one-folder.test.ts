import { join } from 'node:path'
import { afterAll, afterEach, expect, test, vi } from 'vitest'
import { mint, tokenOf } from '../support/mint.ts'
import {
  answers,
  createProcesses,
  postmasterPid,
  readDemo,
  waitFor,
  withDatabase,
} from '../support/process.ts'

const processes = createProcesses()
// Processes start in seconds, on a machine that has something else to do.
vi.setConfig({ testTimeout: 90_000 })
afterEach(processes.cleanUp)
afterAll(processes.close)

test('F19: two services that are started at once on one empty DATA_DIR make one set of keys, share PostgreSQL, and see each other’s revocations', async () => {
  const dataDir = await processes.dataDir()
  const environment = {
    DATA_DIR: dataDir,
    BOOTSTRAP_FILE: join(dataDir, '../bootstrap.json'),
    LOG_LEVEL: 'warn',
  }
  const [one, other] = await Promise.all([processes.start(environment), processes.start(environment)])
  await waitFor('the keys', async () => (one.stdout() + other.stdout()).includes('curl '))
  expect((one.stdout() + other.stdout()).match(/sgt_live_/g)).toHaveLength(1)
  const demo = await readDemo(environment.BOOTSTRAP_FILE)
  const kids = new Set<unknown>()
  for (const { url } of [one, other]) {
    const { token } = await tokenOf(await mint(url, demo))
    kids.add(JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()).kid)
  }
  expect(kids.size).toBe(1)

  await withDatabase(dataDir, (sql) => sql`update keys set revoked_at = now() where id = ${demo.keyId}`)
  for (const { url } of [one, other]) expect((await mint(url, demo)).status).toBe(401)

  const postmaster = await postmasterPid(dataDir)
  expect(await one.stop()).toBe(0)
  expect(await postmasterPid(dataDir)).toBe(postmaster)
  expect(await answers(other.url, '/readyz', 200)()).toBe(true)
  expect(await other.stop()).toBe(0)
  expect(await postmasterPid(dataDir)).toBeUndefined()
})
