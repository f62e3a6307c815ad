import { afterEach, beforeAll, beforeEach, describe, expect, it, type MockInstance, vi } from 'vitest'
import { type RevocationOptions, VerificationError, type Verifier } from '#sdk'
import {
  AUDIENCE,
  createSigningKey,
  header,
  ISSUER,
  type Json,
  mint,
  NOW,
  outcome,
  type SigningKey,
  signText,
  verifierFor,
} from './issuer.ts'

const NOTHING = { jti: [], key_id: {}, client_id: {}, organization_id: {}, kid: {}, delegation: [] }
/** The pauses that are none between two fetches: how long a fetch may take, and when it counts as abandoned. */
const LIMITS = [5_000, 10_050]

let k1: SigningKey
let k2: SigningKey
let attacker: SigningKey
/** What the issuer answers; it may hang. */
let answer: () => Response | Promise<Response>
let requests: { url: string; etag: string | undefined }[]
let clock: number
let opened: Verifier[]
let timeouts: MockInstance<typeof setTimeout>

beforeAll(async () => {
  k1 = await createSigningKey('k1')
  k2 = await createSigningKey('k2')
  attacker = await createSigningKey('k1')
})
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  timeouts = vi.spyOn(globalThis, 'setTimeout')
  requests = []
  opened = []
  clock = NOW * 1000
})
afterEach(() => {
  for (const verifier of opened) verifier.close()
  vi.useRealTimers()
  vi.restoreAllMocks()
})

const feed = (
  revoked: Json = {},
  { key = k1, claims = {}, head = {} }: { key?: SigningKey; claims?: Json; head?: Json } = {},
) =>
  signText(
    key,
    JSON.stringify(header(key, { typ: 'revocations+jwt', ...head })),
    JSON.stringify({
      iss: ISSUER,
      iat: NOW - 60,
      exp: NOW + 3540,
      ttl: 30,
      revoked: { ...NOTHING, ...revoked },
      ...claims,
    }),
  )

const reply = (body: string, headers: Record<string, string> = {}, status = 200) =>
  new Response(status === 304 ? null : body, { status, headers: { Age: '0', ...headers } })

const fetchFeed = async (url: string, init: RequestInit) => {
  requests.push({ url, etag: new Headers(init.headers).get('if-none-match') ?? undefined })
  return answer()
}

function follow(revocations: Partial<RevocationOptions> = {}, keys = [k1, k2]): Verifier {
  const verifier = verifierFor(keys, {
    revocations: { maxStaleness: 60, ...revocations },
    fetch: fetchFeed,
    now: () => clock,
  })
  opened.push(verifier)
  return verifier
}

/** In real time: what waits for signatures is not moved by the fake clock. */
async function until(condition: () => boolean): Promise<void> {
  const ends = process.hrtime.bigint() + 5_000_000_000n
  while (!condition()) {
    if (process.hrtime.bigint() > ends) throw new Error('it never came')
    await new Promise((resolve) => setImmediate(resolve))
  }
}
const pauseMs = () => timeouts.mock.lastCall?.[1] as number
/** Until the fetch that has begun is over, whatever came of it. */
const fetched = (count: number) => until(() => requests.length === count && !LIMITS.includes(pauseMs()))
/** On to the next fetch, and until that is over. */
async function next(): Promise<void> {
  await vi.advanceTimersByTimeAsync(pauseMs())
  await fetched(requests.length)
}

async function following(revoked: Json = {}, options: Partial<RevocationOptions> = {}): Promise<Verifier> {
  const jwt = await feed(revoked)
  answer = () => reply(jwt, { ETag: '"1"' })
  const verifier = follow(options)
  await verifier.preload()
  return verifier
}

const judge = async (verifier: Verifier, claims: Json = {}, key = k1) =>
  outcome(verifier.verify(await mint(key, claims)))

