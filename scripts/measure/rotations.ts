/**
 * `npm run measure -- rotations [--rotations 100]`: tokens that do not verify across rotations of a signing key, under
 * load. Two servers of its own, clients that mint on both all along, and in each rotation the whole life of a key: it is
 * published (both servers are asked at once), signs 20 minutes later, retires, and is removed 25 hours after that. So
 * that this ends today, the keys' timestamps are aged in the database between these moments; each change itself (the
 * first signature, the removal) happens by the clock, while tokens are minted. Every token is then verified with the
 * SDK, by every key set that either server published from 970 s before the token was minted (what a verifier may keep
 * one for: 300 s of max-age, 60 s of stale-while-revalidate, 600 s of its own) to the moment it expires, a day later. A
 * rotation takes about two seconds. Exits with 1 when a token does not verify, or a request to mint is refused for good.
 */
import { strictEqual } from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import postgres from 'postgres'
import { createVerifier, type JwkSet, type Verifier } from '#sdk'
import { startEmbeddedPostgres } from '../../src/database/embedded.ts'
import { PUBLISHED_AFTER_SECONDS, PUBLISHED_AHEAD_SECONDS } from '../../src/signing/rotation.ts'
import { withThrowawayServer } from '../throwaway-server.ts'
import { codeOf } from '../verdict.ts'

const { values } = parseArgs({ options: { rotations: { type: 'string', default: '100' } } })
const ROTATIONS = Number(values.rotations)
if (!Number.isInteger(ROTATIONS) || ROTATIONS < 1) throw new Error('--rotations takes a whole number')

const LIFE = 86_400
const CACHED = 970
const CLIENTS_PER_SERVER = 2
/** Between a client's answer and its next request. */
const PAUSE_MS = 10

type Minted = { token: string; kid: string; from: number; to: number }
/** A set that was published from one moment to another, without another one seen in between. */
type Published = { kids: string; from: number; to: number; verifier: Verifier }

