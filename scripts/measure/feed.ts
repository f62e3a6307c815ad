/**
 * `npm run measure -- feed`: the revocation feed with 100 000 revoked tokens, on a server of its own: what it costs the
 * database to look whether something has changed, the server to make the feed, and a verifier to take it in. Prints
 * milliseconds (medians), bytes and megabytes. Exits with 1 when a listed token is accepted, or one that is not refused.
 */
import { strictEqual } from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import { createVerifier, type Verifier } from '#sdk'
import { DEFAULT_ALGORITHMS } from '#sdk/algorithms'
import { REVOCATION_FEED } from '#sdk/compact-jws'
import { createLocalKeySource } from '#sdk/key-source'
import { parseRevocations } from '#sdk/revocations'
import { readSignedJwt } from '#sdk/signed-jwt'
import { connectAsPlatform } from '../../src/database/database.ts'
import { startEmbeddedPostgres } from '../../src/database/embedded.ts'
import { newJti } from '../../src/ids.ts'
import { keepKeyEncryptionKey } from '../../src/signing/key-file.ts'
import { createSealing } from '../../src/signing/sealing.ts'
import { createSigner } from '../../src/signing/signer.ts'
import { createSigningKeyStore } from '../../src/signing/store.ts'
import { buildRevoked } from '../../src/tokens/feed-format.ts'
import { FEED_SETTINGS } from '../../src/tokens/revocation-feed.ts'
import { createRevocationFeedStore } from '../../src/tokens/store.ts'
import { withThrowawayServer } from '../throwaway-server.ts'
import { codeOf } from '../verdict.ts'

const REVOKED = 100_000
const ROUNDS = 9
/** Verifications, of which one's time is the mean. */
const LOOKS = 500

await withThrowawayServer(async (server) => {
  await server.start()
  const { demo } = await server.bootstrapped()
  if (!demo) throw new Error('the first start made no demo organization')
  const { url, dataDir } = server
  const embedded = await startEmbeddedPostgres({ dataDir })
  const sql = postgres({ ...embedded.connection, max: 1, connection: { 'signet.platform': 'on' } })

  const exchange = async () => {
    const response = await fetch(`${url}/v2/auth/token`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${demo.key}`, 'Content-Type': 'application/json' },
      body: JSON.stringify({
        scopes: { organization_id: demo.organization_id, scopes: ['transactions:read'] },
      }),
    })
    strictEqual(response.status, 200, `the exchange was answered with ${response.status}`)
    return ((await response.json()) as { token: string }).token
  }
  const [good, bad] = [await exchange(), await exchange()]
  const badJti = JSON.parse(Buffer.from(bad.split('.')[1] ?? '', 'base64url').toString()).jti
  const jtis = [badJti, ...Array.from({ length: REVOKED - 1 }, () => newJti())]
  for (let done = 0; done < REVOKED; done += 10_000)
    await sql`
      insert into revoked_tokens (jti, organization_id, client_id, environment, expires_at)
      select jti, ${demo.organization_id}, ${demo.client_id}, 'sandbox', now() + interval '1 day'
      from jsonb_array_elements_text(${sql.json(jtis.slice(done, done + 10_000))}) as jti`
  await sql`analyze revoked_tokens`
  const inserted = performance.now()
  // Each takes some 44 characters.
  while ((await feedOf(url)).length < 43 * REVOKED) await sleep(50)
  console.log(`${REVOKED} revoked tokens`)
  console.log(`in the running server’s feed after          ${ms(performance.now() - inserted)}`)

  // Before anything else here has the feed.
  const verifiers: Verifier[] = []
  const follow = async () => {
    const verifier = createVerifier({
      issuer: `${url}/sandbox`,
      audience: `${url}/api`,
      revocations: { maxStaleness: 60 },
    })
    verifiers.push(verifier)
    await verifier.preload()
  }
  const before = memory()
  await follow()
  const held = (memory() - before).toFixed(1)

  // What the server does, step by step, by its own code and on a connection of the same kind.
  const database = connectAsPlatform(embedded.connection, {
    max: 1,
    statementTimeoutMilliseconds: 5_000,
    settings: FEED_SETTINGS,
  })
  const store = createRevocationFeedStore(database)
  const signer = createSigner({
    store: createSigningKeyStore(database),
    sealing: createSealing([await keepKeyEncryptionKey(dataDir)]),
    now: Date.now,
  })
  await signer.load()
  const rows = await store.findRevoked('sandbox')
  const revoked = buildRevoked(rows)
  console.log(`looking whether something has changed       ${await median(() => store.findDigest())}`)
  console.log(
    `reading                                     ${await median(() => store.findRevoked('sandbox'))}`,
  )
  console.log(`building                                    ${await median(async () => buildRevoked(rows))}`)
  console.log(
    `signing                                     ${await median(() => signer.sign('sandbox', { revoked }, 'revocations+jwt'))}`,
  )

  const jwt = await feedOf(url)
  console.log(`size                                        ${jwt.length} bytes`)
  const set = signer.jwks('sandbox')?.set ?? { keys: [] }
  const algorithms = new Set(DEFAULT_ALGORITHMS)
  const by = { algorithms, keySource: createLocalKeySource(set, algorithms) }
  const payload = await readSignedJwt(jwt, REVOCATION_FEED, by)
  console.log(`SDK: fetching alone                         ${await median(() => feedOf(url))}`)
  console.log(
    `SDK: verifying the signature and the form   ${await median(() => readSignedJwt(jwt, REVOCATION_FEED, by))}`,
  )
  console.log(
    `SDK: taking it in                           ${await median(async () => parseRevocations(payload, `${url}/sandbox`))}`,
  )

  console.log(`SDK: a verifier, from nothing to ready      ${await median(follow)}`)
  console.log(`SDK: heap that one holds                    ${held} MB`)
  const [verifier] = verifiers
  if (!verifier) throw new Error('there is no verifier')
  strictEqual(await codeOf(verifier, bad), 'revoked')
  strictEqual(await codeOf(verifier, good), undefined)
  for (const other of verifiers.slice(1)) other.close()
  const plain = createVerifier({ issuer: `${url}/sandbox`, audience: `${url}/api` })
  const times = { with: [] as number[], without: [] as number[] }
  for (let round = 0; round < ROUNDS; round++)
    for (const [name, each] of [
      ['with', verifier],
      ['without', plain],
    ] as const) {
      const began = performance.now()
      for (let look = 0; look < LOOKS; look++) await each.verify(good)
      times[name].push((performance.now() - began) / LOOKS)
    }
  console.log(`SDK: one verification, with the feed        ${ms(middle(times.with))}`)
  console.log(`SDK: one verification, without one          ${ms(middle(times.without))}`)
  verifier.close()

  await database.$client.end()
  await sql.end()
  await embedded.stop()
})

async function feedOf(url: string): Promise<string> {
  return await (await fetch(`${url}/sandbox/oauth2/revocations`)).text()
}

async function median(work: () => Promise<unknown>): Promise<string> {
  const times: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const began = performance.now()
    await work()
    times.push(performance.now() - began)
  }
  return ms(middle(times))
}

function middle(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? Number.NaN
}

function ms(milliseconds: number): string {
  return `${milliseconds.toFixed(milliseconds < 10 ? 2 : 0)} ms`
}

/** Megabytes that are in use after a collection, where there may be one. */
function memory(): number {
  globalThis.gc?.()
  return process.memoryUsage().heapUsed / 2 ** 20
}
