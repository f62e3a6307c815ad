import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { createVerifier, VerificationError } from '#sdk'
import {
  AUDIENCE,
  createSigningKey,
  type Json,
  jwksBody,
  mint,
  NOW,
  outcome,
  type SigningKey,
  startServer,
  verifierFor,
} from './issuer.ts'

const MINUTE = 60_000
let k1: SigningKey
let k2: SigningKey
let server: Awaited<ReturnType<typeof startServer>>
/** What performance.now() is ahead of itself by. */
let elapsed: number

beforeAll(async () => {
  k1 = await createSigningKey('k1')
  k2 = await createSigningKey('k2')
})
beforeEach(async () => {
  server = await startServer(() => jwksBody([k1]))
  elapsed = 0
  const realNow = performance.now.bind(performance)
  vi.spyOn(performance, 'now').mockImplementation(() => realNow() + elapsed)
})
afterEach(async () => {
  vi.useRealTimers()
  vi.restoreAllMocks()
  await server.close()
})

const remote = (options: Json = {}) => verifierFor([], { jwksUri: `${server.origin}/jwks`, ...options })
const judge = async (verifier: ReturnType<typeof remote>, key: SigningKey, headerOverrides: Json = {}) =>
  outcome(verifier.verify(await mint(key, {}, headerOverrides)))
/** Until what runs beside verification has had its effect. */
const until = (condition: () => boolean) => vi.waitFor(() => expect(condition()).toBe(true), 3000)

describe('the JWKS URI', () => {
  it('is below the issuer, sandbox included', async () => {
    for (const path of ['', '/sandbox']) {
      const issuer = `${server.origin}${path}`
      const verifier = createVerifier({ issuer, audience: AUDIENCE, now: () => NOW * 1000 })
      const environment = path === '' ? 'production' : 'sandbox'
      await verifier.verify(await mint(k1, { iss: issuer, environment }))
    }
    expect(server.paths).toEqual(['/.well-known/jwks.json', '/sandbox/.well-known/jwks.json'])
  })
  it('A21 a sandbox key cannot sign for production, whatever iss it claims', async () => {
    server.answer = () => jwksBody(server.paths.at(-1)?.startsWith('/sandbox') ? [k2] : [k1])
    const issuer = server.origin
    const production = createVerifier({ issuer, audience: AUDIENCE, now: () => NOW * 1000 })
    for (const iss of [issuer, `${issuer}/sandbox`]) {
      expect(await outcome(production.verify(await mint(k2, { iss })))).toBe('unknown_key')
    }
    expect(await outcome(production.verify(await mint(k1, { iss: `${issuer}/sandbox` })))).toBe(
      'issuer_mismatch',
    )
  })
  it('is not followed when it redirects', async () => {
    const target = await startServer(() => jwksBody([k1]))
    server.answer = () => ({ status: 302, headers: { location: `${target.origin}/jwks` } })
    expect(await judge(remote(), k1)).toBe('jwks_unavailable')
    expect(target.paths).toEqual([])
    await target.close()
  })
  it('is asked with the given fetch', async () => {
    const urls: string[] = []
    const custom = (url: string, init: RequestInit) => {
      urls.push(url)
      return fetch(url, init)
    }
    expect(await judge(remote({ fetch: custom }), k1)).toBe('accepted')
    expect(urls).toEqual([`${server.origin}/jwks`])
  })
})

describe('one flight', () => {
  it('A39 100 verifications at once cause one request', async () => {
    const verifier = remote()
    const results = await Promise.all(Array.from({ length: 100 }, () => judge(verifier, k1)))
    expect(new Set(results)).toEqual(new Set(['accepted']))
    expect(server.paths).toHaveLength(1)
  })
  it('needs no network after preload', async () => {
    const verifier = remote()
    await verifier.preload()
    await server.close()
    expect(await judge(verifier, k1)).toBe('accepted')
  })
  it('is the same for preload and verification', async () => {
    const verifier = remote()
    await Promise.all([verifier.preload(), verifier.preload(), judge(verifier, k1)])
    expect(server.paths).toHaveLength(1)
  })
})