describe('what is revoked', () => {
  const ISSUED_AT = NOW - 10
  const partner = { partner_id: 'org_p' }
  it.each<[string, Json, Json, Json]>([
    ['jti', { jti: ['tok_0', 'tok_1'] }, {}, { jti: 'tok_2' }],
    [
      'a token that it was had for',
      { jti: ['tok_0'] },
      { jti: 'tok_3', subject_jtis: ['tok_2', 'tok_0'] },
      { jti: 'tok_3', subject_jtis: ['tok_2'] },
    ],
    ['key_id', { key_id: { key_1: ISSUED_AT + 1 } }, {}, { key_id: 'key_2' }],
    ['client_id', { client_id: { cli_1: ISSUED_AT + 1 } }, {}, { client_id: 'cli_2' }],
    ['organization_id', { organization_id: { org_1: ISSUED_AT + 1 } }, {}, { organization_id: 'org_2' }],
    ['organization_id as partner', { organization_id: { org_p: ISSUED_AT + 1 } }, partner, {}],
    [
      'delegation',
      { delegation: [{ partner_id: 'org_p', organization_id: 'org_1', before: ISSUED_AT + 1 }] },
      partner,
      { partner_id: 'org_q' },
    ],
    [
      'delegation, of another organization',
      { delegation: [{ partner_id: 'org_p', organization_id: 'org_1', before: ISSUED_AT + 1 }] },
      partner,
      { partner_id: 'org_p', organization_id: 'org_2' },
    ],
  ])('%s', async (_, revoked, its, others) => {
    const verifier = await following(revoked)
    expect(await judge(verifier, its)).toBe('revoked')
    expect(await judge(verifier, others)).toBe('accepted')
  })

  it('A65 kid: by the key that signed the token, which the key set still has', async () => {
    const verifier = await following({ kid: { k2: NOW + 86_400 } })
    expect(await judge(verifier, {}, k2)).toBe('revoked')
    expect(await judge(verifier, {}, k1)).toBe('accepted')
  })
  it('a cut-off counts for what was issued before it, not in its second', async () => {
    const verifier = await following({ client_id: { cli_1: ISSUED_AT } })
    expect(await judge(verifier, { iat: ISSUED_AT - 1 })).toBe('revoked')
    expect(await judge(verifier, { iat: ISSUED_AT - 0.5 })).toBe('revoked')
    expect(await judge(verifier, { iat: ISSUED_AT })).toBe('accepted')
  })
  it('names are data: of a prototype, or none', async () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '0']
    const innocent = await following()
    for (const name of names)
      for (const claim of ['jti', 'key_id', 'client_id', 'organization_id', 'partner_id'])
        expect(await judge(innocent, { [claim]: name })).toBe('accepted')
    const cutOffs = Object.fromEntries(names.map((name) => [name, NOW]))
    const guilty = await following({ jti: names, key_id: cutOffs, organization_id: cutOffs })
    for (const name of names)
      for (const claim of ['jti', 'key_id', 'organization_id', 'partner_id'])
        expect(await judge(guilty, { [claim]: name })).toBe('revoked')
  })
  it('is asked once the token is valid, and before what the caller demands', async () => {
    const verifier = await following({ jti: ['tok_1'] })
    expect(await judge(verifier, { exp: NOW - 100 })).toBe('expired')
    expect(await outcome(verifier.verify(await mint(attacker)))).toBe('signature_invalid')
    expect(await outcome(verifier.verify(await mint(k1), { scopes: ['other'] }))).toBe('revoked')
  })
  it('is 401 with a challenge; not to know is 503 without one', async () => {
    const verifier = await following({ jti: ['tok_1'] })
    expect(await verifier.verify(await mint(k1)).catch((error) => error)).toMatchObject({
      code: 'revoked',
      status: 401,
      challenge: 'Bearer error="invalid_token", error_description="The access token has been revoked"',
    })
    answer = () => reply('', {}, 500)
    const unavailable = await follow()
      .verify(await mint(k1))
      .catch((error) => error)
    expect(unavailable).toBeInstanceOf(VerificationError)
    expect(unavailable).toMatchObject({ code: 'revocations_unavailable', status: 503, challenge: undefined })
  })
})

