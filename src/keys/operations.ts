/** Keys, over the management API. */
import * as v from 'valibot'
import { brokenRule, notFound } from '../errors.ts'
import { change, differences, list, type Operation, read } from '../management/operation.ts'
import { isPlatforms, keepAdministrators } from '../management/store.ts'
import { moment } from '../management/wire.ts'
import { checkExpiry, checkMayMakeKeys, issueKey } from './issue.ts'
import { jwksOperations } from './jwks.ts'
import type { KeyFormat } from './key-format.ts'
import { MAX_LIVE_KEYS, revocationChanges } from './lifecycle.ts'
import { CreatedKey, Key, keyStatus, revocationReason, showOnce, toWire } from './resource.ts'
import { createKeyStore, type KeyRow, type KeyStore } from './store.ts'

const tag = 'Keys'

export const createKeyOperations = ({ keyFormat }: { keyFormat: KeyFormat }): readonly Operation[] => [
  change({
    id: 'createKey',
    method: 'POST',
    path: '/v2/clients/{client_id}/keys',
    tag,
    summary: 'Create a key',
    description:
      `For an active client, which has at most ${MAX_LIVE_KEYS} keys that are neither expired nor revoked, public ones ` +
      'included. The key is ' +
      'in this answer only: when the request is repeated with its Idempotency-Key, the answer has none and says so. For ' +
      'a client with management scopes, by one that holds them too.',
    scope: 'signet:keys:write',
    errors: ['client_pending_approval', 'client_suspended'],
    resource: CreatedKey,
    status: 201,
    body: v.strictObject({ expires_at: v.optional(moment()) }),
    isBodyOptional: true,
    async change({ transaction, actor, parameters, body, now }) {
      const store = createKeyStore(transaction)
      const client = await store.lockClient(parameters.client_id ?? '')
      if (!client) throw notFound()
      checkExpiry(body.expires_at, now)
      checkMayMakeKeys(client, actor)
      const { key, row } = await issueKey(store, keyFormat, {
        client,
        expiresAt: body.expires_at ?? null,
        createdBy: actor.clientId,
      })
      const resource = toWire(row)
      return {
        ...showOnce(resource, key),
        location: `/v2/keys/${row.id}`,
        change: {
          organizationId: row.organizationId,
          action: 'key.create',
          targetId: row.id,
          after: { client_id: row.clientId, prefix: row.prefix, expires_at: resource.expires_at },
        },
      }
    },
  }),
  ...jwksOperations,
  list({
    id: 'listKeys',
    path: '/v2/clients/{client_id}/keys',
    tag,
    summary: 'List the keys of a client',
    description: 'Secret and public ones, the newest first, expired and revoked ones included.',
    scope: 'signet:keys:read',
    resource: Key,
    query: v.strictObject({ status: v.optional(keyStatus()) }),
    async list({ transaction, parameters, query, take, after }) {
      const store = createKeyStore(transaction)
      const clientId = parameters.client_id ?? ''
      if (!(await store.hasClient(clientId))) throw notFound()
      const rows = await store.list({ clientId, status: query.status, after, take })
      return rows.map(toWire)
    },
    positionOf: (key) => key.id,
  }),
  read({
    id: 'getKey',
    path: '/v2/keys/{key_id}',
    tag,
    summary: 'Read a key',
    scope: 'signet:keys:read',
    resource: Key,
    async read({ transaction, parameters }) {
      return toWire(await getKey(createKeyStore(transaction), parameters.key_id ?? ''))
    },
  }),
  change({
    id: 'revokeKey',
    method: 'POST',
    path: '/v2/keys/{key_id}/revoke',
    tag,
    summary: 'Revoke a key',
    description:
      'From the answer on, nothing is minted with it. The tokens that it has minted are revoked with it when ' +
      '`revoke_tokens` is true, and always when the reason is `compromised`; else they live to their end. Repeating it ' +
      'changes nothing, except that it may go further: a key that was revoked already may turn out to be compromised. ' +
      'A key that replaced this one (`replaced_by`) lives on.',
    scope: 'signet:keys:write',
    revokes: true,
    resource: Key,
    body: v.strictObject({
      reason: revocationReason(),
      revoke_tokens: v.optional(v.boolean()),
    }),
    isBodyOptional: true,
    async change({ transaction, actor, parameters, body }) {
      const { reason } = body
      if (reason === 'compromised' && body.revoke_tokens === false)
        throw brokenRule('body', {
          pointer: '/revoke_tokens',
          detail: 'must be true or absent where the reason is compromised',
        })
      const store = createKeyStore(transaction)
      const { clientId, id } = await getKey(store, parameters.key_id ?? '')
      await store.lockClient(clientId)
      const row = await getKey(store, id)
      const changes = revocationChanges(row, { reason, revokesTokens: body.revoke_tokens ?? false })
      const isChange = changes.revokes || changes.setsReason || changes.revokesTokens
      if (isChange) await store.revoke(id, reason, changes)
      const revoked = isChange ? await getKey(store, id) : row
      if (isPlatforms(actor, row)) await keepAdministrators(transaction)
      return {
        resource: toWire(revoked),
        change: {
          organizationId: row.organizationId,
          action: 'key.revoke',
          targetId: id,
          ...differences(toWire(row), toWire(revoked)),
        },
      }
    },
  }),
]

async function getKey(store: KeyStore, id: string): Promise<KeyRow> {
  const row = await store.find(id)
  if (!row) throw notFound()
  return row
}
