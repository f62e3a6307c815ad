/** `npm run audit:verify`, as an operator runs it: beside the service, and without it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import postgres from 'postgres'
import { afterAll, afterEach, expect, test } from 'vitest'
import { parseHead } from '../../src/cli/audit-verify.ts'
import { startEmbeddedPostgres } from '../../src/database/embedded.ts'
import { apiWith, tokenFor } from '../support/management.ts'
import { answers, createProcesses, mintable, postmasterPid, readBootstrapFile } from '../support/process.ts'

const CLI = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const processes = createProcesses()
afterEach(processes.cleanUp)
afterAll(processes.close)

async function verify(environment: Record<string, string>, ...more: string[]) {
  const child = spawn(process.execPath, [CLI, 'audit', 'verify', ...more], {
    env: { PATH: process.env.PATH ?? '', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  const [code] = await once(child, 'close')
  return { code: code as number | null, stdout, stderr }
}

test('the trail is verified beside the service, which goes on, and without it; what was changed is named', {
  timeout: 60_000,
}, async () => {
  const dataDir = await processes.dataDir()
  const bootstrapFile = join(await processes.folder(), 'bootstrap.json')
  const service = await processes.start({ DATA_DIR: dataDir, BOOTSTRAP_FILE: bootstrapFile })
  const operator = mintable((await readBootstrapFile(bootstrapFile)).operator)
  const api = apiWith(service.url, await tokenFor(service.url, operator, ['signet:organizations:write']))
  for (const name of ['One', 'Two', 'Three']) await api.post('/v2/organizations', { name })

  const beside = await verify({ DATA_DIR: dataDir })
  expect(beside).toMatchObject({ code: 0, stderr: '' })
  const head = /^The audit trail holds: 3 events\.\nHead: (3:[0-9a-f]{64})\n$/.exec(beside.stdout)?.[1] ?? ''
  expect(head).not.toBe('')
  expect(await answers(service.url, '/readyz', 200)()).toBe(true)
  expect((await api.post('/v2/organizations', { name: 'Four' })).status).toBe(201)

  expect(await service.stop()).toBe(0)
  expect(await postmasterPid(dataDir)).toBeUndefined()
  expect(await verify({ DATA_DIR: dataDir }, '--head', head)).toMatchObject({ code: 0 })
  expect(await postmasterPid(dataDir)).toBeUndefined()

  const embedded = await startEmbeddedPostgres({ dataDir })
  const superuser = postgres({ ...embedded.superuser, database: 'signet', max: 1, onnotice: () => {} })
  await superuser`alter table audit_events disable trigger user`
  const [row] = await superuser<{ id: string }[]>`
    update audit_events set target_id = 'org_another' where sequence = 2 returning id`
  await superuser.end()
  await embedded.stop()
  expect(await verify({ DATA_DIR: dataDir })).toMatchObject({
    code: 1,
    stdout: `The audit trail is broken at sequence 2 (${row?.id}): the row is not what was written.\n`,
  })
})

test('what cannot be verified is said, with 2; nothing is made and nothing migrated', {
  timeout: 60_000,
}, async () => {
  const [nothing, unmigrated] = [await processes.folder(), await processes.dataDir()]
  const [empty, early, wrong, noHead] = await Promise.all([
    verify({ DATA_DIR: nothing }),
    verify({ DATA_DIR: unmigrated }),
    verify({ DATABASE_URL: 'postgres://user:secret@', PORT: 'x' }),
    verify({ DATA_DIR: nothing }, '--head', '3'),
  ])
  for (const answer of [empty, early, wrong, noHead]) expect(answer).toMatchObject({ code: 2, stdout: '' })
  expect(empty.stderr).toBe('There is neither DATABASE_URL nor a database in DATA_DIR.\n')
  expect(await readdir(nothing)).toEqual([])

  expect(early.stderr).toBe('The database cannot be read: relation "audit_events" does not exist\n')
  const embedded = await startEmbeddedPostgres({ dataDir: unmigrated })
  const sql = postgres({ ...embedded.connection, max: 1, onnotice: () => {} })
  const tables =
    await sql`select 1 from pg_tables where schemaname not in ('pg_catalog', 'information_schema')`
  expect(tables).toHaveLength(0)
  await sql.end()
  await embedded.stop()

  expect(wrong.stderr).toMatch(/DATABASE_URL.*PORT/s)
  expect(wrong.stderr).not.toContain('secret')
  expect(noHead.stderr).toMatch(/^--head must be/)
})

test('a head is what was printed, and nothing else', () => {
  const hash = 'a1'.repeat(32)
  expect(parseHead(`12:${hash}`)).toEqual({ sequence: 12, hash })
  for (const text of [
    '',
    '12',
    `0:${hash}`,
    `-1:${hash}`,
    `12:${hash}0`,
    `12:${hash.slice(1)}`,
    ` 12:${hash}`,
    `12:${hash}\n`,
  ])
    expect(parseHead(text)).toBeUndefined()
})