describe('unknown kid', () => {
  it('A29 A39 a flood of unknown kids causes one request per 30 s', async () => {
    const verifier = remote()
    const flood = async (count: number) => {
      const token = await mint(k1)
      const [, payload, signature] = token.split('.')
      const forge = (kid: string) =>
        `${Buffer.from(JSON.stringify({ typ: 'at+jwt', alg: 'ES256', kid })).toString('base64url')}.${payload}.${signature}`
      const results = await Promise.all(
        Array.from({ length: count }, (_, index) => outcome(verifier.verify(forge(`${elapsed}-${index}`)))),
      )
      expect(new Set(results)).toEqual(new Set(['unknown_key']))
    }
    await flood(5000)
    expect(server.paths).toHaveLength(1)
    for (const requests of [2, 3]) {
      elapsed += 29_000
      await flood(100)
      expect(server.paths).toHaveLength(requests - 1)
      elapsed += 1_100
      await flood(100)
      await flood(100)
      expect(server.paths).toHaveLength(requests)
    }
    expect(await judge(verifier, k1)).toBe('accepted')
  })
  it('A39 a failing JWKS is not asked more often for it, and known kids still verify', async () => {
    const verifier = remote()
    await verifier.preload()
    server.answer = () => ({ status: 500 })
    elapsed += 31_000
    for (let index = 0; index < 20; index += 1) expect(await judge(verifier, k2)).toBe('unknown_key')
    elapsed += 29_000
    expect(await judge(verifier, k2)).toBe('unknown_key')
    expect(server.paths).toHaveLength(2)
    expect(await judge(verifier, k1)).toBe('accepted')
  })
  it('finds a key that was published meanwhile', async () => {
    const verifier = remote()
    await verifier.preload()
    server.answer = () => jwksBody([k1, k2])
    expect(await judge(verifier, k2)).toBe('unknown_key')
    elapsed += 30_001
    expect(await Promise.all([judge(verifier, k2), judge(verifier, k2)])).toEqual(['accepted', 'accepted'])
    expect(server.paths).toHaveLength(2)
  })
  it('A29 a kid is data: the URI asked never changes', async () => {
    const verifier = remote()
    await judge(verifier, k1, { kid: '../../dev/null' })
    elapsed += 31_000
    await judge(verifier, k1, { kid: "?' OR 1=1--" })
    expect(server.paths).toEqual(['/jwks', '/jwks'])
  })
})

describe('refresh', () => {
  it('happens beside verification after 10 minutes', async () => {
    const verifier = remote()
    await verifier.preload()
    elapsed += 10 * MINUTE - 1000
    await judge(verifier, k1)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(server.paths).toHaveLength(1)
    elapsed += 2000
    server.answer = () => ({ hang: true })
    expect(await judge(verifier, k1)).toBe('accepted')
    await until(() => server.paths.length === 2)
  })
  it('takes over the new set, without the keys that were removed', async () => {
    const verifier = remote()
    await verifier.preload()
    server.answer = () => jwksBody([k2])
    elapsed += 11 * MINUTE
    expect(await judge(verifier, k1)).toBe('accepted')
    await vi.waitFor(async () => expect(await judge(verifier, k1)).toBe('unknown_key'))
    expect(await judge(verifier, k2)).toBe('accepted')
  })
  it('happens before verification when the verifier idled for more than 15 minutes', async () => {
    const verifier = remote()
    await verifier.preload()
    server.answer = () => jwksBody([k2])
    elapsed += 16 * MINUTE
    expect(await judge(verifier, k1)).toBe('unknown_key')
  })
  it('that answers an empty set leaves no key: the issuer has withdrawn them', async () => {
    const verifier = remote()
    await verifier.preload()
    server.answer = () => jwksBody([])
    elapsed += 16 * MINUTE
    expect(await judge(verifier, k1)).toBe('unknown_key')
  })
})

