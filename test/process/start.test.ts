import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { createVerifier } from '#sdk'
import { mint, tokenOf } from '../support/mint.ts'
import {
  answers,
  claimsOf,
  createProcesses,
  mintable,
  postmasterPid,
  readBootstrapFile,
  readDemo,
  waitFor,
  withDatabase,
} from '../support/process.ts'

const processes = createProcesses()
afterEach(processes.cleanUp)
afterAll(processes.close)

const jwksOf = async (url: string) => (await fetch(`${url}/sandbox/.well-known/jwks.json`)).json()

async function run(command: string): Promise<{ code: number | undefined; output: string }> {
  const child = spawn('sh', ['-c', command], { stdio: ['ignore', 'pipe', 'ignore'] })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  const [code] = await once(child, 'close')
  return { code, output }
}

describe('a first start', () => {
  test('prints keys once, and a second start finds the data and prints none', async (context) => {
    const folder = await processes.folder()
    const dataDir = join(folder, 'data') // Not there yet.
    const bootstrapFile = join(folder, 'bootstrap.json')
    const environment = { DATA_DIR: dataDir, BOOTSTRAP_FILE: bootstrapFile }

    let began = performance.now()
    const first = await processes.start(environment)
    const firstMs = Math.round(performance.now() - began)
    await waitFor('the curl line', async () => first.stdout().includes('curl '))
    const { operator, demo } = await readBootstrapFile(bootstrapFile)
    if (!demo) throw new Error('no demo client')
    expect(first.stdout().split(operator.key)).toHaveLength(2)
    expect(first.stdout().split(demo.key)).toHaveLength(2)
    expect(first.stderr()).not.toContain('sgt_')
    const jwks = await jwksOf(first.url)

    const curlLine = first.stdout().match(/^ *(curl .*)$/m)?.[1] ?? ''
    if ((await run('command -v curl')).code === 0) {
      const { code, output } = await run(curlLine)
      expect(code).toBe(0)
      expect(claimsOf(JSON.parse(output).token)).toMatchObject({ organization_id: demo.organization_id })
    } else console.log('not run, because there is no curl: the curl line that was printed')

    const postmaster = await postmasterPid(dataDir)
    expect(postmaster).toBeDefined()
    expect(await first.stop()).toBe(0)
    expect(await postmasterPid(dataDir)).toBeUndefined()

    began = performance.now()
    const second = await processes.start(environment)
    const secondMs = Math.round(performance.now() - began)
    expect(await jwksOf(second.url)).toEqual(jwks)
    await tokenOf(await mint(second.url, mintable(demo)))
    expect(await second.stop()).toBe(0)
    const keyEncryptionKey = (await readFile(join(dataDir, 'key-encryption-key'), 'utf8')).trim()
    for (const secret of [operator.key, demo.key, keyEncryptionKey])
      expect(second.stdout() + second.stderr()).not.toContain(secret)
    expect(second.stdout()).not.toMatch(/sgt_|curl/)
    expect(first.stdout() + first.stderr()).not.toContain(keyEncryptionKey)
    console.log(`${context.task.name}: first start ${firstMs} ms, second ${secondMs} ms`)
  })

  test('writes BOOTSTRAP_FILE closed to others, in its shape, and only once', async () => {
    const dataDir = await processes.dataDir()
    const bootstrapFile = join(dataDir, '../bootstrap.json')
    await writeFile(bootstrapFile, 'what was there before', { mode: 0o644 })
    const environment = { DATA_DIR: dataDir, BOOTSTRAP_FILE: bootstrapFile, LOG_LEVEL: 'warn' }
    const first = await processes.start(environment)

    const text = await readFile(bootstrapFile, 'utf8')
    const client = (prefix: string) => ({
      organization_id: expect.stringMatching(/^org_[0-9a-z]{26}$/),
      client_id: expect.stringMatching(/^cli_[0-9a-z]{26}$/),
      key_id: expect.stringMatching(/^key_[0-9a-z]{26}$/),
      key: expect.stringMatching(new RegExp(`^sgt_${prefix}_[0-9A-Za-z]{50}$`)),
      scopes: expect.any(Array),
    })
    expect(JSON.parse(text)).toStrictEqual({
      issuer: first.issuer,
      operator: client('live'),
      demo: client('test'),
    })
    const { mode } = await stat(bootstrapFile)
    expect(mode & 0o777).toBe(0o600)
    expect((await readdir(join(dataDir, '..'))).sort()).toEqual(['bootstrap.json', 'data'])
    await first.stop()

    await writeFile(bootstrapFile, 'mine')
    await (await processes.start(environment)).stop()
    expect(await readFile(bootstrapFile, 'utf8')).toBe('mine')
  })

  test('that cannot write BOOTSTRAP_FILE makes no keys, and goes on once it can', async () => {
    const dataDir = await processes.dataDir()
    const missing = join(dataDir, '../missing')
    const service = await processes.spawn({
      DATA_DIR: dataDir,
      BOOTSTRAP_FILE: join(missing, 'bootstrap.json'),
    })
    await waitFor('the failure in the log', async () => service.stderr().includes('ENOENT'))
    expect(await answers(service.url, '/readyz', 503)()).toBe(true)
    expect(await withDatabase(dataDir, async (sql) => (await sql`select from keys`).count)).toBe(0)
    await mkdir(missing)
    await service.ready
    await tokenOf(await mint(service.url, await readDemo(join(missing, 'bootstrap.json'))))
  })

  test('that is asked to stop half-way hands over the keys that it made', async () => {
    const dataDir = await processes.dataDir()
    const service = await processes.spawn({ DATA_DIR: dataDir })
    await waitFor('/livez', answers(service.url, '/livez', 200))
    expect(await service.stop()).toBe(0)
    const made = await withDatabase(dataDir, async (sql) => {
      const [table] = await sql`select to_regclass('keys') as name`
      return table?.name ? (await sql`select from keys`).count : 0
    })
    expect(service.stdout().match(/sgt_(live|test)_\w+/g) ?? []).toHaveLength(made)
  })

  test('closes everything in DATA_DIR to others', async () => {
    const folder = await processes.folder()
    const dataDir = join(folder, 'data')
    await (await processes.start({ DATA_DIR: dataDir })).kill()
    const open: string[] = []
    for (const name of ['.', ...(await readdir(dataDir, { recursive: true }))]) {
      const { mode } = await stat(join(dataDir, name)).catch(() => ({ mode: 0 })) // PostgreSQL removes files.
      // In the cluster's own closed folder it is PostgreSQL's affair.
      if (!name.startsWith('postgres/') && (mode & 0o077) !== 0) open.push(`${name} ${mode.toString(8)}`)
    }
    expect(open).toEqual([])
  })
})

