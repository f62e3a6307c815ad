/** How a client proves to be who it says it is: a key, or an assertion signed with a private key of its own. */
import type { ReadOptions } from '../database/policy-cache.ts'
import type { Environment } from '../database/schema.ts'
import type { Assertions } from './assertion.ts'
import type { KeyFormat } from './key-format.ts'
import type { Credential, Keys } from './keys.ts'
import type { PresentedKey } from './presented-key.ts'

export type Presented = PresentedKey | PresentedSecret | PresentedAssertion

/** A key as OAuth has it (RFC 6749 §2.3.1): the client's secret, beside the client's id. */
export type PresentedSecret = {
  kind: 'client_secret'
  clientId: string
  secret: string
  /** Of the issuer that is asked. */
  environment: Environment
}

/** RFC 7523 §2.2. */
export type PresentedAssertion = {
  kind: 'client_assertion'
  assertion: string
  /** The body's `client_id`, where there is one. */
  clientId: string | undefined
  environment: Environment
}

/** Why nothing that was presented can prove anything. */
export type Unproven = {
  reason: 'key_missing' | 'key_malformed' | 'several_credentials' | 'access_token_presented'
}

/** What was presented, on its way to a credential: the rows of the very key that it proves, and of nobody else's. */
export type Proof = {
  /** By what is in memory, which may be old. Undefined: ask the database. */
  recall(): Credential | undefined | Promise<Credential | undefined>
  /** Undefined: it proves nothing; unknown and wrong look the same. Rejects with ApiError `unavailable`. */
  authenticate(): Promise<Credential | undefined>
  /** Of what was proved: rows younger than `judged`. */
  authenticateAgain(judged: Credential, options: ReadOptions): Promise<Credential | undefined>
}

export type Prove = (presented: Presented) => Proof | Unproven

export function createProve(dependencies: {
  keyFormat: KeyFormat
  keys: Keys
  assertions: Assertions
}): Prove {
  const { keyFormat, keys, assertions } = dependencies

  /** `isMeant`: whether the key that was proved is also the one that was named. */
  function proofOf(text: string, isMeant: (credential: Credential) => boolean): Proof | Unproven {
    const key = keyFormat.parse(text)
    if (!key) return { reason: 'key_malformed' }
    const meant = (credential: Credential | undefined) =>
      credential && isMeant(credential) ? credential : undefined
    return {
      recall: () => meant(keys.recall(key)),
      authenticate: async () => meant(await keys.authenticate(key)),
      authenticateAgain: async (judged, options) => meant(await keys.authenticateAgain(key, judged, options)),
    }
  }

  return function prove(presented) {
    switch (presented.kind) {
      case 'none':
        return { reason: 'key_missing' }
      case 'several':
        return { reason: 'several_credentials' }
      case 'access_token':
        return { reason: 'access_token_presented' }
      case 'text':
        return proofOf(presented.text, () => true)
      case 'client_secret': {
        const { clientId, environment, secret } = presented
        return proofOf(secret, ({ client }) => client.id === clientId && client.environment === environment)
      }
      case 'client_assertion':
        return assertions.proofOf(presented) ?? { reason: 'key_malformed' }
    }
  }
}
