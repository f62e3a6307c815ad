import type { webcrypto } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createVerifier, type VerificationAlgorithm, VerificationError, type VerifierOptions } from '#sdk'

export const ISSUER = 'https://signet.example'
export const AUDIENCE = 'https://api.example'
/** The fixed clock of these tests, in seconds. */
export const NOW = 1_795_300_000

export type Json = Record<string, unknown>
export type SigningKey = { kid: string; alg: VerificationAlgorithm; publicJwk: Json; privateKey: CryptoKey }

const WEB_CRYPTO = {
  ES256: { generate: { name: 'ECDSA', namedCurve: 'P-256' }, sign: { name: 'ECDSA', hash: 'SHA-256' } },
  ES384: { generate: { name: 'ECDSA', namedCurve: 'P-384' }, sign: { name: 'ECDSA', hash: 'SHA-384' } },
  RS256: {
    generate: {
      name: 'RSASSA-PKCS1-v1_5',
      hash: 'SHA-256',
      modulusLength: 2048,
      publicExponent: new Uint8Array([1, 0, 1]),
    },
    sign: { name: 'RSASSA-PKCS1-v1_5' },
  },
  Ed25519: { generate: { name: 'Ed25519' }, sign: { name: 'Ed25519' } },
}
type TestAlgorithm = keyof typeof WEB_CRYPTO

export async function createSigningKey(kid: string, alg: TestAlgorithm = 'ES256'): Promise<SigningKey> {
  const usages: ('sign' | 'verify')[] = ['sign', 'verify']
  const generated = await crypto.subtle.generateKey(WEB_CRYPTO[alg].generate, true, usages)
  const { publicKey, privateKey } = generated as webcrypto.CryptoKeyPair
  const { key_ops: _, ext: __, ...jwk } = await crypto.subtle.exportKey('jwk', publicKey)
  return { kid, alg, publicJwk: { ...jwk, kid, alg, use: 'sig' }, privateKey }
}

export const encode = (input: string | Uint8Array) => Buffer.from(input).toString('base64url')

export function claims(overrides: Json = {}): Json {
  return {
    iss: ISSUER,
    sub: 'cli_1',
    aud: AUDIENCE,
    iat: NOW - 10,
    exp: NOW + 300,
    jti: 'tok_1',
    client_id: 'cli_1',
    scope: 'transactions:read person:write',
    organization_id: 'org_1',
    environment: 'production',
    key_id: 'key_1',
    ...overrides,
  }
}

export const header = (key: SigningKey, overrides: Json = {}): Json => ({
  typ: 'at+jwt',
  alg: key.alg,
  kid: key.kid,
  ...overrides,
})

/** Signs exactly these texts, valid JSON or not: what no library would sign for us. */
export async function signText(
  key: SigningKey,
  headerText: string | Uint8Array,
  payloadText: string | Uint8Array,
): Promise<string> {
  const input = `${encode(headerText)}.${encode(payloadText)}`
  return `${input}.${encode(await signBytes(key, input))}`
}

export async function signBytes(key: SigningKey, input: string): Promise<Uint8Array> {
  const { sign } = WEB_CRYPTO[key.alg as TestAlgorithm]
  return new Uint8Array(await crypto.subtle.sign(sign, key.privateKey, Buffer.from(input)))
}

/** A token with these header members and claims over valid ones; a member set to undefined is left out. */
export const mint = (key: SigningKey, claimOverrides: Json = {}, headerOverrides: Json = {}) =>
  signText(key, JSON.stringify(header(key, headerOverrides)), JSON.stringify(claims(claimOverrides)))

export const verifierFor = (keys: SigningKey[], options: Partial<VerifierOptions> = {}) =>
  createVerifier({
    issuer: ISSUER,
    audience: AUDIENCE,
    now: () => NOW * 1000,
    ...('jwksUri' in options || 'jwks' in options
      ? {}
      : { jwks: { keys: keys.map((key) => key.publicJwk) } }),
    ...options,
  })

/** How a verification ended: 'accepted', or the code of the VerificationError. Anything else is rethrown. */
export async function outcome(verification: Promise<unknown>): Promise<string> {
  try {
    await verification
    return 'accepted'
  } catch (error) {
    if (error instanceof VerificationError) return error.code
    throw error
  }
}

export type Answer = { status?: number; headers?: Record<string, string>; body?: string; hang?: boolean }

/** A JWKS server on the loopback that counts what it is asked. `answer` may be replaced at any time. */
export async function startServer(answer: () => Answer) {
  const server = {
    answer,
    paths: [] as string[],
    origin: '',
    close: () => {
      http.closeAllConnections()
      return new Promise((resolve) => http.close(resolve))
    },
  }
  const http = createServer((request, response) => {
    server.paths.push(request.url ?? '')
    const { status = 200, headers = {}, body = '', hang = false } = server.answer()
    if (hang) return
    response.writeHead(status, { 'content-type': 'application/jwk-set+json', ...headers }).end(body)
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  server.origin = `http://127.0.0.1:${(http.address() as AddressInfo).port}`
  return server
}

export const jwksBody = (keys: SigningKey[], more: unknown[] = []): Answer => ({
  body: JSON.stringify({ keys: [...keys.map((key) => key.publicJwk), ...more] }),
})
