/**
 * What a key may ask about itself and do for itself. It proves itself as in the exchange and is judged by the same
 * rules, but by rows just read, in the transaction of what it asks for: here no admission checks them again.
 */
import type { Clock } from '../clock.ts'
import type { InTransaction, Transaction } from '../database/transaction.ts'
import { ApiError, ERRORS } from '../errors.ts'
import type { Usage } from '../ledger/usage.ts'
import type { ChangeAnswer, PerformChange } from '../management/change.ts'
import { enterTenant } from '../management/store.ts'
import { isoOf } from '../management/wire.ts'
import { sourceOf } from '../network/address.ts'
import type { Evenly } from '../network/even-time.ts'
import type { Throttle } from '../network/throttle.ts'
import { checkExpiry, expiryError, issueKey } from './issue.ts'
import type { KeyFormat, ParsedKey } from './key-format.ts'
import { type Credential, type Keys, toCredential } from './keys.ts'
import { latestExpiryOfRenewed } from './lifecycle.ts'
import type { PresentedKey } from './presented-key.ts'
import { keyRefusalToApiError, refuseKey } from './refusal.ts'
import { showOnce, toWire } from './resource.ts'
import { findKeyDenial } from './standing.ts'
import { createKeyStore, type KeyRow } from './store.ts'

/** Whoever has proved to hold a key. Whether it is still good for anything is not known yet. */
export type KeyHolder = {
  key: ParsedKey
  /** Perhaps of rows that are old. */
  credential: Credential
  clientAddress: string
  origin: string | undefined
}

/** What holds up refusals, and whose count they go to. */
type Brake = { throttle: Throttle; id: string }

/** The rows that a key was found good by. */
export type Validated = { row: KeyRow; client: Credential['client']; owner: Credential['owner'] }

export type Renewal = { overlapSeconds: number; expiresAt: Date | undefined }

export type RenewalRequest = {
  requestId: string
  /** Called once the key has been found good. */
  read: () => { idempotencyKey: string | undefined; body: unknown }
  /** Throws ApiError when the body breaks a rule. */
  toRenewal: (body: unknown) => Renewal
  problemOf: (refusal: ApiError) => string
}

/** All of it throws ApiError: what the exchange throws of keys, `unavailable`, and `renew` what a change throws. */
export type SelfService = {
  /** To be called before the body is read. */
  authenticate(request: {
    presented: PresentedKey
    clientAddress: string
    origin: string | undefined
  }): Promise<KeyHolder>
  validate(holder: KeyHolder): Promise<Validated>
  renew(holder: KeyHolder, request: RenewalRequest): Promise<ChangeAnswer>
}

/** `POST /v2/auth/renew`, whose key is part of what is asked for. */
const RENEW = '/v2/auth/renew'

