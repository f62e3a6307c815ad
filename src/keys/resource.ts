/** A key on the wire. The key itself is in the answer that makes it, once; everywhere else there is its prefix. */
import * as v from 'valibot'
import type { PublicJwk } from '../database/schema.ts'
import { environment, id, isoOf, timestamp } from '../management/wire.ts'
import { publicMembers } from '../signing/jwks.ts'
import { REVOCATION_REASONS } from './lifecycle.ts'
import { ASSERTION_ALGORITHMS } from './public-jwk.ts'
import { KEY_STATUSES, type KeyRow } from './store.ts'

export const keyStatus = () => v.picklist(KEY_STATUSES, `must be one of ${KEY_STATUSES.join(', ')}`)

const jwkMember = () => v.optional(v.string())
/** A public JWK as it goes out: of its kind's members (RFC 7518 §6), those that are public. */
const jwkMembers = {
  kty: v.pipe(v.string(), v.examples(['EC'])),
  crv: v.pipe(jwkMember(), v.examples(['P-256'])),
  x: v.pipe(jwkMember(), v.examples(['f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU'])),
  y: v.pipe(jwkMember(), v.examples(['x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0'])),
  n: jwkMember(),
  e: jwkMember(),
  use: v.literal('sig'),
  alg: v.picklist(ASSERTION_ALGORITHMS),
  kid: v.pipe(v.string(), v.examples(['2026-11'])),
}

const members = {
  id: id('key'),
  client_id: id('client'),
  client_name: v.pipe(v.string(), v.examples(['Integration'])),
  organization_id: id('organization'),
  environment: environment(),
  prefix: v.pipe(
    v.nullable(v.string()),
    v.description('Its first 15 characters, to recognize it by. Null: it is a public key.'),
    v.examples(['sgt_live_4fZk9Q']),
  ),
  public_jwk: v.pipe(
    v.nullable(v.strictObject(jwkMembers)),
    v.description('The public key with which the client’s assertions are verified. Null: it is a secret.'),
    v.examples([null]),
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

/** RFC 7517 §5. */
export const Jwks = v.pipe(
  v.strictObject({ keys: v.array(v.strictObject({ key_id: id('key'), ...jwkMembers })) }),
  v.title('Client JWKS'),
)

/** What is stored is filtered once more: whatever else it had must not get out by any mistake. */
const toWireJwk = ({ kid, alg, ...members }: PublicJwk) => ({
  ...publicMembers(members),
  use: 'sig',
  alg,
  kid,
})

export const toWireJwks = (rows: readonly { id: string; publicJwk: PublicJwk }[]) => ({
  keys: rows.map(({ id, publicJwk }) => ({ key_id: id, ...toWireJwk(publicJwk) })),
})

export const toWire = (row: KeyRow) => ({
  id: row.id,
  client_id: row.clientId,
  client_name: row.clientName,
  organization_id: row.organizationId,
  environment: row.environment,
  prefix: row.prefix,
  public_jwk: row.publicJwk && toWireJwk(row.publicJwk),
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
