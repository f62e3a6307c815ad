/**
 * `npm run measure -- revocation`: how long a revocation takes, from its 200 on one instance to the refusal by verifiers
 * that follow the feed of another one. Two servers of its own; 200 single tokens, one after the other, and the
 * verifiers with the settings that are the product's own. Takes two and a half minutes. Exits with 1 when one took
 * longer than the feed's ttl.
 */
import { strictEqual } from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import { createVerifier, type Verifier } from '#sdk'
import { startEmbeddedPostgres } from '../../src/database/embedded.ts'
import { FEED_TTL_SECONDS } from '../../src/tokens/revocation-feed.ts'
import { withThrowawayServer } from '../throwaway-server.ts'
import { codeOf } from '../verdict.ts'

const REVOCATIONS = 200
/** So that each finds every verifier at another moment between two fetches. */
const SPREAD_MS = 130_000
const VERIFIERS = 4
/** Between two looks at whether a token is refused: what the times may be too long by. */
const LOOK_MS = 50

await withThrowawayServer(async (server) => {
  await server.start()
  const other = await server.startAnother()
  const { operator, demo } = await server.bootstrapped()
  if (!demo) throw new Error('the first start made no demo organization')
  const embedded = await startEmbeddedPostgres({ dataDir: server.dataDir })
  const sql = postgres({ ...embedded.connection, max: 1, connection: { 'signet.platform': 'on' } })
  await sql`update clients set rate_limit_per_minute = 100000 where id = ${demo.client_id}`
  await sql.end()
  await embedded.stop()

  async function exchange(key: string, organizationId: string, scopes: string[]): Promise<string> {
    const response = await fetch(`${server.url}/v2/auth/token`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
      body: JSON.stringify({ scopes: { organization_id: organizationId, scopes } }),
    })
    strictEqual(response.status, 200, `the exchange was answered with ${response.status}`)
    return ((await response.json()) as { token: string }).token
  }
  const management = await exchange(operator.key, operator.organization_id, ['signet:tokens:revoke'])
  const tokens: string[] = []
  for (let i = 0; i < REVOCATIONS; i++)
    tokens.push(await exchange(demo.key, demo.organization_id, ['transactions:read']))

  const verifiers = Array.from({ length: VERIFIERS }, () =>
    createVerifier({
      issuer: `${server.url}/sandbox`,
      audience: `${server.url}/api`,
      jwksUri: `${other.url}/sandbox/.well-known/jwks.json`,
      revocations: { maxStaleness: 60, uri: `${other.url}/sandbox/oauth2/revocations` },
    }),
  )
  await Promise.all(verifiers.map((verifier) => verifier.preload()))
  console.log(
    `${REVOCATIONS} revocations on ${server.url}, ${VERIFIERS} verifiers with the feed of ${other.url}`,
  )

  const times: number[] = []
  const watching: Promise<void>[] = []
  for (const token of tokens) {
    for (const verifier of verifiers)
      strictEqual(await codeOf(verifier, token), undefined, 'a token was refused before it was revoked')
    const jti = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()).jti
    const response = await fetch(`${server.url}/v2/tokens/${jti}/revoke`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${management}` },
    })
    const answered = performance.now()
    await response.text()
    strictEqual(response.status, 200, `a revocation was answered with ${response.status}`)
    for (const verifier of verifiers)
      watching.push(
        untilRefused(verifier, token, answered).then((milliseconds) => void times.push(milliseconds)),
      )
    await sleep((2 * SPREAD_MS * Math.random()) / REVOCATIONS)
  }
  await Promise.all(watching)
  for (const verifier of verifiers) verifier.close()

  times.sort((a, b) => a - b)
  const at = (share: number) => seconds(times[Math.ceil(share * times.length) - 1] ?? Number.NaN)
  console.log(`${times.length} refusals; from the 200 to the refusal:`)
  console.log(`p50 ${at(0.5)} s, p99 ${at(0.99)} s, max ${at(1)} s (ttl ${FEED_TTL_SECONDS} s)`)
  if (!((times.at(-1) ?? Number.NaN) <= FEED_TTL_SECONDS * 1000))
    throw new Error('one took longer than the ttl')
})

async function untilRefused(verifier: Verifier, token: string, since: number): Promise<number> {
  for (;;) {
    const code = await codeOf(verifier, token)
    const passed = performance.now() - since
    if (code === 'revoked') return passed
    if (code !== undefined) throw new Error(`a token was refused for another reason: ${code}`)
    if (passed > 4 * FEED_TTL_SECONDS * 1000) throw new Error('a revoked token is still accepted')
    await sleep(LOOK_MS)
  }
}

function seconds(milliseconds: number): string {
  return (milliseconds / 1000).toFixed(2)
}
