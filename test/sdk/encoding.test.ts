import { deflateRawSync } from 'node:zlib'
import fc from 'fast-check'
import { CompactEncrypt } from 'jose'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { VerificationError, type Verifier } from '#sdk'
import {
  claims,
  createSigningKey,
  encode,
  header,
  mint,
  outcome,
  type SigningKey,
  signBytes,
  verifierFor,
} from './issuer.ts'

let key: SigningKey
let verifier: Verifier
let token: string
let lookups: number
beforeAll(async () => {
  key = await createSigningKey('k1')
  const set = { keys: [key.publicJwk] }
  verifier = verifierFor([], {
    jwks: () => {
      lookups += 1
      return set
    },
  })
  token = await mint(key)
})
const judge = (candidate: unknown) => {
  lookups = 0
  return outcome(verifier.verify(candidate as string))
}

describe('A35 size and form', () => {
  it('A35 100,000 dots and 8 MB are refused before anything is decoded', async () => {
    const huge = 'A'.repeat(8 * 2 ** 20)
    const candidates = [
      '.'.repeat(100_000),
      `${token}.${'.'.repeat(100_000)}`,
      huge,
      `${huge}.${huge}.${huge}`,
    ]
    const decodings = vi.spyOn(Uint8Array, 'fromBase64')
    for (const candidate of candidates) expect(await judge(candidate)).toBe('malformed')
    expect(lookups).toBe(0)
    expect(decodings).not.toHaveBeenCalled()
    // This runtime does decode with it.
    expect(await judge(token)).toBe('accepted')
    expect(decodings).toHaveBeenCalled()
    decodings.mockRestore()
  })
  it('A35 16 KiB is the longest token', async () => {
    let padding = 12_000
    const grow = (characters: number) => mint(key, { x: 'x'.repeat(characters) })
    padding -= Math.floor((((await grow(padding)).length - 2 ** 14) * 3) / 4)
    let longest = await grow(padding)
    while (longest.length > 2 ** 14) longest = await grow(--padding)
    expect(longest.length).toBeGreaterThan(2 ** 14 - 3)
    expect(await judge(longest)).toBe('accepted')
    expect(await judge(await grow(padding + 3))).toBe('malformed')
    expect(lookups).toBe(0)
  })
  it('A35 a JWE is refused, a zip bomb in it included', async () => {
    const secret = crypto.getRandomValues(new Uint8Array(32))
    const jwe = await new CompactEncrypt(Buffer.from(JSON.stringify(claims())))
      .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', typ: 'at+jwt', kid: 'k1' })
      .encrypt(secret)
    expect(await judge(jwe)).toBe('malformed')
    const bombHeader = encode(JSON.stringify({ alg: 'dir', enc: 'A256GCM', zip: 'DEF', kid: 'k1' }))
    const bomb = encode(deflateRawSync(Buffer.alloc(10 * 2 ** 20)))
    expect(
      await judge(`${bombHeader}..${encode('123456789012')}.${bomb}.${encode('1234567890123456')}`),
    ).toBe('malformed')
  })
  it('A35 a zip header inflates nothing', async () => {
    const input = `${encode(JSON.stringify(header(key, { zip: 'DEF' })))}.${encode(
      deflateRawSync(Buffer.from(JSON.stringify(claims()))),
    )}`
    expect(await judge(`${input}.${encode(await signBytes(key, input))}`)).toBe('malformed')
  })
  it('A35 the JSON serializations are refused', async () => {
    const [encodedHeader, payload, signature] = token.split('.')
    expect(await judge(JSON.stringify({ protected: encodedHeader, payload, signature }))).toBe('malformed')
    expect(await judge({ protected: encodedHeader, payload, signature })).toBe('malformed')
  })
  it.each([undefined, null, '', 1, {}, [], '.', '..', 'a.b', 'a.b.c.d', 'Bearer', '..a'])(
    'A35 %j is no token',
    async (candidate) => {
      expect(await judge(candidate)).toBe('malformed')
      expect(lookups).toBe(0)
    },
  )
  it('A35 an array holding the token is no token', async () => {
    expect(await judge([token])).toBe('malformed')
  })
})

