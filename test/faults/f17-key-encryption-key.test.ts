import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, expect, test, vi } from 'vitest'
import { mint, tokenOf } from '../support/mint.ts'
import { answers, createProcesses, readDemo, waitFor, withDatabase } from '../support/process.ts'

const processes = createProcesses()
// Processes start in seconds, on a machine that has something else to do.
vi.setConfig({ testTimeout: 90_000 })
afterEach(processes.cleanUp)
afterAll(processes.close)

test('F17: a wrong key-encryption key, or a lost one, keeps the service unready, with a clear message, and changes nothing', async () => {
  const dataDir = await processes.dataDir()
  const bootstrapFile = join(dataDir, '../bootstrap.json')
  const environment = { DATA_DIR: dataDir, BOOTSTRAP_FILE: bootstrapFile }
  await (await processes.start(environment)).stop()
  const demo = await readDemo(bootstrapFile)
  const signingKeys = () =>
    withDatabase(dataDir, async (sql) => [...(await sql`select * from signing_keys order by kid`)])
  const before = await signingKeys()
  expect(before).toHaveLength(2)
  const file = join(dataDir, 'key-encryption-key')
  const kept = await readFile(file, 'utf8')

  const wrong = Buffer.alloc(32, 1).toString('base64')
  for (const mistake of ['another key', 'the file is gone'] as const) {
    if (mistake === 'the file is gone') await rm(file)
    const service = await processes.spawn(
      mistake === 'another key' ? { ...environment, KEY_ENCRYPTION_KEY: wrong } : environment,
    )
    await waitFor('the failure in the log', async () => service.stderr().includes('KEY_ENCRYPTION_KEY'))
    expect(await answers(service.url, '/livez', 200)()).toBe(true)
    expect(await answers(service.url, '/readyz', 503)()).toBe(true)
    const refused = await mint(service.url, demo)
    expect(refused.status).toBe(503)
    expect(refused.headers.get('retry-after')).toMatch(/^\d+$/)
    expect(service.stdout()).toBe('')
    expect(service.stderr()).not.toContain(wrong)
    expect(await service.stop()).toBe(0)
    expect(await signingKeys()).toEqual(before)
  }

  await writeFile(file, kept)
  const right = await processes.start(environment)
  await tokenOf(await mint(right.url, demo))
  expect(await signingKeys()).toEqual(before)
})
