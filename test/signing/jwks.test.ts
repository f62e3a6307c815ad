import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { buildJwks } from '../../src/signing/jwks.ts'
import { PUBLISHED_AHEAD_SECONDS } from '../../src/signing/rotation.ts'
import { createSealing } from '../../src/signing/sealing.ts'
import { makeSigningKey } from '../../src/signing/signing-key.ts'
import { createTestDatabase } from '../support/database.ts'
import { KEY_ENCRYPTION_KEY, setUpService, startService } from '../support/service.ts'

const PATHS = ['/.well-known/jwks.json', '/sandbox/.well-known/jwks.json'] as const

const { database, service } = await setUpService()

const get = (path: string, init?: RequestInit) => fetch(service.url + path, init)
const kids = async (path: string): Promise<string[]> => {
  const set = (await (await get(path)).json()) as { keys: { kid: string }[] }
  return set.keys.map(({ kid }) => kid)
}

describe.each(PATHS)('%s', (path) => {
  test('A37 holds public members only, each key with its kid, alg and use, kids unique', async () => {
    const response = await get(path)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('application/jwk-set+json')
    const { keys } = (await response.json()) as { keys: Record<string, string>[] }
    expect(keys).toHaveLength(1)
    for (const key of keys) {
      expect(Object.keys(key).sort()).toEqual(['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y'])
      expect(key).toMatchObject({ kty: 'EC', crv: 'P-256', alg: 'ES256', use: 'sig' })
      // RFC 7518 §6.2.1.2: coordinates at their full length.
      for (const name of ['x', 'y'] as const)
        expect(Buffer.from(key[name] ?? '', 'base64url')).toHaveLength(32)
      // RFC 7638 §3, by hand: the required members in order, without white space.
      const canonical = `{"crv":"P-256","kty":"EC","x":"${key.x}","y":"${key.y}"}`
      expect(key.kid).toBe(createHash('sha256').update(canonical).digest('base64url'))
    }
    expect(new Set(keys.map(({ kid }) => kid)).size).toBe(keys.length)
  })

  test('the same bytes and the same strong ETag, from every instance', async () => {
    const other = await startService(database)
    try {
      const [a, b] = await Promise.all([get(path), fetch(other.url + path)])
      expect(a.headers.get('etag')).toMatch(/^"[\w-]+"$/)
      expect(b.headers.get('etag')).toBe(a.headers.get('etag'))
      expect(await b.text()).toBe(await a.text())
    } finally {
      await other.stop()
    }
  })

  test('RFC 9110 §13.1.2: 304 for the tag, in a list, weak, or any; repeating what caches need', async () => {
    const etag = (await get(path)).headers.get('etag') ?? ''
    for (const tags of [etag, `"x", ${etag}`, `W/${etag}`, '*']) {
      const response = await get(path, { headers: { 'If-None-Match': tags } })
      expect(response.status).toBe(304)
      expect(await response.text()).toBe('')
      expect(response.headers.get('etag')).toBe(etag)
      expect(response.headers.get('cache-control')).toContain('max-age=300')
      expect(response.headers.get('access-control-allow-origin')).toBe('*')
      expect(response.headers.get('date')).toBeTruthy()
    }
    for (const tags of ['"x"', 'garbage', `${etag}x`])
      expect((await get(path, { headers: { 'If-None-Match': tags } })).status).toBe(200)
  })

  test('caches and pages of any origin may keep and read it', async () => {
    const { headers } = await get(path, { headers: { Origin: 'https://anywhere.example' } })
    expect(headers.get('cache-control')).toBe(
      'public, max-age=300, stale-while-revalidate=60, stale-if-error=86400',
    )
    expect(headers.get('access-control-allow-origin')).toBe('*')
  })

  test('RFC 9110 §9.3.2: HEAD gives the headers of GET and no body', async () => {
    const [got, head] = await Promise.all([get(path), get(path, { method: 'HEAD' })])
    expect(head.status).toBe(200)
    expect(await head.text()).toBe('')
    for (const name of ['etag', 'cache-control', 'content-type', 'access-control-allow-origin'])
      expect(head.headers.get(name)).toBe(got.headers.get(name))
  })

  test('other methods are refused by name', async () => {
    const response = await get(path, { method: 'POST' })
    expect(response.status).toBe(405)
    expect(response.headers.get('allow')).toBe('GET, HEAD')
  })
})

