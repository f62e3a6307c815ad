import { createHmac, type webcrypto } from 'node:crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import type { VerificationAlgorithm, Verifier } from '#sdk'
import {
  claims,
  createSigningKey,
  encode,
  header,
  type Json,
  jwksBody,
  mint,
  outcome,
  type SigningKey,
  signText,
  startServer,
  verifierFor,
} from './issuer.ts'

let key: SigningKey
let verifier: Verifier
beforeAll(async () => {
  key = await createSigningKey('k1')
  verifier = verifierFor([key])
})
const judge = (headerOverrides: Json) =>
  mint(key, {}, headerOverrides).then((token) => outcome(verifier.verify(token)))

async function publicPem(): Promise<string> {
  const publicKey = await crypto.subtle.importKey(
    'jwk',
    key.publicJwk as webcrypto.JsonWebKey,
    { name: 'ECDSA', namedCurve: 'P-256' },
    true,
    ['verify'],
  )
  const body = Buffer.from(await crypto.subtle.exportKey('spki', publicKey)).toString('base64')
  return `-----BEGIN PUBLIC KEY-----\n${body.replace(/.{64}/g, '$&\n')}\n-----END PUBLIC KEY-----\n`
}

it('accepts the token that the cases below spoil one by one', async () => {
  expect(await judge({})).toBe('accepted')
})

describe('A27 alg', () => {
  const refused = [
    'none',
    'None',
    'nOnE',
    '',
    undefined,
    null,
    ['ES256'],
    { alg: 'ES256' },
    'es256',
    'ES256 ',
    1,
  ]
  it.each(refused)('A27 alg %j is refused', async (alg) => {
    expect(await judge({ alg })).toBe('algorithm_not_allowed')
  })
  it.each(['none', 'None', 'nOnE'])('A27 alg %s with an empty signature is refused', async (alg) => {
    const unsigned = `${encode(JSON.stringify(header(key, { alg })))}.${encode(JSON.stringify(claims()))}.`
    expect(await outcome(verifier.verify(unsigned))).toBe('malformed')
    expect(await outcome(verifier.verify(`${unsigned}AA`))).toBe('algorithm_not_allowed')
  })
  it('A27 alg on the allowlist but not the alg of the key is refused', async () => {
    expect(await judge({ alg: 'RS256' })).toBe('algorithm_not_allowed')
  })
  it('A27 alg of the key but not on the allowlist is refused', async () => {
    const other = await createSigningKey('k384', 'ES384')
    const token = await mint(other)
    expect(await outcome(verifierFor([other]).verify(token))).toBe('algorithm_not_allowed')
    const algorithms: VerificationAlgorithm[] = ['ES384']
    expect(await outcome(verifierFor([other], { algorithms }).verify(token))).toBe('accepted')
  })
  it.each(['RS256', 'Ed25519'] as const)('A27 alg %s is accepted by default', async (alg) => {
    const other = await createSigningKey('k2', alg)
    expect(await outcome(verifierFor([key, other]).verify(await mint(other)))).toBe('accepted')
  })
})

describe('A28 HS256', () => {
  it.each(['PEM', 'PEM after a newline', 'PEM without the last newline', 'JWK', 'x'])(
    'A28 HS256 keyed with the public key as %s is refused',
    async (form) => {
      const pem = await publicPem()
      const secrets: Record<string, string> = {
        PEM: pem,
        'PEM after a newline': `\n${pem}`,
        'PEM without the last newline': pem.trimEnd(),
        JWK: JSON.stringify(key.publicJwk),
        x: String(key.publicJwk.x),
      }
      const input = `${encode(JSON.stringify(header(key, { alg: 'HS256' })))}.${encode(JSON.stringify(claims()))}`
      const mac = createHmac('sha256', secrets[form] ?? '')
        .update(input)
        .digest('base64url')
      expect(await outcome(verifier.verify(`${input}.${mac}`))).toBe('algorithm_not_allowed')
    },
  )
  it('A28 a JWK without alg, or an oct key, never becomes a key', async () => {
    const { alg: _, ...withoutAlg } = key.publicJwk
    const octet = { kty: 'oct', kid: 'k1', alg: 'ES256', k: encode('secret') }
    for (const entry of [withoutAlg, octet]) {
      const strict = verifierFor([], { jwks: { keys: [entry] } })
      expect(await outcome(strict.verify(await mint(key)))).toBe('unknown_key')
      const mac = createHmac('sha256', 'secret').update('a').digest('base64url')
      const forged = `${encode(JSON.stringify(header(key, { alg: 'HS256' })))}.${encode('{}')}.${mac}`
      expect(await outcome(strict.verify(forged))).toBe('algorithm_not_allowed')
    }
  })
  it.each(['HS256', 'none', 'dir', '', 'toString', 5])('A28 an allowlist with %j is a TypeError', (alg) => {
    const algorithms = ['ES256', alg] as VerificationAlgorithm[]
    expect(() => verifierFor([key], { algorithms })).toThrow(TypeError)
  })
})