describe('A36 base64url', () => {
  it.each([
    ['padding after each segment', (parts: string[]) => parts.map((part) => `${part}==`)],
    ['padding after the signature', ([h, p, s]: string[]) => [h, p, `${s}=`]],
    ['a blank before', ([h, p, s]: string[]) => [` ${h}`, p, s]],
    ['a blank after', ([h, p, s]: string[]) => [h, p, `${s} `]],
    ['a line feed after', ([h, p, s]: string[]) => [h, p, `${s}\n`]],
    ['a line feed inside', ([h, p = '', s]: string[]) => [h, `${p.slice(0, 8)}\n${p.slice(8)}`, s]],
    ['a NUL after', ([h, p, s]: string[]) => [h, p, `${s}\0`]],
    ['a character beyond ASCII', ([h, p, s]: string[]) => [h, p, `${s}\u0141`]],
    ['the plain base64 alphabet', ([h, p, s = '']: string[]) => [h, p, `+/${s.slice(2)}`]],
    ['a segment of 4n + 1 characters', ([h, p, s]: string[]) => [h, p, `${s}AAA`]],
    ['an empty header', ([, p, s]: string[]) => ['', p, s]],
    ['an empty payload', ([h, , s]: string[]) => [h, '', s]],
    ['an empty signature', ([h, p]: string[]) => [h, p, '']],
  ])('A36 %s is refused', async (_, spoil) => {
    expect(await judge(spoil(token.split('.')).join('.'))).toBe('malformed')
    expect(lookups).toBe(0)
  })

  it('A36 bits that encode nothing must be zero, in every segment', async () => {
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    // Members that make the header 4n + 2 and 4n + 3 characters long; the signature (64 bytes) always is 4n + 2.
    for (const filler of ['', 'x', 'xx']) {
      const encoded = encode(JSON.stringify(header(key, { x: filler })))
      const unused = { 2: 16, 3: 4 }[encoded.length % 4] ?? 1
      for (let bits = 1; bits < unused; bits += 1) {
        const last = alphabet.charAt(alphabet.indexOf(encoded.slice(-1)) + bits)
        const input = `${encoded.slice(0, -1)}${last}.${encode(JSON.stringify(claims()))}`
        expect(Buffer.from(input, 'base64url').includes('at+jwt')).toBe(true)
        // Signed as spelled: only the spelling is wrong.
        expect(await judge(`${input}.${encode(await signBytes(key, input))}`)).toBe('malformed')
      }
    }
    const last = alphabet.charAt(alphabet.indexOf(token.slice(-1)) + 1)
    expect(await judge(token.slice(0, -1) + last)).toBe('malformed')
  })
})