describe('other algorithms', () => {
  const thumbprint = (canonical: string) => createHash('sha256').update(canonical).digest('base64url')

  test('RFC 8037 §2 an Edwards key is kty OKP, crv Ed25519 and x; RFC 7638 §3 of these is its kid', async () => {
    const { key } = await keyOf('Ed25519')
    expect(Object.keys(key).sort()).toEqual(['alg', 'crv', 'kid', 'kty', 'use', 'x'])
    expect(key).toMatchObject({ kty: 'OKP', crv: 'Ed25519', alg: 'Ed25519', use: 'sig' })
    expect(Buffer.from(key.x ?? '', 'base64url')).toHaveLength(32)
    expect(key.kid).toBe(thumbprint(`{"crv":"Ed25519","kty":"OKP","x":"${key.x}"}`))
  })

  test('RFC 7518 §6.3.1 an RSA key is kty RSA, n and e, of 3072 bits; RFC 7638 §3 of these is its kid', async () => {
    const { key } = await keyOf('RS256')
    expect(Object.keys(key).sort()).toEqual(['alg', 'e', 'kid', 'kty', 'n', 'use'])
    expect(key).toMatchObject({ kty: 'RSA', e: 'AQAB', alg: 'RS256', use: 'sig' })
    const modulus = Buffer.from(key.n ?? '', 'base64url')
    expect([modulus.length, (modulus[0] ?? 0) >> 7]).toEqual([384, 1])
    expect(key.kid).toBe(thumbprint(`{"e":"AQAB","kty":"RSA","n":"${key.n}"}`))
  })

  test('RFC 7638 §3.1 the thumbprints of these tests are computed as the RFC’s own example is', async () => {
    const n =
      '0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw'
    expect(thumbprint(`{"e":"AQAB","kty":"RSA","n":"${n}"}`)).toBe(
      'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs',
    )
  })

  test('RFC 7518 §6.2.1.2 a coordinate that begins with zeros keeps them', async () => {
    const sealing = createSealing([KEY_ENCRYPTION_KEY])
    for (let tries = 1; ; tries++) {
      // One in 128 has such a coordinate.
      expect(tries).toBeLessThan(4000)
      const { publicJwk, kid } = await makeSigningKey('ES256', sealing)
      const [shown] = buildJwks([{ kid, alg: 'ES256', publicJwk }]).set.keys
      const coordinates = [shown?.x, shown?.y].map((each) => Buffer.from(each ?? '', 'base64url'))
      for (const coordinate of coordinates) expect(coordinate).toHaveLength(32)
      if (coordinates.some(([first]) => first === 0)) break
    }
  })

  async function keyOf(signingAlgorithm: 'RS256' | 'Ed25519') {
    const lonely = await createTestDatabase()
    const other = await startService(lonely, { config: { signingAlgorithm } })
    try {
      const set = (await (await fetch(other.url + PATHS[0])).json()) as { keys: Record<string, string>[] }
      expect(set.keys).toHaveLength(1)
      return { key: set.keys[0] ?? {} }
    } finally {
      await other.stop()
      await lonely.drop()
    }
  }
})

test('RFC 9110 §8.8.3 the tag changes with the bytes and only with them: order of rows and spare members do not', () => {
  const key = (n: string) => ({ kid: n, alg: 'ES256', publicJwk: { kty: 'EC', crv: 'P-256', x: n, y: n } })
  const [a, b] = [key('a'), key('b')]
  const { body, etag } = buildJwks([a, b])
  expect(buildJwks([b, a])).toMatchObject({ body, etag })
  const shuffled = {
    ...a,
    publicJwk: { y: 'a', x: 'a', ext: true, crv: 'P-256', key_ops: ['verify'], kty: 'EC' },
  }
  expect(buildJwks([b, shuffled])).toMatchObject({ body, etag })
  const others = [
    buildJwks([a]),
    buildJwks([]),
    buildJwks([a, key('c')]),
    buildJwks([a, { ...b, alg: 'RS256' }]),
  ]
  for (const other of others) expect([other.body, other.etag]).not.toContain(etag)
  expect(new Set([etag, ...others.map((each) => each.etag)]).size).toBe(5)
})