describe('a feed that is none', () => {
  const good = { jti: ['tok_1'] }
  const cases: [string, () => Promise<Response>][] = [
    ['signed by another key under the kid', async () => reply(await feed({}, { key: attacker }))],
    ['signed by an unknown kid', async () => reply(await feed({}, { head: { kid: 'k9' } }))],
    ['of another algorithm than its key', async () => reply(await feed({}, { head: { alg: 'RS256' } }))],
    ['an access token', async () => reply(await mint(k1, {}))],
    ['of no type', async () => reply(await feed({}, { head: { typ: undefined } }))],
    ['of another type', async () => reply(await feed({}, { head: { typ: 'JWT' } }))],
    ['with crit', async () => reply(await feed({}, { head: { crit: ['x'] } }))],
    ['of another issuer', async () => reply(await feed({}, { claims: { iss: `${ISSUER}/sandbox` } }))],
    ['expired', async () => reply(await feed({}, { claims: { exp: NOW - 6 } }))],
    ['without exp', async () => reply(await feed({}, { claims: { exp: undefined } }))],
    ['with an exp that is no number', async () => reply(await feed({}, { claims: { exp: '9e9' } }))],
    ['without iat', async () => reply(await feed({}, { claims: { iat: undefined } }))],
    ['without ttl', async () => reply(await feed({}, { claims: { ttl: undefined } }))],
    ['with a ttl of 0', async () => reply(await feed({}, { claims: { ttl: 0 } }))],
    ['without revoked', async () => reply(await feed({}, { claims: { revoked: undefined } }))],
    ...Object.keys(NOTHING).map((kind): [string, () => Promise<Response>] => [
      `without ${kind}`,
      async () => reply(await feed({ [kind]: undefined })),
    ]),
    ['with a jti that is no string', async () => reply(await feed({ jti: [1] }))],
    ['with a cut-off that is no number', async () => reply(await feed({ key_id: { key_1: '1' } }))],
    ['with a list for cut-offs', async () => reply(await feed({ key_id: [] }))],
    [
      'with half a delegation',
      async () => reply(await feed({ delegation: [{ partner_id: 'p', before: 1 }] })),
    ],
    ['not a JWT', async () => reply('nonsense')],
    ['nothing', async () => reply('')],
    ['an error', async () => reply(await feed(), {}, 500)],
    ['a redirect', async () => reply('', { Location: 'https://elsewhere.example' }, 302)],
    ['not of this issuer’s word: 304 to a question without a tag', async () => reply('', {}, 304)],
    ['too large', async () => reply('x'.repeat(32 * 1024 * 1024 + 1))],
    ['of an Age that is none', async () => reply(await feed(), { Age: '-5' })],
    ['out of reach', async () => Promise.reject(new Error('ECONNREFUSED'))],
  ]
  it.each(cases)('%s: never replaces a good one', async (_, bad) => {
    const jwt = await feed(good)
    answer = () => reply(jwt)
    const verifier = follow()
    await verifier.preload()
    answer = bad
    await next()
    expect(requests).toHaveLength(2)
    // A failure: the next try is earlier than it would be.
    expect(pauseMs()).toBeLessThanOrEqual(1000)
    expect(await judge(verifier)).toBe('revoked')
    expect(await judge(verifier, { jti: 'tok_2' })).toBe('accepted')
  })
  it.each(cases)('%s: is none to begin with either', async (_, bad) => {
    answer = bad
    const verifier = follow()
    await expect(verifier.preload()).rejects.toMatchObject({ code: 'revocations_unavailable' })
    expect(await judge(verifier)).toBe('revocations_unavailable')
  })
  it('A32 a feed is no access token', async () => {
    const verifier = await following()
    expect(await outcome(verifier.verify(await feed()))).toBe('type_not_allowed')
  })
  it('A65 by a signing key that is known to be revoked, the thief’s: refused', async () => {
    const verifier = await following({ kid: { k2: NOW + 86_400 }, jti: ['tok_1'] })
    const forged = await feed({}, { key: k2 })
    answer = () => reply(forged)
    await next()
    expect(await judge(verifier)).toBe('revoked')
    expect(pauseMs()).toBeLessThanOrEqual(1000)
  })
})

describe('never on the path of a request', () => {
  it('a fetch that hangs keeps no verification waiting', async () => {
    answer = () => new Promise(() => {})
    const [denying, allowing] = [follow(), follow({ onStale: 'allow' })]
    expect(await judge(denying)).toBe('revocations_unavailable')
    expect(await judge(allowing)).toBe('accepted')
    const verifier = await following({ jti: ['tok_1'] })
    answer = () => new Promise(() => {})
    await vi.advanceTimersByTimeAsync(15_000)
    expect(await judge(verifier)).toBe('revoked')
    expect(await judge(verifier, { jti: 'tok_2' })).toBe('accepted')
  })
  it('a fetch that hangs is given up, and tried again', async () => {
    answer = () => new Promise(() => {})
    const verifier = follow()
    await vi.advanceTimersByTimeAsync(5_000)
    await fetched(1)
    const jwt = await feed()
    answer = () => reply(jwt)
    await next()
    expect(await judge(verifier)).toBe('accepted')
  })
  it('verification asks for the next one where timers do not run', async () => {
    const verifier = await following({ jti: ['tok_1'] })
    const realNow = performance.now()
    vi.spyOn(performance, 'now').mockImplementation(() => realNow + 20_000)
    const jwt = await feed({ jti: ['tok_2'] })
    answer = () => reply(jwt)
    expect(await judge(verifier)).toBe('revoked')
    await fetched(2)
    expect(await judge(verifier, { jti: 'tok_2' })).toBe('revoked')
    expect(requests).toHaveLength(2)
  })
})

