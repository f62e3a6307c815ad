/**
 * Client assertions (RFC 7523 §2.2, §3; audience by RFC 10070 §4): a JWT signed with a private key that the client keeps.
 * Good for one request, at whichever instance.
 */
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { createBounded } from '../database/bounded.ts'
import type { Environment } from '../database/schema.ts'
import { evaluateAssertion } from './assertion-claims.ts'
import { parseAssertion } from './assertion-form.ts'
import type { Credential } from './keys.ts'
import type { PresentedAssertion, Proof } from './proof.ts'
import { createFindSigner, createKeyRegister, type RegisteredKeys } from './registered-keys.ts'
import type { AssertionStore } from './store.ts'

export { ASSERTION_ALGORITHMS } from './public-jwk.ts'

export type Assertions = {
  /** Undefined: it is no assertion that could prove anything. */
  proofOf(presented: PresentedAssertion): Proof | undefined
}

/** RFC 10070 §6: until the last of them is new. */
const OLD_AUDIENCE = 'a client assertion was taken whose audience is the token endpoint'

/** Whether it is the first use: without the answer nobody is let in. */
const USES = {
  maxPending: 500,
  deadlineMilliseconds: 500,
  detail: 'Assertions cannot be checked at the moment.',
}

export function createAssertions(dependencies: {
  store: AssertionStore
  cacheSize: number
  now: Clock
  issuerOf: (environment: Environment) => string
  /** For clients that are older than RFC 10070: its token endpoint is an audience too, as the only value. */
  acceptsTokenEndpoint: boolean
  log: Pick<Logger, 'warn' | 'error'>
}): Assertions {
  const { store, cacheSize, now, issuerOf, acceptsTokenEndpoint, log } = dependencies
  const bounded = createBounded(USES)
  const findSigner = createFindSigner()
  const register = createKeyRegister({
    store,
    cacheSize,
    onUnusable: (keyId) => log.error({ keyId }, 'a public key cannot be used'),
  })

  function evaluate({ assertion, clientId, environment }: PresentedAssertion) {
    const form = parseAssertion(assertion)
    if (!form) return undefined
    const issuer = issuerOf(environment)
    const claims = evaluateAssertion(form.payload, {
      issuer,
      tokenEndpoint: acceptsTokenEndpoint ? `${issuer}/oauth2/token` : undefined,
      clientId,
      nowSeconds: now() / 1000,
    })
    return claims && { form, claims }
  }

  return {
    proofOf(presented) {
      const evaluated = evaluate(presented)
      if (!evaluated) return undefined
      const { form, claims } = evaluated
      const { clientId } = claims
      const tried = new Set<string>()
      let seen: RegisteredKeys | undefined
      let firstUse: Promise<boolean> | undefined

      /** Whoever has signed it; once that and all that it says has been found good, it is used up. */
      async function prove(): Promise<Credential | undefined> {
        const credential = await findSigner(presented.assertion, form, seen, tried)
        if (!credential || credential.client.environment !== presented.environment) return undefined
        if (!firstUse) {
          firstUse = bounded(() => store.useAssertion(claims))
          if (claims.audience === 'token_endpoint' && (await firstUse)) log.warn({ clientId }, OLD_AUDIENCE)
        }
        return (await firstUse) ? credential : undefined
      }

      return {
        async recall() {
          seen = register.recall(clientId)
          return seen && prove()
        },
        async authenticate() {
          // Used before, by the judgement of a key that was the client's: no other key can make it new.
          if (firstUse && !(await firstUse)) return undefined
          seen = await register.read(clientId, seen, { settle: false })
          return prove()
        },
        async authenticateAgain(judged, options) {
          seen = await register.read(clientId, seen, options)
          return seen?.find(({ credential }) => credential.key.id === judged.key.id)?.credential
        },
      }
    },
  }
}
