/** Issued tokens, over the management API: what was minted for whom and by whom, and the end of a single one. */
import * as v from 'valibot'
import { notFound } from '../errors.ts'
import { revocationReason } from '../keys/resource.ts'
import { type Actor, change, differences, list, type Operation, read } from '../management/operation.ts'
import { environment, id, isoOf, moment, timestamp } from '../management/wire.ts'
import { createTokenStore, type Revocation, type TokenRow } from './store.ts'

const STATUSES = ['active', 'expired', 'revoked'] as const

const Token = v.pipe(
  v.strictObject({
    jti: id('token'),
    issued_at: timestamp(),
    expires_at: timestamp(),
    key_id: v.pipe(id('key'), v.description('The key that was exchanged for it.')),
    client_id: id('client'),
    organization_id: v.pipe(id('organization'), v.description('Whom it was minted for.')),
    environment: environment(),
    scopes: v.array(v.string()),
    audience: v.string(),
    kid: v.pipe(v.string(), v.description('The key that signed it.')),
    client_ip: v.pipe(v.nullable(v.string()), v.description('Where it was asked for from.')),
    request_id: v.string(),
    status: v.pipe(
      v.picklist(STATUSES),
      v.description('`expired` once its time is over, whether or not it was revoked before.'),
    ),
    revoked_at: v.pipe(
      v.nullable(timestamp()),
      v.description(
        'When it was revoked, by itself or with the key that minted or signed it. Of a token revoked by itself, it is ' +
          'known until some time after it expires; the audit trail keeps it.',
      ),
    ),
    revocation_reason: v.nullable(v.string()),
  }),
  v.title('Token'),
  v.description('The record of a token that was minted. The token itself is not kept.'),
)

function toWire(row: TokenRow, revocation: Revocation | undefined, now: Date) {
  return {
    jti: row.jti,
    issued_at: isoOf(row.issuedAt),
    expires_at: isoOf(row.expiresAt),
    key_id: row.keyId,
    client_id: row.clientId,
    organization_id: row.organizationId,
    environment: row.environment,
    scopes: row.scopes,
    audience: row.audience,
    kid: row.kid,
    client_ip: row.clientIp,
    request_id: row.requestId,
    status: statusOf(row, revocation, now),
    revoked_at: isoOf(revocation?.revokedAt ?? null),
    revocation_reason: revocation?.reason ?? null,
  }
}

function statusOf(row: TokenRow, revocation: Revocation | undefined, now: Date): (typeof STATUSES)[number] {
  if (row.expiresAt <= now) return 'expired'
  return revocation ? 'revoked' : 'active'
}

type Store = ReturnType<typeof createTokenStore>

async function getToken(store: Store, parameters: Readonly<Record<string, string>>): Promise<TokenRow> {
  const row = await store.find(parameters.jti ?? '')
  if (!row) throw notFound()
  return row
}

async function describe(store: Store, row: TokenRow, { actor, now }: { actor: Actor; now: Date }) {
  return toWire(row, (await store.findRevocations([row], actor)).get(row.jti), now)
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
      'Whoever the token is for may revoke it, and whoever minted it. This API refuses it from then on; an API that ' +
      'verifies offline accepts it until it expires, unless it asks. Of a token that is revoked or has expired ' +
      'already, nothing changes.',
    scope: 'signet:tokens:revoke',
    resource: Token,
    body: v.strictObject({
      reason: revocationReason(),
    }),
    isBodyOptional: true,
    async change({ transaction, actor, parameters, body, now }) {
      const store = createTokenStore(transaction)
      const row = await getToken(store, parameters)
      const before = await describe(store, row, { actor, now })
      if (before.status === 'active') await store.revoke(row, body.reason)
      const after = await describe(store, row, { actor, now })
      return {
        resource: after,
        change: {
          // Whose token it is; a partner, who cannot write into another's trail, leaves it in its own.
          organizationId: actor.isPlatform ? row.organizationId : actor.organizationId,
          action: 'token.revoke',
          targetId: row.jti,
          ...differences(before, after),
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
  store: Store,
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
