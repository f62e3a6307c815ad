/** Clients that hold a key pair: the pair, what they register of it, and what they sign with it. */
import {
  constants,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomUUID,
  sign as signBytes,
} from 'node:crypto'
import type { Sql } from 'postgres'
import { newId } from '../../src/ids.ts'
import { evaluateJwk } from '../../src/keys/public-jwk.ts'
import type { SeededClient } from '../support/seed.ts'
import { ISSUER, SANDBOX_ISSUER } from '../support/service.ts'

export type Algorithm = 'RS256' | 'PS256' | 'ES256' | 'ES384' | 'EdDSA' | 'Ed25519'
export type Jwk = Record<string, unknown>
export type Pair = { alg: Algorithm; privateKey: KeyObject; jwk: Jwk }

const GENERATE: Record<Algorithm, () => { privateKey: KeyObject }> = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  PS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
  Ed25519: () => generateKeyPairSync('ed25519'),
}

/** `jwk` names its algorithm, and its `kid` where one is given. */
export function makePair(alg: Algorithm = 'ES256', kid?: string): Pair {
  const { privateKey } = GENERATE[alg]()
  const members = createPublicKey(privateKey).export({ format: 'jwk' })
  return { alg, privateKey, jwk: { ...members, alg, ...(kid === undefined ? {} : { kid }) } }
}

const encode = (part: string | object) =>
  Buffer.from(typeof part === 'string' ? part : JSON.stringify(part)).toString('base64url')

/** Signed as the pair's algorithm has it, whatever the header says. */
export function sign({ alg, privateKey }: Pair, header: string | object, payload: string | object): string {
  const input = `${encode(header)}.${encode(payload)}`
  const digest = alg === 'EdDSA' || alg === 'Ed25519' ? null : alg === 'ES384' ? 'sha384' : 'sha256'
  const options =
    alg === 'PS256'
      ? { key: privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }
      : { key: privateKey, dsaEncoding: 'ieee-p1363' as const }
  return `${input}.${signBytes(digest, Buffer.from(input), options).toString('base64url')}`
}

export type Client = Pick<SeededClient, 'clientId' | 'environment'>
export type Changes = { header?: object; claims?: object }

export const issuerOf = ({ environment }: Pick<Client, 'environment'>) =>
  environment === 'production' ? ISSUER : SANDBOX_ISSUER

/** What a good assertion says; a member that is `undefined` in `changes` is left out. */
export function assertionOf(client: Client, pair: Pair, { header, claims }: Changes = {}): string {
  const now = Math.floor(Date.now() / 1000)
  return sign(
    pair,
    { alg: pair.alg, typ: 'client-authentication+jwt', kid: pair.jwk.kid, ...header },
    {
      iss: client.clientId,
      sub: client.clientId,
      aud: issuerOf(client),
      jti: randomUUID(),
      iat: now,
      exp: now + 60,
      ...claims,
    },
  )
}

/** Registers the pair's public key without asking anybody; resolves to the key's id. */
export async function seedPublicKey(sql: Sql, clientId: string, { jwk }: Pick<Pair, 'jwk'>): Promise<string> {
  const verdict = evaluateJwk(jwk)
  if (!verdict.ok) throw new Error(verdict.rule)
  const id = newId('key')
  await sql`insert into keys (id, client_id, public_jwk) values (${id}, ${clientId}, ${sql.json(verdict.jwk)})`
  return id
}
