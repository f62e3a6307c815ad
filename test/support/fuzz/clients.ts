/** Clients that authenticate at OAuth's endpoints, and the tokens that they were given. */
import { createHash, generateKeyPairSync, type KeyObject, randomUUID, sign } from 'node:crypto'
import type { Plan } from './plan.ts'

export type Secret = { key: string; organizationId: string; clientId: string }
type KeyPair = { publicJwk: Record<string, unknown>; privateKey: KeyObject }

/** For clients to register: their private halves are here, so that assertions can be signed. */
const KEY_PAIRS: readonly KeyPair[] = Array.from({ length: 6 }, (_, n) => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return {
    publicJwk: { ...publicKey.export({ format: 'jwk' }), kid: `fuzz-${n}`, alg: 'ES256', use: 'sig' },
    privateKey,
  }
})
export const PUBLIC_JWKS = KEY_PAIRS.map(({ publicJwk }) => publicJwk)

const JWT_BEARER = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
/** As strict clients have it: every character that may be encoded is (RFC 6749 appendix B). */
const formEncode = (text: string) =>
  text.replace(/[^A-Za-z0-9]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)

export function createClients(issuerOf: (isSandbox: boolean) => string) {
  /** By client. */
  const registered = new Map<string, KeyPair>()
  const tokens = new Map<string, string>()

  function assertionOf({ clientId }: Secret, isSandbox: boolean, n: number): string {
    const { privateKey, publicJwk } = registered.get(clientId) ?? KEY_PAIRS[n % KEY_PAIRS.length] ?? fail()
    const now = Math.floor(Date.now() / 1000)
    const input = `${encode({ alg: 'ES256', kid: publicJwk.kid as string, typ: 'client-authentication+jwt' })}.${encode(
      {
        iss: clientId,
        sub: clientId,
        aud: issuerOf(isSandbox),
        jti: randomUUID(),
        iat: now,
        exp: now + 60,
      },
    )}`
    const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' })
    return `${input}.${signature.toString('base64url')}`
  }

  return {
    /** What a POST of a client's key set has put there. */
    register(clientId: string, jwks: { keys?: { x?: unknown }[] }) {
      const known = KEY_PAIRS.find(({ publicJwk }) => publicJwk.x === jwks.keys?.[0]?.x)
      if (known) registered.set(clientId, known)
    },
    isRegistered: ({ clientId }: Secret) => registered.has(clientId),
    keep(token: string, claims: { client_id?: string }) {
      if (claims.client_id !== undefined) tokens.set(claims.client_id, token)
    },
    /** The last that the client was given. */
    tokenOf: ({ clientId }: Secret): string | undefined => tokens.get(clientId),

    /** Header and parameters by which the client authenticates as the plan says. */
    authenticate(
      { credential, clientPresentation, secret: n }: Plan,
      client: Secret | undefined,
      isSandbox: boolean,
    ): { headers: [string, string][]; pairs: [string, string][] } {
      const basic = (id: string, secret: string): [string, string][] => [
        ['Authorization', `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`],
      ]
      if (credential === 'none' || !client) return { headers: [], pairs: [] }
      const { clientId, key } = client
      const post: [string, string][] = [
        ['client_id', clientId],
        ['client_secret', key],
      ]
      if (credential === 'garbage')
        return { headers: basic(clientId, createHash('sha256').update(key).digest('hex')), pairs: [] }
      if (credential === 'several') return { headers: basic(clientId, key), pairs: post }
      switch (clientPresentation) {
        case 'basic':
          return { headers: basic(clientId, key), pairs: n % 5 === 0 ? [['client_id', clientId]] : [] }
        case 'encoded':
          return { headers: basic(formEncode(clientId), formEncode(key)), pairs: [] }
        case 'post':
          return { headers: [], pairs: post }
        case 'assertion':
          return {
            headers: [],
            pairs: [
              ['client_assertion_type', JWT_BEARER],
              ['client_assertion', assertionOf(client, isSandbox, n)],
            ],
          }
      }
    },
  }
}

const fail = (): never => {
  throw new Error('there are no key pairs')
}
