import { beforeAll, describe, expect, it, vi } from 'vitest'
import type { JwkSet, Verifier } from '#sdk'
import { createSigningKey, type Json, mint, outcome, type SigningKey, verifierFor } from './issuer.ts'

let k1: SigningKey
let k2: SigningKey
beforeAll(async () => {
  k1 = await createSigningKey('k1')
  k2 = await createSigningKey('k2')
})
const judge = async (verifier: Verifier, key: SigningKey, headerOverrides: Json = {}) =>
  outcome(verifier.verify(await mint(key, {}, headerOverrides)))

describe('A37 entries', () => {
  it('A37 that are not understood are skipped without breaking the rest', async () => {
    const { kid: _, ...nameless } = k1.publicJwk
    const odd = [
      null,
      1,
      'x',
      [],
      {},
      nameless,
      { ...nameless, kid: 1 },
      { ...nameless, kid: '' },
      { kty: 'AKP', kid: 'a', alg: 'ML-DSA-44', pub: 'x' },
      { kty: 'EC', crv: 'secp256k1', kid: 'b', alg: 'ES256K', x: 'x', y: 'y' },
      { kty: 'EC', crv: 'P-256', kid: 'c', alg: 'ES256', x: 'AA', y: 'AA' },
      { kty: 'RSA', kid: 'd', alg: 'RS256', n: 5, e: null },
      { kty: 'EC', crv: 'P-256', kid: 'e', alg: ['ES256'], x: 'AA', y: 'AA' },
      { kty: 'oct', kid: 'f', alg: 'HS256', k: 'c2VjcmV0' },
    ]
    const verifier = verifierFor([], { jwks: { keys: [...odd, k1.publicJwk] } })
    expect(await judge(verifier, k1)).toBe('accepted')
    for (const kid of ['a', 'b', 'c', 'd', 'e', 'f']) {
      expect(await judge(verifier, k1, { kid })).toBe('unknown_key')
    }
  })
  it.each([
    ['a private member', { d: 'AA' }],
    ['a symmetric member', { k: 'AA' }],
    ['an empty private member', { d: undefined }],
    ['use enc', { use: 'enc' }],
    ['use null', { use: null }],
    ['key_ops without verify', { key_ops: ['sign'] }],
    ['another curve', { crv: 'P-384' }],
    ['another kty', { kty: 'RSA' }],
    ['another alg', { alg: 'ES384' }],
    ['no alg', { alg: undefined }],
  ])('A37 %s: not a key', async (_, members) => {
    const verifier = verifierFor([], { jwks: { keys: [{ ...k1.publicJwk, ...members }] } })
    expect(await judge(verifier, k1)).toBe('unknown_key')
  })
  it.each([[{ use: undefined }], [{ key_ops: ['verify'] }], [{ ext: true, x5t: 'x', d2: 1 }]])(
    'A37 %j: still a key',
    async (members) => {
      const verifier = verifierFor([], { jwks: { keys: [{ ...k1.publicJwk, ...members }] } })
      expect(await judge(verifier, k1)).toBe('accepted')
    },
  )
  it('A37 two entries with one kid are both skipped', async () => {
    const twin = { ...k2.publicJwk, kid: 'k1' }
    for (const keys of [
      [k1.publicJwk, twin, k2.publicJwk],
      [twin, k1.publicJwk, k2.publicJwk],
      [k1.publicJwk, { kid: 'k1' }, k2.publicJwk],
    ]) {
      const verifier = verifierFor([], { jwks: { keys } })
      expect(await judge(verifier, k1)).toBe('unknown_key')
      expect(await judge(verifier, k2)).toBe('accepted')
    }
  })
  it('A37 an RSA key of 1024 bits verifies nothing', async () => {
    const pair = await crypto.subtle.generateKey(
      {
        name: 'RSASSA-PKCS1-v1_5',
        hash: 'SHA-256',
        modulusLength: 1024,
        publicExponent: new Uint8Array([1, 0, 1]),
      },
      true,
      ['sign', 'verify'],
    )
    const { n, e } = await crypto.subtle.exportKey('jwk', pair.publicKey)
    const publicJwk = { kty: 'RSA', kid: 'weak', alg: 'RS256', n, e }
    const weak: SigningKey = { kid: 'weak', alg: 'RS256', publicJwk, privateKey: pair.privateKey }
    expect(await judge(verifierFor([weak]), weak)).toBe('signature_invalid')
  })
})

describe('jwks option', () => {
  it('a set is copied: later changes to it change nothing', async () => {
    const keys: unknown[] = [{ ...k1.publicJwk }]
    const verifier = verifierFor([], { jwks: { keys } })
    keys[0] = k2.publicJwk
    await verifier.preload()
    expect(await judge(verifier, k1)).toBe('accepted')
    expect(await judge(verifier, k2)).toBe('unknown_key')
  })
  it('a function is asked each time and its set imported once per object', async () => {
    const imports = vi.spyOn(crypto.subtle, 'importKey')
    const sets: JwkSet[] = [k1, k2].map((key) => ({ keys: [key.publicJwk] }))
    let index = 0
    for (const jwks of [() => sets[index] as JwkSet, async () => sets[index] as JwkSet]) {
      imports.mockClear()
      index = 0
      const verifier = verifierFor([], { jwks })
      expect([await judge(verifier, k1), await judge(verifier, k1)]).toEqual(['accepted', 'accepted'])
      index = 1
      expect([await judge(verifier, k1), await judge(verifier, k2)]).toEqual(['unknown_key', 'accepted'])
      expect(imports).toHaveBeenCalledTimes(2)
    }
  })
  it('a function that throws or returns no set is jwks_unavailable, and asked again', async () => {
    const answers: unknown[] = [new Error('down'), {}, undefined, { keys: [k1.publicJwk] }]
    const verifier = verifierFor([], {
      jwks: () => {
        const answer = answers.shift()
        if (answer instanceof Error) throw answer
        return answer as JwkSet
      },
    })
    for (let index = 0; index < 3; index += 1) expect(await judge(verifier, k1)).toBe('jwks_unavailable')
    expect(await judge(verifier, k1)).toBe('accepted')
  })
})
