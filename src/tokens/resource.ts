/** An issued token on the wire: its record, for the token itself is not kept. */
import * as v from 'valibot'
import { environment, id, isoOf, timestamp } from '../management/wire.ts'
import type { Revocation, TokenRow, TokenStore } from './store.ts'

const STATUSES = ['active', 'expired', 'revoked'] as const

export const Token = v.pipe(
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
        'When it was revoked: by itself, with the token that was exchanged for it, with the key that minted or signed ' +
          'it, or with its client, its organization, the partner or the delegation, whose suspension revokes all that ' +
          'was issued until then. Of a token revoked by itself, it is known until some time after it expires; the audit ' +
          'trail keeps it.',
      ),
    ),
    revocation_reason: v.nullable(v.string()),
  }),
  v.title('Token'),
  v.description('The record of a token that was minted. The token itself is not kept.'),
)

export type TokenResource = ReturnType<typeof toWire>

export function toWire(row: TokenRow, revocation: Revocation | undefined, now: Date) {
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

/** As it is now. */
export const describe = async (
  store: TokenStore,
  row: TokenRow,
  { actor, now }: { actor: { isPlatform: boolean }; now: Date },
): Promise<TokenResource> => toWire(row, (await store.findRevocations([row], actor)).get(row.jti), now)