await withThrowawayServer(async (server) => {
  await server.start()
  const urls = [server.url, (await server.startAnother()).url]
  const { operator, demo } = await server.bootstrapped()
  if (!demo) throw new Error('the first start made no demo organization')
  const { client_id, key, organization_id } = demo
  const embedded = await startEmbeddedPostgres({ dataDir: server.dataDir })
  const sql = postgres({ ...embedded.connection, max: 1, connection: { 'signet.platform': 'on' } })
  await sql`update clients set rate_limit_per_minute = 10000000 where id = ${client_id}`

  /** Seconds that have passed for the keys and not for us. */
  let skipped = 0
  const now = () => Date.now() / 1000 + skipped

  async function exchange(url: string, ofKey: string, organization: string, scopes: string[]) {
    const response = await fetch(`${url}/v2/auth/token`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${ofKey}`, 'Content-Type': 'application/json' },
      body: JSON.stringify({
        expiry_seconds: LIFE,
        scopes: { organization_id: organization, scopes },
      }),
    })
    if (response.status === 503 && response.headers.has('retry-after')) {
      await response.text()
      return undefined
    }
    if (response.status !== 200)
      throw new Error(`a token was refused: ${response.status} ${await response.text()}`)
    return ((await response.json()) as { token: string }).token
  }

  const minted: Minted[] = []
  let unavailable = 0
  async function mint(url: string): Promise<void> {
    const from = now()
    const token = await exchange(url, key, organization_id, ['transactions:read'])
    if (token === undefined) {
      // A busy machine. Whoever gets that asks again.
      unavailable++
      return mint(url)
    }
    const { kid } = JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString())
    minted.push({ token, kid, from, to: now() })
  }

  const verifiers = new Map<string, Verifier>()
  function verifierOf(kids: string, set: JwkSet): Verifier {
    const known = verifiers.get(kids)
    if (known) return known
    const made = createVerifier({
      issuer: `${server.url}/sandbox`,
      audience: `${server.url}/api`,
      jwks: () => set,
    })
    verifiers.set(kids, made)
    return made
  }
  const published: Published[][] = urls.map(() => [])
  async function look(i: number): Promise<string[]> {
    const from = now()
    const set = (await (await fetch(`${urls[i]}/sandbox/.well-known/jwks.json`)).json()) as JwkSet
    const kids = set.keys.map((each) => String((each as { kid?: string }).kid)).sort()
    const name = kids.join()
    const last = published[i]?.at(-1)
    if (last?.kids === name) last.to = now()
    else published[i]?.push({ kids: name, from, to: now(), verifier: verifierOf(name, set) })
    return kids
  }
  const lookAtBoth = () => Promise.all(urls.map((_, i) => look(i)))

  /** When each client began its present request. */
  const asking = new Map<number, number>()
  /**
   * Whoever mints finds the rows changed and has its server read them again; from then on the server goes by its clock
   * alone. A request that one change after the other is made under gives up: in life they are minutes apart.
   */
  async function untilNoticed(): Promise<void> {
    const since = performance.now()
    while ([...asking.values()].some((began) => began <= since)) await sleep(2)
    await Promise.all(urls.map(mint))
  }

  /** Until the moment of the keys' own time, to the last fractions of a second, which pass by themselves. */
  async function skipTo(moment: number): Promise<void> {
    const seconds = moment - now()
    await sql.begin(async (transaction) => {
      // The lock of all who plan the life of keys (signing/store.ts): for those, whoever mints waits.
      await transaction`select pg_advisory_xact_lock(x'73676e74'::integer, 2049)`
      await transaction`update signing_keys set published_at = published_at - ${seconds} * interval '1 s',
        activates_at = activates_at - ${seconds} * interval '1 s',
        retires_at = retires_at - ${seconds} * interval '1 s',
        removes_at = removes_at - ${seconds} * interval '1 s' where environment = 'sandbox'`
    })
    skipped += seconds
    await untilNoticed()
    await lookAtBoth()
  }
  async function lookFor(seconds: number): Promise<void> {
    const end = now() + seconds
    while (now() < end) {
      await lookAtBoth()
      await sleep(20)
    }
  }

  let verified = 0
  let verifications = 0
  const failures: string[] = []
  /** Those that have expired, by the keys' time: no later set concerns them. */
  async function verifyExpired(all = false): Promise<void> {
    const keep: Minted[] = []
    for (const each of minted.splice(0)) {
      if (!all && each.to + LIFE > now()) {
        keep.push(each)
        continue
      }
      const sets = published
        .flat()
        .filter(({ from, to }) => to >= each.from - CACHED && from <= each.to + LIFE)
      for (const verifier of new Set(sets.map((set) => set.verifier))) {
        verifications++
        const code = await codeOf(verifier, each.token)
        if (code !== undefined) failures.push(`${each.kid}: ${code}`)
      }
      verified++
    }
    minted.unshift(...keep)
    // Sets that are older than any token that is left may be forgotten.
    const oldest = Math.min(now(), ...keep.map(({ from }) => from)) - CACHED
    for (const ofServer of published)
      ofServer.splice(
        0,
        ofServer.findIndex(({ to }) => to >= oldest),
      )
  }

  const management = await exchange(server.url, operator.key, operator.organization_id, [
    'signet:signing_keys:write',
  ])
  const rotate = async (url: string) => {
    const response = await fetch(`${url}/v2/signing-keys/rotate`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${management}`, 'Content-Type': 'application/json' },
      body: JSON.stringify({ environment: 'sandbox' }),
    })
    const body = (await response.json()) as { kid: string; activates_at: string }
    return { status: response.status, body }
  }

  let stopped = false
  let refusal: unknown
  const clients = urls.flatMap((url, i) =>
    Array.from({ length: CLIENTS_PER_SERVER }, async (_, j) => {
      while (!stopped && refusal === undefined) {
        asking.set(i * CLIENTS_PER_SERVER + j, performance.now())
        await mint(url).catch((error) => {
          refusal = error
        })
        await sleep(PAUSE_MS)
      }
      asking.clear()
    }),
  )

  const began = performance.now()
  for (let n = 1; n <= ROTATIONS; n++) {
    const answers = await Promise.all(urls.map(rotate))
    strictEqual(
      answers
        .map(({ status }) => status)
        .sort()
        .join(),
      '201,409',
      'one of two rotates',
    )
    await untilNoticed()
    const next = answers.find(({ status }) => status === 201)?.body.kid ?? ''
    const [row] = await sql<{ at: string; kid: string }[]>`
      select extract(epoch from retires_at)::text as at, kid from signing_keys
      where environment = 'sandbox' and retires_at > now()`
    if (!row) throw new Error('no key is to retire')
    const activates = Number(row.at) + skipped
    const removes = activates + PUBLISHED_AFTER_SECONDS
    strictEqual(Math.round(activates - now()) <= PUBLISHED_AHEAD_SECONDS, true)

    await skipTo(activates - CACHED + 5)
    await skipTo(activates - 0.3)
    await lookFor(0.6)
    await skipTo(activates + LIFE - 1)
    await skipTo(removes - 0.15)
    await lookFor(0.3)
    const kids = (await lookAtBoth()).map((each) => each.join())
    strictEqual(kids.join(' '), `${next} ${next}`, 'the key that was removed is gone, the next one is alone')
    await verifyExpired()
    if (refusal !== undefined) throw refusal
    if (n % 50 === 0 || n === ROTATIONS)
      console.log(`${n} rotations, ${verified} tokens of ended lives verified, ${failures.length} failures`)
  }
  stopped = true
  await Promise.all(clients)
  if (refusal !== undefined) throw refusal
  await verifyExpired(true)
  const [keys] = await sql`select count(*)::int as n from signing_keys where environment = 'sandbox'`
  strictEqual(keys?.n, ROTATIONS + 1, 'one new key for each rotation')
  await sql.end()
  await embedded.stop()
  const seconds = Math.round((performance.now() - began) / 1000)
  console.log(
    `${ROTATIONS} rotations in ${seconds} s, ${urls.length * CLIENTS_PER_SERVER} clients on ${urls.length} servers: ` +
      `${verified} tokens, ${verifications} verifications, ${failures.length} that failed; ${unavailable} requests asked for again after a 503`,
  )
  if (failures.length > 0) throw new Error(failures.slice(0, 10).join('\n'))
})
