/** Issued tokens, over the management API: what was minted for whom and by whom, and the end of a single one. */
import * as v from 'valibot'
import { notFound } from '../errors.ts'
import { revocationReason } from '../keys/resource.ts'
import { type Actor, change, list, type Operation, read } from '../management/operation.ts'
import { id, moment } from '../management/wire.ts'
import { describe, Token, toWire } from './resource.ts'
import { revokeIssued } from './revocation.ts'
import { createTokenStore, type TokenRow, type TokenStore } from './store.ts'

async function getToken(store: TokenStore, parameters: Readonly<Record<string, string>>): Promise<TokenRow> {
  const row = await store.find(parameters.jti ?? '')
  if (!row) throw notFound()
  return row
}

const tag = 'Tokens'

export const tokenOperations: readonly Operation[] = [
  list({
    id: 'listTokens',
    path: '/v2/tokens',
    tag,
    summary: 'List issued tokens',
    description:
      'An organization sees what was minted for it, by its own clients and by its partners’; with `client_id` or ' +
      '`key_id` of a client of its own, what that one minted, for whomever. The platform sees all. Tokens stay ' +
      'listed for 90 days.',
    scope: 'signet:tokens:read',
    resource: Token,
    query: v.strictObject({
      client_id: v.optional(id('client')),
      organization_id: v.optional(id('organization')),
      key_id: v.optional(id('key')),
      issued_after: v.optional(v.pipe(moment(), v.description('Tokens issued then or later.'))),
      issued_before: v.optional(v.pipe(moment(), v.description('Tokens issued earlier.'))),
    }),
    async list({ transaction, actor, query, now, take, after }) {
      const store = createTokenStore(transaction)
      const filters = await narrow(store, actor, query)
      if (!filters) return []
      const rows = await store.list({
        ...filters,
        issuedAfter: query.issued_after,
        issuedBefore: query.issued_before,
        after: after === undefined ? undefined : parsePosition(after),
        take,
      })
      const revocations = await store.findRevocations(rows, actor)
      return rows.map((row) => toWire(row, revocations.get(row.jti), now))
    },
    positionOf: (token) => `${token.issued_at} ${token.jti}`,
  }),
  read({
    id: 'getToken',
    path: '/v2/tokens/{jti}',
    tag,
    summary: 'Read the record of an issued token',
    scope: 'signet:tokens:read',
    resource: Token,
    async read({ transaction, actor, parameters, now }) {
      const store = createTokenStore(transaction)
      return describe(store, await getToken(store, parameters), { actor, now })
    },
  }),
  change({
    id: 'revokeToken',
    method: 'POST',
    path: '/v2/tokens/{jti}/revoke',
    tag,
    summary: 'Revoke an issued token',
    description:
      'Whoever the token is for may revoke it, and whoever minted it. With it end the tokens that were had for it by ' +
      'token exchange. This API refuses it from then on; an API that verifies offline accepts it until it expires, ' +
      'unless it asks (`POST /oauth2/introspect`) or reads the revocation feed. Of a token that was revoked so already, or ' +
      'has expired, nothing changes.',
    scope: 'signet:tokens:revoke',
    revokes: true,
    resource: Token,
    body: v.strictObject({
      reason: revocationReason(),
    }),
    isBodyOptional: true,
    async change({ transaction, actor, parameters, body, now }) {
      const store = createTokenStore(transaction)
      const row = await getToken(store, parameters)
      const { after, change } = await revokeIssued(store, row, { actor, now, reason: body.reason })
      return {
        resource: after,
        change: {
          // Whose token it is; a partner, who cannot write into another's trail, leaves it in its own.
          organizationId: actor.isPlatform ? row.organizationId : actor.organizationId,
          action: 'token.revoke',
          targetId: row.jti,
          ...change,
        },
      }
    },
  }),
]

type Narrowed = {
  organizationId: string | undefined
  clientId: string | undefined
  keyId: string | undefined
}

/**
 * What a list is narrowed to, so that an index leads to it and row-level security has nothing left to take away.
 * Undefined: to nothing.
 */
async function narrow(
  store: TokenStore,
  actor: Actor,
  query: {
    client_id?: string | undefined
    organization_id?: string | undefined
    key_id?: string | undefined
  },
): Promise<Narrowed | undefined> {
  const keyId = query.key_id
  const clientOfKey = keyId === undefined ? undefined : await store.findClientOfKey(keyId)
  const isKeyNobodys = actor.isPlatform && keyId !== undefined && clientOfKey === undefined
  const clientId = query.client_id ?? clientOfKey
  if (isKeyNobodys || (clientOfKey !== undefined && clientId !== clientOfKey)) return undefined

  const seesWhomever = actor.isPlatform || (clientId !== undefined && (await store.ownsClient(clientId)))
  if (seesWhomever) return { organizationId: query.organization_id, clientId, keyId }
  const isForAnother = query.organization_id !== undefined && query.organization_id !== actor.organizationId
  return isForAnother ? undefined : { organizationId: actor.organizationId, clientId, keyId }
}

function parsePosition(position: string): { issuedAt: Date; jti: string } {
  const [issuedAt = '', jti = ''] = position.split(' ')
  return { issuedAt: new Date(issuedAt), jti }
}
