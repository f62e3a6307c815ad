import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { createTestDatabase } from '../support/database.ts'
import { setUpService, startService } from '../support/service.ts'

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
  // The signer's own refresh, every 30 s, may fall in between.
  expect((await reads()) - before).toBeLessThanOrEqual(2)
})

test('the keys are sealed at rest: no private member is in the table', async () => {
  const rows = await database.sql`select public_jwk, sealed_private_jwk from signing_keys`
  expect(rows).toHaveLength(2)
  for (const row of rows) {
    expect(Object.keys(row.public_jwk).sort()).toEqual(['crv', 'kty', 'x', 'y'])
    expect(row.sealed_private_jwk.split('.')).toHaveLength(5)
  }
})