describe('when it is fetched', () => {
  it('at once, below the issuer; with its tag from then on', async () => {
    const verifier = await following()
    expect(requests).toEqual([{ url: `${ISSUER}/oauth2/revocations`, etag: undefined }])
    answer = () => reply('', {}, 304)
    await next()
    expect(requests[1]).toEqual({ url: `${ISSUER}/oauth2/revocations`, etag: '"1"' })
    verifier.close()
  })
  it('where it is said to be', async () => {
    await following({}, { uri: 'https://feeds.example/signet' })
    expect(requests[0]?.url).toBe('https://feeds.example/signet')
  })
  it('after 0.3 to 0.5 of its ttl, never twice the same', async () => {
    const verifier = await following()
    const pauses = new Set<number>()
    for (let round = 0; round < 20; round += 1) {
      pauses.add(pauseMs())
      await next()
    }
    expect(Math.min(...pauses)).toBeGreaterThanOrEqual(9_000)
    expect(Math.max(...pauses)).toBeLessThanOrEqual(15_000)
    expect(pauses.size).toBeGreaterThan(15)
    expect(await judge(verifier)).toBe('accepted')
  })
  it.each([
    [1, 1_000, 1_000],
    [3600, 18_000, 30_000],
  ])('within bounds, whatever ttl it names: %i', async (ttl, lowest, highest) => {
    const jwt = await feed({}, { claims: { ttl } })
    answer = () => reply(jwt)
    await follow().preload()
    expect(pauseMs()).toBeGreaterThanOrEqual(lowest)
    expect(pauseMs()).toBeLessThanOrEqual(highest)
  })
  it('after failures sooner at first, then at longer intervals', async () => {
    answer = () => reply('', {}, 503)
    follow()
    await fetched(1)
    for (const longest of [1, 2, 4, 8, 15, 15, 15]) {
      expect(pauseMs()).toBeGreaterThanOrEqual(longest * 500)
      expect(pauseMs()).toBeLessThanOrEqual(longest * 1000)
      await next()
    }
    const jwt = await feed()
    answer = () => reply(jwt)
    await next()
    expect(pauseMs()).toBeGreaterThanOrEqual(9_000)
  })
  it('not by a timer that keeps the process alive', async () => {
    await following()
    const timer = timeouts.mock.results.at(-1)
    expect(timer?.value.hasRef()).toBe(false)
  })
  it('not any more once closed; what is here serves until it is too old', async () => {
    const verifier = await following({ jti: ['tok_1'] })
    verifier.close()
    expect(vi.getTimerCount()).toBe(0)
    await vi.advanceTimersByTimeAsync(59_000)
    expect(await judge(verifier, { jti: 'tok_2' })).toBe('accepted')
    await vi.advanceTimersByTimeAsync(2_000)
    expect(await judge(verifier, { jti: 'tok_2' })).toBe('revocations_unavailable')
    expect(requests).toHaveLength(1)
  })
  it('never without `revocations`, and then there is no timer', async () => {
    const verifier = verifierFor([k1], { fetch: fetchFeed })
    await verifier.preload()
    expect(await judge(verifier)).toBe('accepted')
    verifier.close()
    expect(requests).toEqual([])
    expect(timeouts.mock.calls).toEqual([])
  })
  it('a verifier that is started anew knows what is revoked as soon as it is preloaded', async () => {
    const revoked = { jti: ['tok_1'] }
    ;(await following(revoked)).close()
    expect(await judge(await following(revoked))).toBe('revoked')
  })
})