describe('an issuer that is down', () => {
  it('leaves the last good set for 24 h, then nothing verifies, then it heals', async () => {
    const verifier = remote()
    await verifier.preload()
    server.answer = () => ({ status: 503 })
    for (let hour = 0; hour < 23; hour += 1) {
      elapsed += 60 * MINUTE
      expect(await judge(verifier, k1)).toBe('accepted')
    }
    elapsed += 59 * MINUTE
    expect(await judge(verifier, k1)).toBe('accepted')
    elapsed += MINUTE
    const error = await verifier.verify(await mint(k1)).catch((caught: unknown) => caught)
    expect(error).toBeInstanceOf(VerificationError)
    expect(error).toMatchObject({ code: 'jwks_unavailable', status: 503, challenge: undefined })
    server.answer = () => jwksBody([k1])
    elapsed += MINUTE
    expect(await judge(verifier, k1)).toBe('accepted')
  })
  it('leaves it for jwksMaxStaleSeconds', async () => {
    const verifier = remote({ jwksMaxStaleSeconds: 1800 })
    await verifier.preload()
    server.answer = () => ({ status: 503 })
    elapsed += 29 * MINUTE
    expect(await judge(verifier, k1)).toBe('accepted')
    elapsed += MINUTE
    expect(await judge(verifier, k1)).toBe('jwks_unavailable')
  })
  it('slows verification down at most once', async () => {
    const verifier = remote()
    await verifier.preload()
    server.answer = () => ({ status: 503 })
    elapsed += 20 * MINUTE
    expect(await judge(verifier, k1)).toBe('accepted')
    expect(server.paths).toHaveLength(2)
    server.answer = () => ({ hang: true })
    elapsed += MINUTE
    const before = Date.now()
    for (let index = 0; index < 10; index += 1) expect(await judge(verifier, k1)).toBe('accepted')
    expect(Date.now() - before).toBeLessThan(1000)
    await until(() => server.paths.length === 3)
  })
  it('from the start is asked again after 1, 2, 4 … 30 s', async () => {
    server.answer = () => ({ status: 503 })
    const verifier = remote()
    await expect(verifier.preload()).rejects.toMatchObject({ code: 'jwks_unavailable' })
    for (const [index, seconds] of [1, 2, 4, 8, 16, 30, 30].entries()) {
      elapsed += seconds * 1000 - 500
      expect(await judge(verifier, k1)).toBe('jwks_unavailable')
      expect(server.paths).toHaveLength(index + 1)
      elapsed += 500
      expect(await judge(verifier, k1)).toBe('jwks_unavailable')
      expect(server.paths).toHaveLength(index + 2)
    }
    server.answer = () => jwksBody([k1])
    elapsed += 30_000
    expect(await judge(verifier, k1)).toBe('accepted')
  })
  it('and hangs is given up after 5 s, body included', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const stalled = new Response(new ReadableStream({ pull: () => new Promise(() => {}) }))
    for (const slow of [() => new Promise<Response>(() => {}), async () => stalled]) {
      let settled = false
      const verdict = judge(remote({ fetch: slow }), k1).finally(() => {
        settled = true
      })
      while (vi.getTimerCount() === 0) await new Promise((resolve) => setImmediate(resolve))
      await vi.advanceTimersByTimeAsync(4_999)
      expect(settled).toBe(false)
      await vi.advanceTimersByTimeAsync(1)
      expect(await verdict).toBe('jwks_unavailable')
    }
  })
  it('is asked anew when a request and its timer have vanished, as on an edge runtime', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    let requests = 0
    let answerLate: (response: Response) => void = () => {}
    const vanishing = (url: string, init: RequestInit) => {
      requests += 1
      return requests === 1 ? new Promise<Response>((resolve) => (answerLate = resolve)) : fetch(url, init)
    }
    const verifier = remote({ fetch: vanishing })
    const first = verifier.preload()
    elapsed += 31_000
    expect(await judge(verifier, k1)).toBe('accepted')
    expect(requests).toBe(2)
    // An answer that comes after a newer one must not take its place.
    answerLate(new Response(jwksBody([k2]).body))
    await first
    expect(await judge(verifier, k1)).toBe('accepted')
  })
})

describe('answers that are no JWK set', () => {
  it.each([
    ['404', { status: 404, body: '{"keys":[]}' }],
    ['204', { status: 204 }],
    ['HTML', { body: '<html>' }],
    ['nothing', { body: '' }],
    ['an array', { body: '[]' }],
    ['no keys', { body: '{}' }],
    ['keys that are no array', { body: '{"keys":{}}' }],
    ['duplicate members', { body: '{"keys":[],"keys":[]}' }],
    ['more than 512 KiB', { body: `{"keys":[],"x":"${'x'.repeat(512 * 1024)}"}` }],
  ])('%s: jwks_unavailable, and the last good set stays', async (_, answer) => {
    const verifier = remote()
    await verifier.preload()
    server.answer = () => answer
    elapsed += 16 * MINUTE
    expect(await judge(verifier, k1)).toBe('accepted')
    expect(server.paths).toHaveLength(2)
    expect(await judge(remote(), k1)).toBe('jwks_unavailable')
  })
  it('an answer that is not read to its end is cancelled', async () => {
    const signals: unknown[] = []
    const custom = (url: string, init: RequestInit) => {
      signals.push(init.signal)
      return fetch(url, init)
    }
    server.answer = () => ({ status: 404 })
    expect(await judge(remote({ fetch: custom }), k1)).toBe('jwks_unavailable')
    expect(signals).toEqual([expect.objectContaining({ aborted: true })])
  })
  it('512 KiB are read', async () => {
    const body = JSON.stringify({ keys: [k1.publicJwk], x: '' })
    server.answer = () => ({ body: body.replace('""', `"${'x'.repeat(512 * 1024 - body.length)}"`) })
    expect(await judge(remote(), k1)).toBe('accepted')
  })
})
