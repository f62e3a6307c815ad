/** A key on the wire. The key itself is in the answer that makes it, once; everywhere else there is its prefix. */
import * as v from 'valibot'
import { environment, id, isoOf, timestamp } from '../management/wire.ts'
import { REVOCATION_REASONS } from './lifecycle.ts'
import { KEY_STATUSES, type KeyRow } from './store.ts'

export const keyStatus = () => v.picklist(KEY_STATUSES, `must be one of ${KEY_STATUSES.join(', ')}`)

const members = {
  id: id('key'),
  client_id: id('client'),
  client_name: v.pipe(v.string(), v.examples(['Integration'])),
  organization_id: id('organization'),
  environment: environment(),
  prefix: v.pipe(
    v.string(),
    v.description('Its first 15 characters, to recognize it by.'),
    v.examples(['sgt_live_4fZk9Q']),
  ),
  created_at: timestamp(),
  last_used_at: v.pipe(v.nullable(timestamp()), v.description('Some seconds late.')),
  last_used_ip: v.pipe(v.nullable(v.string()), v.examples(['203.0.113.7'])),
  expires_at: v.pipe(v.nullable(timestamp()), v.description('Null: it does not expire.')),
  status: keyStatus(),
  revoked_at: v.nullable(timestamp()),
  revocation_reason: v.nullable(v.picklist(REVOCATION_REASONS)),
  tokens_revoked_at: v.pipe(
    v.nullable(timestamp()),
    v.description('Since when the tokens that it minted count as revoked too.'),
  ),
  created_by: v.pipe(
    v.nullable(id('client')),
    v.description('The client that made it, or the key that it was renewed from. Null: the first start.'),
  ),
  replaces: v.pipe(v.nullable(id('key')), v.description('The key that was renewed by it.')),
  replaced_by: v.pipe(
    v.nullable(id('key')),
    v.description('The key that it was renewed by. That one lives on when this one is revoked.'),
  ),
}

/** Why a key or a token is revoked, in the body that revokes it. */
export const revocationReason = () =>
  v.optional(v.picklist(REVOCATION_REASONS, `must be one of ${REVOCATION_REASONS.join(', ')}`), 'unspecified')

export const Key = v.pipe(v.strictObject(members), v.title('Key'))

const onceShown = {
  key: v.pipe(
    v.nullable(v.string()),
    v.description('The key. It is in this answer only and is not kept; null where the answer is repeated.'),
    v.examples(['sgt_live_4fZk9Q…']),
  ),
  notice: v.pipe(
    v.nullable(v.string()),
    v.description('Why there is no key; null where there is one.'),
    v.examples([null]),
  ),
}

export const CreatedKey = v.pipe(v.strictObject({ ...members, ...onceShown }), v.title('CreatedKey'))

export const RenewedKey = v.pipe(
  v.strictObject({
    ...members,
    ...onceShown,
    replaced: v.pipe(
      v.strictObject({ id: id('key'), expires_at: timestamp() }),
      v.description('The key that was renewed, and until when it still works.'),
    ),
  }),
  v.title('RenewedKey'),
)

export const toWire = (row: KeyRow) => ({
  id: row.id,
  client_id: row.clientId,
  client_name: row.clientName,
  organization_id: row.organizationId,
  environment: row.environment,
  prefix: row.prefix,
  created_at: isoOf(row.createdAt),
  last_used_at: isoOf(row.lastUsedAt),
  last_used_ip: row.lastUsedIp,
  expires_at: isoOf(row.expiresAt),
  status: row.status,
  revoked_at: isoOf(row.revokedAt),
  revocation_reason: row.revocationReason,
  tokens_revoked_at: isoOf(row.tokensRevokedAt),
  created_by: row.createdBy,
  replaces: row.replaces,
  replaced_by: row.replacedBy,
})

const NOTICE =
  'The key was shown once, in the first answer to this request, and is not kept. If that answer was lost, revoke this ' +
  'key and create another.'

/** The answer that shows a key, and the one that repeats it without. */
export const showOnce = (resource: object, key: string) => ({
  resource: { ...resource, key, notice: null },
  replay: { ...resource, key: null, notice: NOTICE },
})
