/**
 * The whole loop in one go (`npm run demo`): start Signet, exchange a key for a token, verify it offline with the
 * server stopped, revoke the key, and see the next exchange refused. Exits with 0 only if every step did what it should.
 */
import { deepStrictEqual, ok, rejects, strictEqual } from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import postgres from 'postgres'
import { createVerifier } from '#sdk'
import type { Bootstrapped } from '../src/bootstrap.ts'
import { startEmbeddedPostgres } from '../src/database/embedded.ts'

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url))
const PATIENCE_MS = 30_000

const folder = await mkdtemp(join(tmpdir(), 'signet-demo-'))
const dataDir = join(folder, 'data')
const bootstrapFile = join(folder, 'bootstrap.json')
const port = await findFreePort()
const url = `http://localhost:${port}`
let steps = 0
let server: ChildProcess | undefined
let serverLog = ''
let ending = false

const interrupted = Promise.withResolvers<never>()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => interrupted.reject(new Error('it was interrupted')))

try {
  await Promise.race([demonstrate(), interrupted.promise])
  await cleanUp()
  console.log('\nEvery step did what it should.')
} catch (error) {
  console.error(`\nThe demo failed: ${error instanceof Error ? error.message : error}\n${serverLog}`)
  await cleanUp()
  process.exit(1)
}

async function demonstrate(): Promise<void> {
  step('Start the server, with its own PostgreSQL, on an empty folder')
  const began = performance.now()
  await startServer()
  say(`ready at ${url} after ${((performance.now() - began) / 1000).toFixed(1)} s`)

  step('An organization, its client and the client’s key, as the first start made them')
  const { demo } = JSON.parse(await readFile(bootstrapFile, 'utf8')) as Bootstrapped
  ok(demo, 'the first start made no demo organization')
  say(`organization  ${demo.organization_id}`)
  say(`client        ${demo.client_id}, sandbox, may grant ${demo.scopes.length} scopes`)
  say(`key           ${demo.key}`)

  step('Exchange the key for a token')
  const wanted = { organization_id: demo.organization_id, scopes: ['transactions:read', 'person:write'] }
  say('POST /v2/auth/token')
  say(`Authorization: Bearer ${demo.key.slice(0, 15)}…`)
  const request = { expiry_seconds: 3600, scopes: wanted }
  show(request)
  const exchange = () => exchangeKey(demo.key, request)
  const exchanged = await exchange()
  strictEqual(exchanged.status, 200, `the exchange was answered with ${exchanged.status}`)
  const answer = (await exchanged.json()) as { token: string; scopes: object }
  deepStrictEqual(answer.scopes, wanted)
  say('→ 200')
  show({ ...answer, token: `${answer.token.slice(0, 12)}…` })
  say('The token’s claims:')
  const [header, payload = '', signature] = answer.token.split('.')
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString())
  show(claims)

  step('Stop the server, and verify the token offline')
  // What an API in front of its data does. It fetches the public keys ahead, once; see sdk/README.md.
  const verifier = createVerifier({ issuer: `${url}/sandbox`, audience: `${url}/api` })
  await verifier.preload()
  await stopServer()
  await rejects(fetch(`${url}/livez`), 'the stopped server still answers')
  say('the server is stopped, nothing listens any more')
  const requirements = { scopes: ['transactions:read'], organizationId: demo.organization_id }
  const verified = await verifier.verify(answer.token, requirements)
  strictEqual(verified.jti, claims.jti)
  say(`verified: ${verified.jti} may ${verified.scope} for ${verified.organization_id}`)
  const more = JSON.stringify({ ...claims, scope: `${claims.scope} accounts:write` })
  const forged = `${header}.${Buffer.from(more).toString('base64url')}.${signature}`
  await rejects(verifier.verify(forged), { code: 'signature_invalid' })
  say('the same token with accounts:write written into it: refused, signature_invalid')

  step('Start the server again: the key still works')
  await startServer()
  const again = await exchange()
  strictEqual(again.status, 200, `the exchange was answered with ${again.status}`)
  say('→ 200')

  step('Revoke the key')
  say('The API for this comes with the management API; until then it is what that will do inside:')
  await revokeKey(demo.key_id)

  step('The next exchange is refused')
  const refused = await exchange()
  strictEqual(refused.status, 401, `the exchange with a revoked key was answered with ${refused.status}`)
  const problem = (await refused.json()) as { error: { code: string } }
  strictEqual(problem.error.code, 'invalid_key')
  say(`→ 401 ${refused.headers.get('content-type')}`)
  show(problem)
  await stopServer()
}

function exchangeKey(key: string, body: object): Promise<Response> {
  return fetch(`${url}/v2/auth/token`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  })
}

async function revokeKey(keyId: string): Promise<void> {
  const statement = 'UPDATE keys SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL'
  say(`${statement}  -- ${keyId}`)
  const database = await startEmbeddedPostgres({ dataDir }) // Joins the one that the server runs.
  const sql = postgres({ ...database.connection, max: 1, connection: { 'signet.platform': 'on' } })
  try {
    const { count } = await sql.unsafe(statement, [keyId])
    strictEqual(count, 1, 'the key was not there to be revoked')
  } finally {
    await sql.end()
    await database.stop()
  }
}

async function startServer(): Promise<void> {
  if (ending) return
  const child = spawn(process.execPath, [MAIN], {
    // Nothing else of the environment: the demo must not touch a database that DATABASE_URL names.
    env: { DATA_DIR: dataDir, BOOTSTRAP_FILE: bootstrapFile, PORT: String(port), LOG_LEVEL: 'warn' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  server = child
  const ready = Promise.withResolvers<void>()
  const timer = setTimeout(() => ready.reject(new Error('the server did not become ready')), PATIENCE_MS)
  let printed = ''
  child.stdout.on('data', (chunk) => {
    printed += chunk
    if (printed.includes('Signet is ready')) ready.resolve()
  })
  child.stderr.on('data', (chunk) => {
    serverLog += chunk
  })
  child.once('exit', (code) => ready.reject(new Error(`the server ended with exit code ${code}`)))
  await ready.promise.finally(() => clearTimeout(timer))
}

async function stopServer(): Promise<void> {
  const child = server
  if (!child || child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS)
  const [code] = await once(child, 'exit')
  clearTimeout(timer)
  strictEqual(code, 0, `the server ended with exit code ${code}`)
}

async function cleanUp(): Promise<void> {
  ending = true
  await stopServer().catch((error) => console.error(String(error)))
  // A server that was killed leaves its PostgreSQL behind: join it, and be the last to leave.
  if (existsSync(join(dataDir, 'postgres/postmaster.pid')))
    await (await startEmbeddedPostgres({ dataDir })).stop()
  await rm(folder, { recursive: true, force: true })
}

async function findFreePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  return typeof address === 'object' && address ? address.port : 8787
}

function step(title: string): void {
  steps += 1
  console.log(`\n${steps}. ${title}`)
}

function say(text: string): void {
  console.log(text.replace(/^/gm, '   '))
}

function show(value: object): void {
  say(JSON.stringify(value, undefined, 2))
}