describe('A36 the ES256 signature', () => {
  const N = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n
  const bytes = (number: bigint) => Buffer.from(number.toString(16).padStart(64, '0'), 'hex')
  const number = (buffer: Buffer) => BigInt(`0x${buffer.toString('hex')}`)
  const split = () => {
    const [h, p, s = ''] = token.split('.')
    const signature = Buffer.from(s, 'base64url')
    return { input: `${h}.${p}`, r: number(signature.subarray(0, 32)), s: number(signature.subarray(32)) }
  }

  it('A36 in DER is refused', async () => {
    const { input, r, s } = split()
    const integer = (value: bigint) => {
      const hex = value.toString(16)
      const even = hex.padStart(hex.length + (hex.length % 2), '0')
      const body = Buffer.from(/^[89a-f]/.test(even) ? `00${even}` : even, 'hex')
      return Buffer.concat([Buffer.from([2, body.length]), body])
    }
    const body = Buffer.concat([integer(r), integer(s)])
    const der = Buffer.concat([Buffer.from([0x30, body.length]), body])
    expect(await judge(`${input}.${encode(der)}`)).toBe('malformed')
    expect(lookups).toBe(0)
  })
  it('A36 with r or s zero or out of range is refused', async () => {
    const { input, r, s } = split()
    const pairs: [bigint, bigint][] = [
      [0n, 0n],
      [0n, s],
      [r, 0n],
      [N, s],
      [r, N],
      [N, N],
      [0n, N],
      [N + 1n, s],
      [1n, 1n],
      [2n ** 256n - 1n, s],
      [r, 2n ** 256n - 1n],
    ]
    for (const [first, second] of pairs) {
      const signature = Buffer.concat([bytes(first), bytes(second)])
      expect(await judge(`${input}.${encode(signature)}`)).toBe('signature_invalid')
    }
  })
  it('A36 of 0, 63, 65 and 128 bytes is refused', async () => {
    const { input, r, s } = split()
    const right = Buffer.concat([bytes(r), bytes(s)])
    const zero = Buffer.from([0])
    const wrong = [
      right.subarray(0, 63),
      right.subarray(1),
      Buffer.concat([right, zero]),
      Buffer.concat([zero, right]),
      Buffer.concat([right, right]),
    ]
    for (const signature of wrong) expect(await judge(`${input}.${encode(signature)}`)).toBe('malformed')
  })
  it('A36 with a high s and with a low s is accepted', async () => {
    const { input, r, s } = split()
    for (const either of [s, N - s]) {
      expect(await judge(`${input}.${encode(Buffer.concat([bytes(r), bytes(either)]))}`)).toBe('accepted')
    }
  })
  it('A36 made by another key is refused', async () => {
    expect(await judge(await mint(await createSigningKey('k1')))).toBe('signature_invalid')
  })
})

describe('A36 properties', () => {
  const character = fc.oneof(
    fc.constantFrom(...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n'),
    fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
  )

  it.each(['ES256', 'RS256', 'Ed25519'] as const)(
    'A36 an %s token with any one character replaced, removed or added is refused',
    async (alg) => {
      const other = await createSigningKey('k1', alg)
      const strict = verifierFor([other])
      const valid = await mint(other)
      expect(await outcome(strict.verify(valid))).toBe('accepted')
      await fc.assert(
        fc.asyncProperty(
          fc.nat(valid.length - 1),
          character,
          fc.constantFrom('replace', 'remove', 'add'),
          async (index, inserted, kind) => {
            const rest = valid.slice(kind === 'add' ? index : index + 1)
            const mutant = valid.slice(0, index) + (kind === 'remove' ? '' : inserted) + rest
            fc.pre(mutant !== valid)
            expect(await outcome(strict.verify(mutant))).not.toBe('accepted')
          },
        ),
        { numRuns: 500 },
      )
    },
  )

  it('A36 arbitrary strings are refused with a VerificationError and nothing else', async () => {
    const base64url = fc.uint8Array({ maxLength: 80 }).map((array) => encode(array))
    const json = fc.json().map(encode)
    const segment = fc.oneof(base64url, json, fc.constantFrom(...token.split('.')))
    const candidate = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(segment, { minLength: 2, maxLength: 5 }).map((segments) => segments.join('.')),
    )
    await fc.assert(
      fc.asyncProperty(candidate, async (text) => {
        fc.pre(text !== token)
        await expect(verifier.verify(text)).rejects.toBeInstanceOf(VerificationError)
      }),
      { numRuns: 1000 },
    )
  })

  it('A33 any signed JSON is accepted or refused with a VerificationError', async () => {
    const members = fc.dictionary(
      fc.constantFrom('iss', 'aud', 'exp', 'iat', 'nbf', 'sub', 'scope', 'cnf', 'partner_id', '__proto__'),
      fc.oneof(fc.jsonValue(), fc.constant(undefined)),
    )
    await fc.assert(
      fc.asyncProperty(members, async (overrides) => {
        const signed = await mint(key, overrides)
        expect(await outcome(verifier.verify(signed))).toEqual(expect.any(String))
      }),
      { numRuns: 300 },
    )
  })
})