describe('a configuration with mistakes', () => {
  test('is refused with every mistake named, no value repeated, and nothing created', async () => {
    const dataDir = join(await processes.folder(), 'data')
    const wrong = {
      DATA_DIR: dataDir,
      DATABASE_URL: 'mysql://secret-a@host/db',
      PORT: '70000',
      WORKERS: '65',
      DRAIN_GRACE_SECONDS: 'secret-h',
      ISSUER: 'https://secret-b.example/path',
      SIGNING_ALGORITHM: 'HS256-secret-c',
      KEY_ENCRYPTION_KEY: 'secret-d',
      KEY_PREFIX: 'Secret-E',
      TRUSTED_PROXIES: 'secret-f',
      FAILED_AUTHENTICATIONS_PER_MINUTE: '0',
      LOG_LEVEL: 'secret-g',
    }
    const service = await processes.spawn(wrong)
    expect(await service.exited).toEqual({ code: 1, signal: null })
    const { DATA_DIR: _dataDir, ...mistakes } = wrong
    for (const name of Object.keys(mistakes)) expect(service.stderr()).toMatch(new RegExp(`^  ${name} `, 'm'))
    expect(service.stderr()).not.toMatch(/secret|70000|HS256/i)
    expect(service.stdout()).toBe('')
    await expect(access(dataDir)).rejects.toThrow('ENOENT')
  })
})

test('a port that is taken ends the start with an error, and leaves no PostgreSQL behind', async () => {
  const one = await processes.start({ DATA_DIR: await processes.dataDir() })
  const dataDir = await processes.dataDir()
  const other = await processes.spawn({ DATA_DIR: dataDir, PORT: String(one.port) })
  expect((await other.exited).code).toBe(1)
  expect(other.stderr()).toContain(`PORT ${one.port}: another program`)
  expect(await postmasterPid(dataDir)).toBeUndefined()
})

test('SIGNING_ALGORITHM says what signs tokens, and the SDK verifies them', async () => {
  const dataDir = await processes.dataDir()
  const bootstrapFile = join(dataDir, '../bootstrap.json')
  const service = await processes.start({
    DATA_DIR: dataDir,
    BOOTSTRAP_FILE: bootstrapFile,
    SIGNING_ALGORITHM: 'RS256',
  })
  const { token } = await tokenOf(await mint(service.url, await readDemo(bootstrapFile)))
  expect(JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString())).toMatchObject({
    alg: 'RS256',
  })
  const verifier = createVerifier({
    issuer: `${service.issuer}/sandbox`,
    audience: `${service.issuer}/api`,
  })
  expect(await verifier.verify(token)).toMatchObject({ environment: 'sandbox' })
})
