/** docs/oauth.md: its examples, as they stand there, do what it says. */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { decodeJwt, exportJWK, generateKeyPair } from 'jose'
import { afterAll, describe, expect, test } from 'vitest'
import { setUpAtOwnUrl } from '../interoperability/own-url.ts'
import { apiOfOperator } from '../support/management.ts'
import { type SeededClient, seedClient } from '../support/seed.ts'
import { DEFAULT_AUDIENCE } from '../support/service.ts'

const { database, service, issuers } = await setUpAtOwnUrl()
const run = promisify(execFile)
const hasCurl = await run('curl', ['--version']).then(
  () => true,
  () => false,
)
if (!hasCurl) console.warn('there is no curl: the examples of docs/oauth.md that need it are not run')

const guide = (await readFile(new URL('../../docs/oauth.md', import.meta.url), 'utf8')).replaceAll(
  'http://localhost:8787',
  service.url,
)
const blocks = (language: string) =>
  [...guide.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))].map(([, text = '']) => text)

/** The only block of that language that has all of these in it. */
function blockWith(language: string, ...parts: string[]): string {
  const found = blocks(language).filter((block) => parts.every((part) => block.includes(part)))
  expect(found, parts.join()).toHaveLength(1)
  return found[0] ?? ''
}

const folder = await mkdtemp(join(tmpdir(), 'signet-guide-'))
afterAll(() => rm(folder, { recursive: true, force: true }))
await symlink(fileURLToPath(new URL('../../node_modules', import.meta.url)), join(folder, 'node_modules'))

async function shell(block: string, environment: Record<string, string>): Promise<string> {
  const { stdout } = await run('bash', ['-c', block], { env: { ...process.env, ...environment } })
  return stdout
}
async function script(name: string, text: string, environment: Record<string, string>): Promise<string> {
  await writeFile(join(folder, name), text)
  const { stdout } = await run(process.execPath, [join(folder, name)], {
    env: { ...process.env, ...environment },
  })
  return stdout.trim()
}

const variables = ({ clientId, key }: SeededClient) => ({ CLIENT_ID: clientId, KEY: key })
async function tokenOf({ clientId, key }: SeededClient): Promise<string> {
  const response = await fetch(`${issuers.sandbox}/oauth2/token`, {
    method: 'POST',
    headers: { Authorization: `Basic ${btoa(`${clientId}:${key}`)}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  })
  return ((await response.json()) as { access_token: string }).access_token
}

describe.skipIf(!hasCurl)('with curl', () => {
  test('metadata', async () => {
    const answer = JSON.parse(await shell(blockWith('sh', '/.well-known/'), {}))
    expect(answer.issuer).toBe(issuers.sandbox)
  })

  test('client_credentials, by Basic and in the body', async () => {
    const client = await seedClient(database.sql)
    const basic = blockWith('sh', 'grant_type=client_credentials', "-d 'scope=")
    expect(JSON.parse(await shell(basic, variables(client)))).toMatchObject({
      token_type: 'Bearer',
      expires_in: 3600,
      scope: 'transactions:read person:write',
    })
    const post = blockWith('sh', 'client_secret=$KEY')
    expect(JSON.parse(await shell(post, variables(client)))).toMatchObject({ token_type: 'Bearer' })
  })

  test('a registered key, and an assertion made with it', async () => {
    const client = await seedClient(database.sql)
    const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true })
    const named = { kid: 'mine', alg: 'ES256' }
    const { token: TOKEN } = await apiOfOperator(service)
    const PUBLIC_JWK = JSON.stringify({ ...(await exportJWK(publicKey)), ...named })
    const register = blockWith('sh', '/jwks"')
    expect(JSON.parse(await shell(register, { ...variables(client), TOKEN, PUBLIC_JWK }))).toMatchObject({
      keys: [named],
    })
    const ASSERTION = await script('assertion.mjs', blockWith('js', 'SignJWT'), {
      CLIENT_ID: client.clientId,
      PRIVATE_JWK: JSON.stringify({ ...(await exportJWK(privateKey)), ...named }),
    })
    const ask = blockWith('sh', 'client_assertion=$ASSERTION')
    expect(JSON.parse(await shell(ask, { ASSERTION }))).toMatchObject({ token_type: 'Bearer' })
    expect(JSON.parse(await shell(ask, { ASSERTION }))).toMatchObject({ error: 'invalid_client' })
  })

  test('token exchange', async () => {
    const client = await seedClient(database.sql)
    const exchange = blockWith('sh', 'token-exchange')
    const answer = JSON.parse(await shell(exchange, { ...variables(client), TOKEN: await tokenOf(client) }))
    expect(answer).toMatchObject({ expires_in: 300, scope: 'transactions:read' })
    expect(answer.issued_token_type).toBe('urn:ietf:params:oauth:token-type:access_token')
    expect(decodeJwt(answer.access_token).act).toEqual({ iss: issuers.sandbox, sub: client.clientId })
  })

  test('introspection in both forms, then revocation', async () => {
    const client = await seedClient(database.sql)
    const all = { ...variables(client), TOKEN: await tokenOf(client) }
    const [asJson, asJwt] = blocks('sh').filter((block) => block.includes('/introspect'))
    const shown = JSON.parse(blocks('json').find((block) => block.includes('"active"')) ?? '')
    const answer = JSON.parse(await shell(asJson ?? '', all))
    expect(Object.keys(answer)).toEqual(Object.keys(shown))
    expect(answer.active).toBe(true)
    const jwt = decodeJwt(await shell(asJwt ?? '', all))
    expect(jwt).toMatchObject({ iss: issuers.sandbox, aud: client.clientId, token_introspection: answer })
    expect(await shell(blockWith('sh', '/revoke'), all)).toMatch(/^HTTP\/1.1 200 .*\r\n\r\n$/s)
    expect(await shell(asJson ?? '', all)).toBe('{"active":false}')
  })
})

test.each(['introspect', 'verify'])(
  'the gateway that is to %s lets good tokens pass, and no others',
  async (name) => {
    const client = await seedClient(database.sql)
    const token = await tokenOf(client)
    await writeFile(join(folder, `${name}.mjs`), blockWith('js', `export async function ${name}(`))
    const use = `import { ${name} } from './${name}.mjs'
    const attempt = (token) => ${name}(token).then((claims) => claims?.jti, () => undefined)
    const { TOKEN } = process.env
    const tokens = [TOKEN, TOKEN, 'x', TOKEN.slice(0, -8) + 'AAAAAAAA']
    console.log(JSON.stringify([...(await Promise.all(tokens.map(attempt))), await attempt(TOKEN)]))`
    const environment = {
      ...variables(client),
      TOKEN: token,
      ISSUER: issuers.sandbox,
      AUDIENCE: DEFAULT_AUDIENCE,
    }
    const { jti } = decodeJwt(token)
    expect(JSON.parse(await script(`use-${name}.mjs`, use, environment))).toEqual([jti, jti, null, null, jti])
    const elsewhere = { ...environment, AUDIENCE: 'https://other.test' }
    expect(JSON.parse(await script(`use-${name}.mjs`, use, elsewhere))).toEqual(Array(5).fill(null))
  },
)