test('A37 whoever keeps a set for its max-age has a key for as long again before it signs', async () => {
  for (const path of PATHS) {
    const maxAge = /max-age=(\d+)/.exec((await get(path)).headers.get('cache-control') ?? '')?.[1]
    expect(Number(maxAge)).toBeGreaterThan(0)
    expect(Number(maxAge)).toBeLessThanOrEqual(PUBLISHED_AHEAD_SECONDS / 2)
  }
})

test('RFC 9110 §12.5.3 there is one coding, so one tag does, and no Vary is needed', async () => {
  const response = await get(PATHS[0], { headers: { 'Accept-Encoding': 'gzip, br' } })
  expect([response.headers.get('content-encoding'), response.headers.get('vary')]).toEqual([null, null])
})

test('A21 no kid is in both sets', async () => {
  const [production, sandbox] = await Promise.all(PATHS.map(kids))
  expect(production?.filter((kid) => sandbox?.includes(kid))).toEqual([])
})

test('A37 a private member never gets out, even if one were stored as public', async () => {
  const lonely = await createTestDatabase()
  const first = await startService(lonely)
  await first.stop()
  await lonely.sql`update signing_keys set public_jwk = public_jwk || '{"d": "canary", "k": "canary", "p": "canary"}'`
  const second = await startService(lonely)
  try {
    for (const path of PATHS) expect(await (await fetch(second.url + path)).text()).not.toContain('canary')
  } finally {
    await second.stop()
    await lonely.drop()
  }
})

test('A38 a key is in the set before it signs and after it signed, as its timestamps say', async () => {
  const lonely = await createTestDatabase()
  let service = await startService(lonely)
  const published = async () => {
    await service.stop()
    service = await startService(lonely)
    const set = (await (await fetch(`${service.url}/.well-known/jwks.json`)).json()) as { keys: unknown[] }
    return set.keys.length
  }
  try {
    const copy = (columns: string) =>
      lonely.sql.unsafe(`insert into signing_keys (kid, environment, alg, public_jwk, sealed_private_jwk,
          published_at, activates_at, retires_at, removes_at)
        select 'copy', environment, alg, public_jwk, sealed_private_jwk, ${columns}
        from signing_keys where environment = 'production' and kid <> 'copy'`)
    for (const [columns, expected] of [
      ["now() + interval '1 h', now() + interval '2 h', null, null", 1],
      ["now(), now() + interval '1 h', null, null", 2],
      ["now() - interval '2 h', now() - interval '2 h', now() - interval '1 h', now() + interval '1 h'", 2],
      ["now() - interval '3 h', now() - interval '3 h', now() - interval '2 h', now() - interval '1 h'", 1],
    ] as const) {
      await copy(columns)
      expect(await published()).toBe(expected)
      await lonely.sql`delete from signing_keys where kid = 'copy'`
    }
  } finally {
    await service.stop()
    await lonely.drop()
  }
})

test('A39 key sets cost the database nothing, however many ask', async () => {
  const reads = async () => {
    await database.sql`select pg_stat_force_next_flush()`
    const [row] =
      await database.sql`select seq_scan + coalesce(idx_scan, 0) as n from pg_stat_user_tables where relname = 'signing_keys'`
    return Number(row?.n)
  }
  const before = await reads()
  for (let i = 0; i < 20; i++)
    await Promise.all(
      Array.from({ length: 50 }, () => get(`${PATHS[i % 2]}`).then((response) => response.text())),
    )
  // The signer's own refresh, every 30 s, may fall in between, and the hourly look whether a rotation is due; and what
  // was read before, which PostgreSQL counts late. Nothing of that comes with each of 1000 requests.
  expect((await reads()) - before).toBeLessThan(20)
})

test('the keys are sealed at rest: no private member is in the table', async () => {
  const rows = await database.sql`select public_jwk, sealed_private_jwk from signing_keys`
  expect(rows).toHaveLength(2)
  for (const row of rows) {
    expect(Object.keys(row.public_jwk).sort()).toEqual(['crv', 'kty', 'x', 'y'])
    expect(row.sealed_private_jwk.split('.')).toHaveLength(5)
  }
})