describe('A29 kid', () => {
  it.each(['../../dev/null', "' OR 1=1--", '__proto__', 'constructor', 'k1\u0000', 'K1', 'x'.repeat(256)])(
    'A29 kid %j is only a name that no key has',
    async (kid) => {
      expect(await judge({ kid })).toBe('unknown_key')
    },
  )
  it.each([undefined, null, '', 1, ['k1'], { k1: 1 }, 'x'.repeat(257), 'x'.repeat(2 ** 20)])(
    'A29 kid that is missing, empty, too long or no string is malformed (%#)',
    async (kid) => {
      expect(await judge({ kid })).toBe('malformed')
    },
  )
})

describe('A30 keys in the header', () => {
  it.each(['jku', 'x5u', 'jwk', 'x5c'])('A30 %s is refused without one connection', async (member) => {
    const thief = await createSigningKey('k1')
    const server = await startServer(() => jwksBody([thief]))
    const values: Json = { jku: server.origin, x5u: server.origin, jwk: thief.publicJwk, x5c: ['MIIB'] }
    const token = await mint(thief, {}, { [member]: values[member] })
    expect(await outcome(verifier.verify(token))).toBe('header_not_allowed')
    expect(await judge({ [member]: values[member] })).toBe('header_not_allowed')
    expect(server.paths).toEqual([])
    await server.close()
  })
})

describe('A31 extensions', () => {
  it.each([
    [{ crit: ['x'], x: 1 }],
    [{ crit: [] }],
    [{ crit: null }],
    [{ crit: ['b64'], b64: true }],
    [{ crit: ['b64'], b64: false }],
    [{ b64: false }],
    [{ b64: true }],
  ])('A31 %j is refused', async (members) => {
    expect(await judge(members)).toBe('header_not_allowed')
  })
  it('A31 an extension that is not critical is ignored (RFC 7515 §4)', async () => {
    expect(await judge({ x: 1, cty: 'x' })).toBe('accepted')
  })
})

describe('A32 typ', () => {
  it.each([
    'JWT',
    'dpop+jwt',
    'logout+jwt',
    'at+jwt ',
    'application/jwt',
    'xapplication/at+jwt',
    'at jwt',
    '',
    undefined,
    null,
    ['at+jwt'],
  ])('A32 typ %j is refused', async (typ) => {
    expect(await judge({ typ })).toBe('type_not_allowed')
  })
  it.each(['at+jwt', 'at+JWT', 'AT+JWT', 'application/at+jwt', 'Application/At+Jwt'])(
    'A32 typ %s is accepted',
    async (typ) => {
      expect(await judge({ typ })).toBe('accepted')
    },
  )
})

describe('A33 duplicate members in the header', () => {
  it.each([
    '{"typ":"at+jwt","alg":"none","alg":"ES256","kid":"k1"}',
    '{"typ":"at+jwt","alg":"ES256","kid":"k2","\\u006bid":"k1"}',
    '{"typ":"at+jwt","alg":"ES256","kid":"k1","x":{"a":1,"a":1}}',
  ])('A33 %s is refused', async (text) => {
    const token = await signText(key, text, JSON.stringify(claims()))
    expect(await outcome(verifier.verify(token))).toBe('malformed')
  })
})
