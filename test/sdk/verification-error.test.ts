import { beforeAll, describe, expect, it } from 'vitest'
import { VerificationError, type Verifier } from '#sdk'
import { createSigningKey, header, mint, type SigningKey, signText, verifierFor } from './issuer.ts'

let key: SigningKey
let verifier: Verifier
beforeAll(async () => {
  key = await createSigningKey('k1')
  verifier = verifierFor([key])
})

describe('VerificationError', () => {
  const failure = async (token: string, options = {}): Promise<VerificationError> => {
    const error = await verifier.verify(token, options).catch((caught: unknown) => caught)
    if (!(error instanceof VerificationError)) throw new Error('expected a VerificationError')
    return error
  }

  it('carries the status and the challenge of RFC 6750 §3', async () => {
    expect(await failure(await mint(key, { exp: 1 }))).toMatchObject({
      name: 'VerificationError',
      code: 'expired',
      status: 401,
      challenge: 'Bearer error="invalid_token", error_description="The access token has expired"',
    })
    expect(await failure(await mint(key), { scopes: ['a', 'b'] })).toMatchObject({
      status: 403,
      challenge:
        'Bearer error="insufficient_scope", error_description="The access token lacks a required scope", scope="a b"',
    })
    expect(await failure(await mint(key), { organizationId: 'org_2' })).toMatchObject({
      status: 403,
      challenge:
        'Bearer error="insufficient_scope", error_description="The access token is for another organization"',
    })
  })
  it('never holds the token or the value of a claim', async () => {
    const secret = 'SECRETVALUE'
    const tokens = await Promise.all([
      mint(key, { iss: secret }),
      mint(key, { aud: secret }),
      mint(key, { sub: [secret] }),
      mint(key, { scope: `${secret}"` }),
      mint(key, { exp: secret }),
      mint(key, {}, { kid: secret }),
      mint(key, {}, { alg: secret }),
      mint(key, {}, { typ: secret }),
      mint(key, {}, { crit: [secret] }),
      mint(await createSigningKey('k1'), { sub: secret }),
      signText(key, JSON.stringify(header(key)), `{${secret}`),
      `${secret}.${secret}`,
    ])
    for (const token of tokens) {
      const error = await failure(token)
      const { stack, ...own } = error
      const shown = JSON.stringify([own, error.message, error.challenge, stack, String(error.cause)])
      expect(shown).not.toContain(secret)
      expect(shown).not.toContain(token.slice(0, 40))
      expect(error.cause).toBeUndefined()
    }
  })
})
