/** What refusals cost whoever gets them: a refusal takes reads, and who has had too many lately gets a 429 without one. */
import type { Credential } from '../keys/keys.ts'
import type { Usage } from '../ledger/usage.ts'
import { sourceOf } from '../network/address.ts'
import type { Throttle } from '../network/throttle.ts'
import type { Refusal } from './denial.ts'
import type { Denial } from './policy.ts'

type FailedReason = 'key_missing' | 'key_malformed' | 'key_unknown'
type Who = { credential: Credential; clientAddress: string }

export function createBrakes(dependencies: {
  /** By source, never by the key that was named: else whoever knows a key's first characters could lock it out. */
  failures: Throttle
  /** By client. */
  denials: Throttle
  usage: Pick<Usage, 'countDenied'>
}) {
  const { failures, denials, usage } = dependencies

  async function check(throttle: Throttle, id: string): Promise<Refusal | undefined> {
    const retryAfterSeconds = await throttle.blockedSeconds(id)
    return retryAfterSeconds === undefined
      ? undefined
      : { ok: false, reason: 'too_many_refusals', retryAfterSeconds }
  }

  const checkSource = (clientAddress: string) => check(failures, sourceOf(clientAddress))
  const checkClient = ({ client }: Credential) => check(denials, client.id)

  return {
    /** Before a credential is looked for. Undefined: go on. */
    checkSource,
    /** Before what a client alone makes us read. Undefined: go on. */
    checkClient,

    /** Before a denial is made sure of. Undefined: go on. */
    checkDenied: (denial: Denial, { credential, clientAddress }: Who) =>
      isFailedAuthentication(denial) ? checkSource(clientAddress) : checkClient(credential),

    /** Nothing was proved. */
    async fail(reason: FailedReason, clientAddress: string): Promise<Refusal> {
      const braked = await checkSource(clientAddress)
      if (braked) return braked
      await failures.record(sourceOf(clientAddress))
      return { ok: false, reason }
    },

    /** It is denied, by rows just read. */
    async deny(denial: Denial, { credential, clientAddress }: Who): Promise<Refusal> {
      if (isFailedAuthentication(denial)) await failures.record(sourceOf(clientAddress))
      else {
        await denials.record(credential.client.id)
        usage.countDenied(credential.client.id)
      }
      return denial
    },
  }
}

/** An expired or revoked key is none; whatever else is refused was asked for by a good one. */
function isFailedAuthentication({ reason }: Denial): boolean {
  return reason === 'key_expired' || reason === 'key_revoked' || reason === 'client_revoked'
}