describe('a copy that is too old', () => {
  const outage = async (onStale: 'deny' | 'allow') => {
    const verifier = await following({ jti: ['tok_1'] }, { maxStaleness: 30, onStale })
    answer = () => reply('', {}, 503)
    await vi.advanceTimersByTimeAsync(29_000)
    await fetched(requests.length)
    expect(await judge(verifier, { jti: 'tok_2' })).toBe('accepted')
    await vi.advanceTimersByTimeAsync(2_000)
    await fetched(requests.length)
    return verifier
  }
  it('F2 deny: nothing is accepted, what is known to be revoked stays so; then it heals', async () => {
    const verifier = await outage('deny')
    expect(await judge(verifier, { jti: 'tok_2' })).toBe('revocations_unavailable')
    expect(await judge(verifier)).toBe('revoked')
    const jwt = await feed()
    answer = () => reply(jwt)
    await next()
    expect(await judge(verifier, { jti: 'tok_2' })).toBe('accepted')
  })
  it('F2 allow: goes on with what it has', async () => {
    const verifier = await outage('allow')
    expect(await judge(verifier, { jti: 'tok_2' })).toBe('accepted')
    expect(await judge(verifier)).toBe('revoked')
    await vi.advanceTimersByTimeAsync(7_200_000)
    expect(await judge(verifier)).toBe('revoked')
  })
  it('deny is the default, before the first feed too; allow lets preload succeed without one', async () => {
    answer = () => reply('', {}, 503)
    expect(await judge(follow())).toBe('revocations_unavailable')
    const allowing = follow({ onStale: 'allow' })
    await allowing.preload()
    expect(await judge(allowing)).toBe('accepted')
  })
  it('its age is what the issuer’s side says, and what it has aged here', async () => {
    const jwt = await feed()
    answer = () => reply(jwt, { Age: '25' })
    const verifier = follow({ maxStaleness: 30 })
    await verifier.preload()
    answer = () => new Promise(() => {})
    await vi.advanceTimersByTimeAsync(4_900)
    expect(await judge(verifier)).toBe('accepted')
    await vi.advanceTimersByTimeAsync(200)
    expect(await judge(verifier)).toBe('revocations_unavailable')
  })
  it('is counted from the request, not from its answer', async () => {
    const jwt = await feed()
    const late = Promise.withResolvers<Response>()
    answer = () => late.promise
    const verifier = follow({ maxStaleness: 30 })
    await vi.advanceTimersByTimeAsync(4_000)
    late.resolve(reply(jwt))
    await fetched(1)
    answer = () => new Promise(() => {})
    await vi.advanceTimersByTimeAsync(25_900)
    expect(await judge(verifier)).toBe('accepted')
    await vi.advanceTimersByTimeAsync(200)
    expect(await judge(verifier)).toBe('revocations_unavailable')
  })
  it('is fresh again by a 304, as of the Age of that', async () => {
    const verifier = await following({}, { maxStaleness: 30 })
    answer = () => reply('', { Age: '3' }, 304)
    await next()
    answer = () => new Promise(() => {})
    await vi.advanceTimersByTimeAsync(26_900)
    expect(await judge(verifier)).toBe('accepted')
    await vi.advanceTimersByTimeAsync(200)
    expect(await judge(verifier)).toBe('revocations_unavailable')
  })
  it('without an Age, its signature says how old it is', async () => {
    const jwt = await feed({}, { claims: { iat: NOW - 20 } })
    answer = () => new Response(jwt)
    const verifier = follow({ maxStaleness: 30 })
    await verifier.preload()
    answer = () => new Promise(() => {})
    await vi.advanceTimersByTimeAsync(9_900)
    expect(await judge(verifier)).toBe('accepted')
    await vi.advanceTimersByTimeAsync(200)
    expect(await judge(verifier)).toBe('revocations_unavailable')
  })
  it('F12 a process that stood still refuses what its copy cannot vouch for, from the first request on', async () => {
    const verifier = await following({}, { maxStaleness: 30 })
    const stoodStill = performance.now() + 3_600_000
    vi.spyOn(performance, 'now').mockImplementation(() => stoodStill)
    const jwt = await feed({ jti: ['tok_1'] })
    answer = () => reply(jwt)
    expect(await judge(verifier)).toBe('revocations_unavailable')
    await fetched(2)
    expect(await judge(verifier)).toBe('revoked')
  })
  it('F8 a system clock that is set, on or back, makes it neither older nor younger', async () => {
    const verifier = await following({ jti: ['tok_1'] }, { maxStaleness: 30 })
    answer = () => new Promise(() => {})
    for (const jump of [86_400 * 365, -86_400 * 365]) {
      clock = (NOW + jump) * 1000
      const now = { iat: NOW + jump - 10, exp: NOW + jump + 300 }
      expect(await judge(verifier, { ...now, jti: 'tok_2' })).toBe('accepted')
      expect(await judge(verifier, now)).toBe('revoked')
    }
    await vi.advanceTimersByTimeAsync(30_100)
    expect(await judge(verifier, { iat: NOW - 86_400 * 365 - 10, jti: 'tok_2' })).toBe(
      'revocations_unavailable',
    )
  })
  it('is of no use past its exp, whatever maxStaleness allows and 304 says', async () => {
    const jwt = await feed({}, { claims: { exp: NOW + 100 } })
    answer = () => (requests.at(-1)?.etag ? reply('', {}, 304) : reply(jwt, { ETag: '"1"' }))
    const verifier = follow({ maxStaleness: 1800 })
    await verifier.preload()
    await vi.advanceTimersByTimeAsync(104_000)
    expect(await judge(verifier)).toBe('accepted')
    clock += 106_000
    await vi.advanceTimersByTimeAsync(16_000)
    await fetched(requests.length)
    expect(await judge(verifier, { exp: NOW + 300 })).toBe('revocations_unavailable')
    expect(requests.at(-1)?.etag).toBeUndefined()
  })
})

