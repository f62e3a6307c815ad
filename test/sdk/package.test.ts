import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AUDIENCE, createSigningKey, jwksBody, mint, NOW, startServer } from './issuer.ts'

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')
const sdk = join(root, 'sdk')
let folder: string
let unpacked: string

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'signet-sdk-')))
  // As a consumer has it: the tarball and its dependency, nothing of this repository above them. This very Node
  // comes first, so that the scripts do not run on whichever one the machine has.
  const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` }
  // Packed in a copy, so that the checkout's own sdk/dist stays as it is and test runs do not meet there.
  const copy = join(folder, 'checkout/sdk')
  await cp(sdk, copy, { recursive: true, filter: (path) => !/[/\\](?:dist|node_modules)$/.test(path) })
  await cp(join(root, 'tsconfig.json'), join(folder, 'checkout/tsconfig.json'))
  await symlink(join(root, 'node_modules'), join(folder, 'checkout/node_modules'))
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: copy, env })
  // The name is read from the folder: what `npm pack --json` prints differs between versions of npm.
  expect(stdout).toContain('signet-sdk')
  const tarball = (await readdir(folder)).find((name) => name.endsWith('.tgz')) ?? ''
  unpacked = join(folder, 'node_modules/signet-sdk')
  await mkdir(unpacked, { recursive: true })
  await run('tar', ['-xzf', join(folder, tarball), '--strip-components=1', '-C', unpacked])
  await symlink(join(root, 'node_modules/jose'), join(folder, 'node_modules/jose'))
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
})
afterAll(() => rm(folder, { recursive: true, force: true }))

describe('the packed SDK', () => {
  it('verifies a token as plain JavaScript', async () => {
    const key = await createSigningKey('k1')
    const server = await startServer(() => jwksBody([key]))
    await writeFile(
      join(folder, 'consumer.js'),
      `import { createVerifier } from 'signet-sdk'
       const [issuer, good, bad] = process.argv.slice(2)
       const verifier = createVerifier({ issuer, audience: '${AUDIENCE}', now: () => ${NOW * 1000} })
       const { organization_id } = await verifier.verify(good, { scopes: ['person:write'] })
       const { name, code } = await verifier.verify(bad).catch((error) => error)
       console.log(JSON.stringify({ organization_id, name, code }))`,
    )
    const good = await mint(key, { iss: server.origin })
    const bad = await mint(key, { iss: server.origin, exp: 1 })
    const flags = ['--no-strip-types', join(folder, 'consumer.js'), server.origin, good, bad]
    const { stdout } = await run(process.execPath, flags, { cwd: folder })
    expect(JSON.parse(stdout)).toEqual({
      organization_id: 'org_1',
      name: 'VerificationError',
      code: 'expired',
    })
    await server.close()
  })

  it('does in the examples of its README what they say', async () => {
    const key = await createSigningKey('k1')
    const server = await startServer(() => jwksBody([key]))
    await symlink(join(root, 'node_modules/hono'), join(folder, 'node_modules/hono'))
    const readme = await readFile(join(sdk, 'README.md'), 'utf8')
    const examples = [...readme.matchAll(/```ts\n(.*?)```/gs)].map((match) => match[1] ?? '')
    const find = (text: string) => examples.find((example) => example.includes(text)) ?? ''
    const local = (text: string) => find(text).replaceAll('https://signet.example', server.origin)
    await writeFile(join(folder, 'fetch.ts'), local('function handle'))
    await writeFile(join(folder, 'hono.ts'), local("from 'hono'"))
    await writeFile(
      join(folder, 'requests.ts'),
      `import { handle } from './fetch.ts'
       import { app } from './hono.ts'
       const results: unknown[] = []
       for (const serve of [handle, (request: Request) => app.fetch(request)]) {
         for (const authorization of process.argv.slice(2)) {
           const headers = authorization === '' ? {} : { authorization }
           const response = await serve(new Request('http://localhost/transactions', { headers }))
           results.push([response.status, response.headers.get('www-authenticate'), await response.text()])
         }
       }
       console.log(JSON.stringify(results))`,
    )
    const now = Math.floor(Date.now() / 1000)
    const valid = { iss: server.origin, iat: now, exp: now + 300 }
    const authorizations = [
      `bearer ${await mint(key, valid)}`,
      '',
      'Basic eDp5',
      `Bearer ${await mint(key, { ...valid, exp: now - 10 })}`,
      `Bearer ${await mint(key, { ...valid, scope: 'person:write' })}`,
    ]
    const { stdout } = await run(process.execPath, [join(folder, 'requests.ts'), ...authorizations])
    const expected = [
      [200, null, '{"organization":"org_1"}'],
      [401, 'Bearer', ''],
      [401, 'Bearer', ''],
      [401, expect.stringContaining('error="invalid_token"'), '{"code":"expired"}'],
      [403, expect.stringContaining('scope="transactions:read"'), '{"code":"insufficient_scope"}'],
    ]
    expect(JSON.parse(stdout)).toEqual([...expected, ...expected])
    await server.close()
  })

  it('has type declarations that type-check in strict code, and refuse what they should', async () => {
    expect(await readFile(join(unpacked, 'dist/index.d.ts'), 'utf8')).toContain('createVerifier')
    await writeFile(
      join(folder, 'consumer.ts'),
      `import { type AccessToken, createVerifier, VerificationError, type VerificationErrorCode } from 'signet-sdk'
       const verifier = createVerifier({ issuer: 'https://a', audience: ['b'], algorithms: ['ES256'] })
       const token: AccessToken = await verifier.verify('x', { scopes: ['a'], organizationId: 'o' })
       export const organization: string = token.organization_id
       export const code: VerificationErrorCode = new VerificationError('expired').code
       // @ts-expect-error frozen
       token.scope = 'x'
       // @ts-expect-error audience is required
       createVerifier({ issuer: 'https://a' })
       // @ts-expect-error no HMAC
       createVerifier({ issuer: 'https://a', audience: 'b', algorithms: ['HS256'] })`,
    )
    const flags = [
      '--noEmit',
      '--strict',
      '--module',
      'nodenext',
      '--target',
      'es2022',
      '--lib',
      'es2022,dom',
    ]
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    const result = await run(process.execPath, [tsc, ...flags, 'consumer.ts'], { cwd: folder }).catch(
      (error) => error,
    )
    expect(result).toEqual({ stdout: '', stderr: '' })
  })

  it('holds what it needs and nothing else', async () => {
    expect((await readdir(unpacked)).sort()).toEqual(['LICENSE', 'README.md', 'dist', 'package.json'])
    const sources = (await readdir(join(sdk, 'src'))).map((name) => name.replace(/\.ts$/, ''))
    const expected = sources.flatMap((name) => [`${name}.d.ts`, `${name}.js`])
    expect((await readdir(join(unpacked, 'dist'))).sort()).toEqual(expected.sort())
    const manifest = JSON.parse(await readFile(join(unpacked, 'package.json'), 'utf8'))
    expect(Object.keys(manifest.dependencies)).toEqual(['jose'])
  })

  it('uses nothing that only Node has, and imports jose and itself alone', async () => {
    for (const name of await readdir(join(unpacked, 'dist'))) {
      const code = await readFile(join(unpacked, 'dist', name), 'utf8')
      const imports = [...code.matchAll(/\bfrom '([^']+)'|\bimport\(?'([^']+)'/g)].map(
        (match) => match[1] ?? match[2],
      )
      for (const specifier of imports) expect(specifier).toMatch(/^(?:jose|\.\/[a-z-]+\.(?:js|ts))$/)
      expect(code).not.toMatch(/\b(?:Buffer|process|require|__dirname)\b[.(]/)
    }
  })
})
