import { describe, expect, it } from 'vitest'
import { createVerifier } from '#sdk'
import { AUDIENCE, ISSUER, type Json } from './issuer.ts'

describe('construction', () => {
  const create = (overrides: Json) => () =>
    createVerifier({ issuer: ISSUER, audience: AUDIENCE, ...overrides } as never)

  it.each([
    [{ issuer: undefined }],
    [{ issuer: '' }],
    [{ issuer: 'signet.example' }],
    [{ issuer: 'http://signet.example' }],
    [{ issuer: 'http://127.0.0.1.example' }],
    [{ issuer: 'http://localhost.example' }],
    [{ issuer: 'http://128.0.0.1' }],
    [{ issuer: 'http://0.0.0.0' }],
    [{ issuer: 'ftp://localhost' }],
    [{ issuer: 'data:,x' }],
    [{ issuer: `${ISSUER}/` }],
    [{ issuer: `${ISSUER}?x` }],
    [{ issuer: `${ISSUER}#x` }],
    [{ issuer: 'https://user:password@signet.example' }],
    [{ audience: undefined }],
    [{ audience: '' }],
    [{ audience: [] }],
    [{ audience: [AUDIENCE, ''] }],
    [{ audience: [undefined] }],
    [{ jwksUri: 'http://keys.example' }],
    [{ jwksUri: '' }],
    [{ jwksUri: 'https://keys.example', jwks: { keys: [] } }],
    [{ jwks: {} }],
    [{ jwks: { keys: {} } }],
    [{ jwks: [] }],
    [{ algorithms: [] }],
    [{ algorithms: 'ES256' }],
    [{ clockToleranceSeconds: -1 }],
    [{ clockToleranceSeconds: 61 }],
    [{ clockToleranceSeconds: Number.NaN }],
    [{ clockToleranceSeconds: '5' }],
    [{ jwksMaxStaleSeconds: 0 }],
    [{ jwksMaxStaleSeconds: Number.POSITIVE_INFINITY }],
    [{ revocations: undefined }],
    [{ revocations: null }],
    [{ revocations: true }],
    [{ revocations: {} }],
    [{ revocations: { maxStaleness: 29 } }],
    [{ revocations: { maxStaleness: 1801 } }],
    [{ revocations: { maxStaleness: Number.NaN } }],
    [{ revocations: { maxStaleness: '60' } }],
    [{ revocations: { maxStaleness: 60, onStale: 'ignore' } }],
    [{ revocations: { maxStaleness: 60, onStale: null } }],
    [{ revocations: { maxStaleness: 60, uri: 'http://feed.example' } }],
    [{ revocations: { maxStaleness: 60, uri: '' } }],
    [{ fetch: 'x' }],
    [{ now: 1 }],
  ])('%j is a TypeError', (overrides) => {
    expect(create(overrides)).toThrow(TypeError)
  })
  it('no options at all are a TypeError', () => {
    expect(() => createVerifier(undefined as never)).toThrow(TypeError)
  })
  it.each(['http://localhost:3000', 'http://127.0.0.1', 'http://127.9.9.9:1', 'http://[::1]:3000/sandbox'])(
    'http is allowed for the loopback: %s',
    (issuer) => {
      expect(create({ issuer })).not.toThrow()
    },
  )
})
