import { describe, expect, test } from 'vitest'
import { parseConfig } from '../src/config.ts'

const KEK = Buffer.alloc(32, 1).toString('base64')
const problemsOf = (variables: Record<string, string>) => {
  const parsed = parseConfig(variables)
  return parsed.ok ? [] : parsed.problems.map(({ name }) => name).sort()
}

describe('the configuration', () => {
  test('nothing set is a complete configuration: the embedded database on localhost', () => {
    const parsed = parseConfig({})
    expect(parsed.ok && parsed.config).toMatchObject({
      databaseUrl: undefined,
      host: '127.0.0.1',
      port: 8787,
      workers: 1,
      drainGraceSeconds: 3,
      issuer: 'http://localhost:8787',
      defaultAudience: 'http://localhost:8787/api',
      signingAlgorithm: 'ES256',
      signingKeyRotationDays: 30,
      keyVendor: 'sgt',
      trustedProxies: [],
      logLevel: 'info',
    })
  })

  test('the issuer follows the port', () => {
    const parsed = parseConfig({ PORT: '9000' })
    expect(parsed.ok && parsed.config.issuer).toBe('http://localhost:9000')
  })

  test.each([
    'mysql://h/d',
    'postgres://u:p@h:99999/d',
    'postgres://u:pa/ss@h/d',
    'postgres://u:pa%ss@h/d',
    'postgres://u:p@h',
    'postgres://h/d?synchronous_commit=off',
    'postgres://h/d?signet.platform=off',
  ])('a database must be named by a whole URL, without settings of its own: not %s', (url) => {
    expect(problemsOf({ DATABASE_URL: url, KEY_ENCRYPTION_KEY: KEK })).toEqual(['DATABASE_URL'])
  })

  test.each([
    'postgres://h/d',
    'postgresql://u:p%2Fq@h:5432/d?sslmode=verify-full',
    'postgres://u@h:1,i:2/d',
  ])('a database may be %s', (url) => {
    expect(problemsOf({ DATABASE_URL: url, KEY_ENCRYPTION_KEY: KEK })).toEqual([])
  })

  test('set but empty counts as absent', () => {
    expect(parseConfig({ DATABASE_URL: '', PORT: '', ISSUER: '' }).ok).toBe(true)
  })

  test('an assertion may name the token endpoint only where that is said', () => {
    for (const [value, accepts] of [
      [undefined, false],
      ['false', false],
      ['true', true],
    ] as const) {
      const parsed = parseConfig({ ACCEPT_TOKEN_ENDPOINT_AUDIENCE: value })
      expect(parsed.ok && parsed.config.acceptTokenEndpointAudience).toBe(accepts)
    }
    expect(problemsOf({ ACCEPT_TOKEN_ENDPOINT_AUDIENCE: '1' })).toEqual(['ACCEPT_TOKEN_ENDPOINT_AUDIENCE'])
  })

  test('every mistake is reported at once, by name', () => {
    expect(
      problemsOf({
        DATABASE_URL: 'mysql://x',
        PORT: '99999',
        ISSUER: 'https://h/',
        DEFAULT_AUDIENCE: 'x'.repeat(256),
        KEY_ENCRYPTION_KEY: 'short',
        KEY_PREFIX: 'S-',
        SIGNING_ALGORITHM: 'HS256',
        SIGNING_KEY_ROTATION_DAYS: '366',
        TRUSTED_PROXIES: '10.0.0.0/99',
        FAILED_AUTHENTICATIONS_PER_MINUTE: 'many',
        LOG_LEVEL: 'loud',
      }),
    ).toEqual([
      'DATABASE_URL',
      'DEFAULT_AUDIENCE',
      'FAILED_AUTHENTICATIONS_PER_MINUTE',
      'ISSUER',
      'KEY_ENCRYPTION_KEY',
      'KEY_PREFIX',
      'LOG_LEVEL',
      'PORT',
      'SIGNING_ALGORITHM',
      'SIGNING_KEY_ROTATION_DAYS',
      'TRUSTED_PROXIES',
    ])
  })

  test('A55 no problem repeats a value: some are secrets', () => {
    const parsed = parseConfig({
      KEY_ENCRYPTION_KEY: 'canary-canary',
      DATABASE_URL: 'canary://canary:canary@h',
    })
    expect(JSON.stringify(parsed)).not.toContain('canary')
  })

  test.each([
    'http://auth.example.com',
    'https://h?x',
    'https://h#x',
    'https://h/',
    'https://h/path',
    'https://H',
    'https://h:443',
    'ftp://localhost',
    'localhost',
    'https://user@h',
  ])('an issuer must be one exact origin: not %s', (issuer) => {
    expect(problemsOf({ ISSUER: issuer })).toEqual(['ISSUER'])
  })

  test.each([
    'https://auth.example.com',
    'https://h:8443',
    'http://localhost:8787',
    'http://127.0.0.1',
    'http://[::1]:1',
  ])('an issuer may be %s', (issuer) => {
    expect(problemsOf({ ISSUER: issuer })).toEqual([])
  })

  test.each([
    '10.0.0.0/33',
    '256.1.1.1',
    '010.0.0.1',
    '::1%eth0',
    'example.com',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    '1.2.3',
  ])('A25 a trusted proxy must be an address or a network: not %s', (proxy) => {
    expect(problemsOf({ TRUSTED_PROXIES: `127.0.0.1,${proxy}` })).toEqual(['TRUSTED_PROXIES'])
  })

  test('a database of your own needs a key-encryption key of your own', () => {
    expect(problemsOf({ DATABASE_URL: 'postgres://h/d' })).toEqual(['KEY_ENCRYPTION_KEY'])
    expect(problemsOf({ DATABASE_URL: 'postgres://h/d', KEY_ENCRYPTION_KEY: KEK })).toEqual([])
  })

  test('several key-encryption keys, in base64 or base64url, the first first', () => {
    const url = Buffer.alloc(32, 255).toString('base64url')
    const parsed = parseConfig({ KEY_ENCRYPTION_KEY: `${url}, ${KEK}` })
    expect(parsed.ok && parsed.config.keyEncryptionKeys).toEqual([
      new Uint8Array(32).fill(255),
      new Uint8Array(32).fill(1),
    ])
  })

  test('the default audience is never an issuer', () => {
    for (const audience of ['https://h', 'https://h/sandbox'])
      expect(problemsOf({ ISSUER: 'https://h', DEFAULT_AUDIENCE: audience })).toEqual(['DEFAULT_AUDIENCE'])
  })
})