describe('an old feed, replayed', () => {
  it('that says how old it is does not replace a newer one', async () => {
    const verifier = await following({ jti: ['tok_1'] })
    const old = await feed({}, { claims: { iat: NOW - 600 } })
    answer = () => reply(old, { Age: '590' })
    await next()
    expect(await judge(verifier)).toBe('revoked')
    expect(pauseMs()).toBeLessThanOrEqual(1000)
  })
  it('that lies about its age takes nothing away that is known', async () => {
    const known = {
      jti: ['tok_1'],
      client_id: { cli_9: NOW },
      delegation: [{ partner_id: 'org_p', organization_id: 'org_1', before: NOW }],
    }
    const verifier = await following(known)
    const old = await feed(
      { jti: ['tok_3'], client_id: { cli_9: NOW - 600 } },
      { claims: { iat: NOW - 600 } },
    )
    answer = () => reply(old)
    await next()
    expect(await judge(verifier)).toBe('revoked')
    expect(await judge(verifier, { jti: 'tok_2', client_id: 'cli_9' })).toBe('revoked')
    expect(await judge(verifier, { jti: 'tok_2', partner_id: 'org_p' })).toBe('revoked')
    // Another instance may just have signed it earlier: what it has more is believed.
    expect(await judge(verifier, { jti: 'tok_3' })).toBe('revoked')
    const newer = await feed({ jti: ['tok_4'] }, { claims: { iat: NOW - 30 } })
    answer = () => reply(newer)
    await next()
    expect(await judge(verifier)).toBe('accepted')
  })
  it('the same one from a cache, a moment older for being counted in whole seconds, is no failure', async () => {
    const verifier = await following({ jti: ['tok_1'] })
    const jwt = await feed({ jti: ['tok_1'] })
    const pause = pauseMs()
    answer = () => reply(jwt, { Age: String(Math.ceil(pause / 1000) + 1) })
    await next()
    expect(pauseMs()).toBeGreaterThan(8_000)
    expect(await judge(verifier)).toBe('revoked')
  })
})

it('the key set is the issuer’s, fetched or given: both sign for tokens and feeds', async () => {
  const jwt = await feed({ jti: ['tok_1'] }, { key: k2 })
  const fetchBoth = async (url: string) =>
    url.endsWith('/jwks.json') ? Response.json({ keys: [k1.publicJwk, k2.publicJwk] }) : reply(jwt)
  const asked = verifierFor([], {
    jwksUri: `${ISSUER}/jwks.json`,
    revocations: { maxStaleness: 60 },
    fetch: fetchBoth,
  })
  const given = verifierFor([], {
    audience: AUDIENCE,
    jwks: async () => ({ keys: [k1.publicJwk, k2.publicJwk] }),
    revocations: { maxStaleness: 60 },
    fetch: fetchBoth,
  })
  opened.push(asked, given)
  for (const verifier of [asked, given]) {
    await verifier.preload()
    expect(await judge(verifier)).toBe('revoked')
  }
})
