/** RFC 8414: OAuth 2.0 Authorization Server Metadata, of both issuers. */
import { request } from 'node:http'
import { describe, expect, test } from 'vitest'
import { createTestDatabase } from '../support/database.ts'
import { mint, tokenOf } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'
import { ISSUER, SANDBOX_ISSUER, setUpService, startService } from '../support/service.ts'

// A trusted proxy could name a host: it must not matter.
const { database, service } = await setUpService({ config: { trustedProxies: ['127.0.0.0/8'] } })

type Metadata = Record<string, unknown> & { issuer: string }
const get = (path: string, init?: RequestInit) => fetch(service.url + path, init)
const metadataAt = async (path: string) => (await (await get(path)).json()) as Metadata

const ISSUERS = [
  {
    environment: 'production',
    issuer: ISSUER,
    path: '/.well-known/oauth-authorization-server',
    aliases: ['/.well-known/openid-configuration'],
  },
  {
    environment: 'sandbox',
    issuer: SANDBOX_ISSUER,
    path: '/.well-known/oauth-authorization-server/sandbox',
    aliases: ['/sandbox/.well-known/openid-configuration', '/.well-known/openid-configuration/sandbox'],
  },
] as const

describe.each(ISSUERS)('$environment', ({ environment, issuer, path, aliases }) => {
  test('§3.1, §3.2 the well-known name stands before the path of the issuer: 200, application/json', async () => {
    const response = await get(path)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('application/json')
    expect(((await response.json()) as Metadata).issuer).toBe(issuer)
  })

  test('§3.3 issuer is, byte by byte, the iss of the tokens', async () => {
    const client = await seedClient(database.sql, { environment })
    const { token } = await tokenOf(await mint(service.url, client))
    const { iss } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
    expect((await metadataAt(path)).issuer).toBe(iss)
  })

  test('§5 OpenID discovery finds the same bytes, appended and inserted', async () => {
    const [metadata, ...copies] = await Promise.all(
      [path, ...aliases].map(async (each) => (await get(each)).text()),
    )
    for (const copy of copies) expect(copy).toBe(metadata)
  })

  test('§5 nothing in it claims to be an OpenID Provider', async () => {
    const names = Object.keys(await metadataAt(path))
    expect(names.filter((name) => /id_token|userinfo|subject_types|claims/.test(name))).toEqual([])
    expect(names).not.toContain('authorization_endpoint')
  })

  test('§2 every member, and no other', async () => {
    const methods = ['client_secret_basic', 'client_secret_post', 'private_key_jwt']
    const algorithms = ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA', 'Ed25519']
    const { scopes_supported, ...metadata } = await metadataAt(path)
    expect(metadata).toEqual({
      issuer,
      token_endpoint: `${issuer}/oauth2/token`,
      jwks_uri: `${issuer}/.well-known/jwks.json`,
      introspection_endpoint: `${issuer}/oauth2/introspect`,
      revocation_endpoint: `${issuer}/oauth2/revoke`,
      signet_revocations_uri: `${issuer}/oauth2/revocations`,
      grant_types_supported: ['client_credentials', 'urn:ietf:params:oauth:grant-type:token-exchange'],
      response_types_supported: [],
      token_endpoint_auth_methods_supported: methods,
      token_endpoint_auth_signing_alg_values_supported: algorithms,
      introspection_endpoint_auth_methods_supported: methods,
      introspection_endpoint_auth_signing_alg_values_supported: algorithms,
      revocation_endpoint_auth_methods_supported: methods,
      revocation_endpoint_auth_signing_alg_values_supported: algorithms,
      introspection_signing_alg_values_supported: ['ES256'],
      service_documentation: `${ISSUER}/docs`,
    })
  })

  test('§2 issuer and token_endpoint are URLs without query and fragment', async () => {
    const { issuer: id, token_endpoint: endpoint } = await metadataAt(path)
    for (const text of [id, String(endpoint)]) {
      const url = new URL(text)
      expect([url.protocol, url.search, url.hash]).toEqual(['https:', '', ''])
      expect(text).not.toMatch(/[?#]|\/$/)
    }
  })

  test('§2 grants and authentication methods are stated: left out, they would mean others', async () => {
    const metadata = await metadataAt(path)
    expect(metadata.grant_types_supported).not.toContain('authorization_code')
    for (const endpoint of ['token', 'introspection', 'revocation'])
      expect(metadata[`${endpoint}_endpoint_auth_methods_supported`], endpoint).toHaveLength(3)
  })

  test('§2 with private_key_jwt come its algorithms: RS256 among them, none and HMAC not', async () => {
    const metadata = await metadataAt(path)
    for (const endpoint of ['token', 'introspection', 'revocation']) {
      expect(metadata[`${endpoint}_endpoint_auth_methods_supported`]).toContain('private_key_jwt')
      const algorithms = metadata[`${endpoint}_endpoint_auth_signing_alg_values_supported`] as string[]
      expect(algorithms).toContain('RS256')
      expect(algorithms.filter((alg) => /^none$|^HS/i.test(alg))).toEqual([])
    }
  })

  test('§2, §3.2 response_types_supported is there, and empty: parsers insist on the member, no endpoint serves one', async () => {
    expect((await metadataAt(path)).response_types_supported).toEqual([])
  })

  test('§3.2 no other member is null or an empty list', async () => {
    const { response_types_supported: _, ...others } = await metadataAt(path)
    for (const [name, value] of Object.entries(others)) {
      expect(value, name).not.toBeNull()
      expect(value, name).not.toEqual([])
    }
  })

  test('§2 what the service does not have is not announced: DPoP, mTLS, status lists, request objects', async () => {
    const names = Object.keys(await metadataAt(path))
    expect(
      names.filter((name) => /dpop|mtls|tls_|status_list|pushed|device|registration/.test(name)),
    ).toEqual([])
  })

  test('§2 every URL in it leads to something', async () => {
    const metadata = await metadataAt(path)
    const urls = Object.entries(metadata).filter(([name]) => /_(endpoint|uri|documentation)$/.test(name))
    expect(urls).toHaveLength(6)
    for (const [name, url] of urls)
      expect((await get(String(url).slice(ISSUER.length))).status, name).not.toBe(404)
  })

  test('§6.2 URLs are the configured issuer’s, whatever host a request or a proxy names', async () => {
    const plain = await (await get(path)).text()
    const answer = await new Promise<string>((resolve, reject) => {
      const { hostname, port } = new URL(service.url)
      const headers = {
        Host: 'evil.example',
        'X-Forwarded-Host': 'evil.example',
        'X-Forwarded-Proto': 'http',
        Forwarded: 'host=evil.example;proto=http',
      }
      request({ hostname, port, path, headers }, async (response) =>
        resolve(Buffer.concat(await response.toArray()).toString()),
      )
        .on('error', reject)
        .end()
    })
    expect(answer).toBe(plain)
    expect(answer).not.toContain('evil')
  })

  test.each([path, ...aliases])(
    '§3.2 %s is cacheable, by any page, and revalidated by its strong tag',
    async (at) => {
      const response = await get(at, { headers: { Origin: 'https://anywhere.example' } })
      const cacheFields = {
        'cache-control': 'public, max-age=300, stale-while-revalidate=60, stale-if-error=86400',
        'access-control-allow-origin': '*',
        etag: expect.stringMatching(/^"[\w-]{43}"$/),
      }
      expect(Object.fromEntries(response.headers)).toMatchObject(cacheFields)
      const etag = response.headers.get('etag') ?? ''
      for (const tags of [etag, `"x", W/${etag}`, '*']) {
        const again = await get(at, { headers: { 'If-None-Match': tags } })
        expect([again.status, await again.text()]).toEqual([304, ''])
        expect(Object.fromEntries(again.headers)).toMatchObject({ ...cacheFields, etag })
      }
      expect((await get(at, { headers: { 'If-None-Match': '"x"' } })).status).toBe(200)
      const head = await get(at, { method: 'HEAD' })
      expect([head.status, await head.text()]).toEqual([200, ''])
      for (const name of ['etag', 'cache-control', 'content-type', 'access-control-allow-origin'])
        expect(head.headers.get(name)).toBe(response.headers.get(name))
    },
  )

  test.each([path, ...aliases])('§3.1 %s is read with GET, by no other method', async (at) => {
    const response = await get(at, { method: 'POST' })
    expect([response.status, response.headers.get('allow')]).toEqual([405, 'GET, HEAD'])
  })
})

test('§2 scopes_supported: those of the management API, which is the production issuer’s alone', async () => {
  const [production, sandbox] = ISSUERS.map(({ path }) => path)
  const { scopes_supported: scopes } = await metadataAt(production ?? '')
  expect(scopes).toContain('signet:clients:read')
  for (const scope of scopes as string[]) expect(scope).toMatch(/^signet:/)
  expect(await metadataAt(sandbox ?? '')).not.toHaveProperty('scopes_supported')
})

test.each([
  '/.well-known/oauth-authorization-server/other',
  '/.well-known/oauth-authorization-server/',
  '/.well-known/oauth-authorization-server/sandbox/',
  '/.well-known/oauth-authorization-server/Sandbox',
  '/.well-known/oauth-authorization-server/production',
  '/.well-known/oauth-authorization-server/sandbox/x',
  '/sandbox/.well-known/oauth-authorization-server',
  '/.well-known/openid-configuration/other',
  '/other/.well-known/openid-configuration',
  '/other/.well-known/oauth-authorization-server',
])('§3.2 %s is of no issuer: 404, no default document', async (path) => {
  const response = await get(path)
  expect(response.status).toBe(404)
  expect(await response.text()).not.toContain('token_endpoint')
})

test('RFC 9701 §7 the algorithms of introspection are those of the keys, whatever is configured for new ones', async () => {
  const other = await createTestDatabase()
  await (await startService(other)).stop()
  const started = await startService(other, { config: { signingAlgorithm: 'RS256' } })
  try {
    const [{ path }] = ISSUERS
    const metadata = (await (await fetch(started.url + path)).json()) as Metadata
    expect(metadata.introspection_signing_alg_values_supported).toEqual(['ES256'])
  } finally {
    await started.stop()
    await other.drop()
  }
})

test('§3 the same bytes from every instance', async () => {
  const other = await startService(database)
  try {
    for (const { path } of ISSUERS)
      expect(await (await fetch(other.url + path)).text()).toBe(await (await get(path)).text())
  } finally {
    await other.stop()
  }
})