export function createSelfService(dependencies: {
  keyFormat: KeyFormat
  keys: Keys
  /** Both on connections of their own: what keys do for themselves holds up nobody who manages them. */
  inTransaction: InTransaction
  performChange: PerformChange
  /** By source; the same as the exchange's. */
  failures: Throttle
  /** By client; the same as the exchange's. */
  denials: Throttle
  usage: Pick<Usage, 'keyUsed'>
  evenly: Evenly
  now: Clock
}): SelfService {
  const { keyFormat, keys, evenly, inTransaction, performChange, failures, denials, usage, now } =
    dependencies

  async function checkBrake({ throttle, id }: Brake): Promise<void> {
    const retryAfterSeconds = await throttle.blockedSeconds(id)
    if (retryAfterSeconds !== undefined)
      throw keyRefusalToApiError({ ok: false, reason: 'too_many_refusals', retryAfterSeconds })
  }

  const sourceBrake = (clientAddress: string): Brake => ({ throttle: failures, id: sourceOf(clientAddress) })

  /** Undefined: it is no refusal of the key. */
  function brakeOf(error: unknown, { credential, clientAddress }: KeyHolder): Brake | undefined {
    if (!(error instanceof ApiError)) return undefined
    // An expired or revoked key is none; whatever else is refused was asked for by a good one.
    if (error.code === 'invalid_key') return sourceBrake(clientAddress)
    return ERRORS[error.code].status === 403 ? { throttle: denials, id: credential.client.id } : undefined
  }

  async function failed(
    reason: 'key_missing' | 'key_malformed' | 'key_unknown',
    clientAddress: string,
  ): Promise<ApiError> {
    const brake = sourceBrake(clientAddress)
    await checkBrake(brake)
    await brake.throttle.record(brake.id)
    return refuseKey(reason)
  }

  /** Refusing a key costs reads: of one that memory would refuse, too many lately get a 429 without any. */
  async function judgeBy<T>(holder: KeyHolder, work: () => Promise<T>): Promise<T> {
    const { key, credential, clientAddress, origin } = holder
    const guess = findKeyDenial(credential, { now: now(), clientAddress, origin })
    const expected = guess && brakeOf(keyRefusalToApiError(guess), holder)
    if (expected) await checkBrake(expected)
    try {
      return await work()
    } catch (error) {
      const brake = brakeOf(error, holder)
      if (brake) {
        await brake.throttle.record(brake.id)
        // What memory did not know it is told now, or it would never refuse the next one.
        if (!guess) await keys.authenticateAgain(key, credential, { settle: false }).catch(() => {})
      }
      throw error
    }
  }

  /** Makes the transaction that of the key's tenant, and judges the key by what it says there. */
  async function enter(transaction: Transaction, holder: KeyHolder, options: { isChange: boolean }) {
    const { credential, clientAddress, origin } = holder
    await enterTenant(transaction, credential.owner.id)
    const store = createKeyStore(transaction)
    if (options.isChange) await store.lockClient(credential.client.id)
    const rows = await store.findCredentialOf(credential.key.id, { lock: options.isChange })
    if (!rows) throw refuseKey('key_unknown')
    const { key, client, owner, now } = rows
    const denial = findKeyDenial(toCredential(rows), { now: now.getTime(), clientAddress, origin })
    if (denial) throw keyRefusalToApiError(denial)
    return { store, key, client, owner, now }
  }
  type Entered = Awaited<ReturnType<typeof enter>>

  return {
    authenticate: evenly(async ({ presented, clientAddress, origin }) => {
      if (presented.kind === 'several') throw refuseKey('several_credentials')
      if (presented.kind === 'access_token') throw refuseKey('access_token_presented')
      if (presented.kind === 'none') throw await failed('key_missing', clientAddress)
      const key = keyFormat.parse(presented.text)
      if (!key) throw await failed('key_malformed', clientAddress)
      // Whose key it is never changes, so memory may say it. A source that failed too often gets no reads.
      let credential = keys.recall(key)
      if (!credential) {
        await checkBrake(sourceBrake(clientAddress))
        credential = await keys.authenticate(key)
      }
      if (!credential) throw await failed('key_unknown', clientAddress)
      return { key, credential, clientAddress, origin }
    }, isRefusal),

    async validate(holder) {
      const { clientAddress } = holder
      const validated = await judgeBy(holder, () =>
        inTransaction(holder.credential.client.id, async (transaction) => {
          const { store, key, client, owner } = await enter(transaction, holder, { isChange: false })
          const row = await store.find(key.id)
          if (!row) throw refuseKey('key_unknown')
          return { row, client, owner }
        }),
      )
      usage.keyUsed(validated.row.id, clientAddress)
      return validated
    },

    async renew(holder, { requestId, read, toRenewal, problemOf }) {
      const { credential, clientAddress } = holder
      const request = {
        method: 'POST',
        template: RENEW,
        path: `${RENEW}#${credential.key.id}`,
        share: credential.client.id,
        read,
        clientAddress,
        requestId,
      }
      const answer = await judgeBy(holder, () =>
        performChange(request, {
          async begin(transaction) {
            const entered = await enter(transaction, holder, { isChange: true })
            const { key, client, owner } = entered
            const actor = { clientId: client.id, keyId: key.id, organizationId: owner.id, isPlatform: false }
            return { ...entered, actor }
          },
          effect: async (_transaction, entered, body) => renewal(entered, toRenewal(body)),
          status: 201,
          problemOf,
        }),
      )
      usage.keyUsed(credential.key.id, clientAddress)
      return answer
    },
  }

  /** Once the key is found good, and nobody else can change it or make another of its client. */
  async function renewal({ store, key: replaced, client, owner, now }: Entered, asked: Renewal) {
    const { overlapSeconds, expiresAt } = asked
    checkExpiry(expiresAt, now)
    const latest = latestExpiryOfRenewed(replaced, now)
    if (expiresAt && latest && expiresAt > latest)
      throw expiryError('must not give the new key a longer life than the one that it replaces had')
    if (await store.isReplaced(replaced.id))
      throw new ApiError('conflict', 'The key has been renewed already; a key is renewed once.')
    // First the old one's end: where there is no overlap, that makes room for the new one.
    const endsAt = await store.endAfter(replaced.id, overlapSeconds)
    const { key, row } = await issueKey(store, keyFormat, {
      client,
      expiresAt: expiresAt ?? latest,
      createdBy: replaced.createdBy,
      replaces: replaced.id,
    })
    const resource = { ...toWire(row), replaced: { id: replaced.id, expires_at: isoOf(endsAt) } }
    const { prefix, expires_at, replaces } = resource
    return {
      ...showOnce(resource, key),
      location: `/v2/keys/${row.id}`,
      change: {
        organizationId: owner.id,
        action: 'key.renew',
        targetId: row.id,
        before: { replaced: { id: replaced.id, expires_at: isoOf(replaced.expiresAt) } },
        after: { prefix, expires_at, replaces, replaced: resource.replaced },
      },
    }
  }
}

const isRefusal = (_holder: unknown, error: unknown): boolean => error instanceof ApiError
