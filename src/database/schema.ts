/**
 * The tables, as drizzle sees them. What drizzle cannot say (partitions, the version trigger, forced row-level
 * security) is in the migrations, beside what it generated: see drizzle/0000_foundation.sql.
 *
 * Ids are TypeIDs kept as text: one spelling in the database, the API and the logs.
 */
import { sql } from 'drizzle-orm'
import {
  type AnyPgColumn,
  bigint,
  boolean,
  check,
  cidr,
  customType,
  index,
  integer,
  jsonb,
  pgSequence,
  pgTable,
  text,
  timestamp,
  unique,
  uniqueIndex,
} from 'drizzle-orm/pg-core'

export const bytea = customType<{ data: Uint8Array; driverData: Uint8Array }>({ dataType: () => 'bytea' })
export const at = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' })
export const createdAt = () => at('created_at').notNull().defaultNow()
const oneOf = (column: AnyPgColumn, values: readonly string[]) =>
  sql`${column} in (${sql.raw(values.map((value) => `'${value}'`).join(', '))})`

/**
 * One sequence for every policy row: a version never returns, not even when a row is deleted and made again under
 * its old id, so a cached copy can never be mistaken for the row that is there now.
 */
export const policyVersion = pgSequence('policy_version')
const version = () => bigint('version', { mode: 'number' }).notNull().default(sql`nextval('policy_version')`)

/**
 * A cut-off: tokens issued until then count as revoked. Set by a trigger when what may mint is stopped, and not taken back
 * when it goes on: see drizzle/0005_revocations.sql.
 */
const tokensRevokedAt = () => at('tokens_revoked_at')

export const ENVIRONMENTS = ['sandbox', 'production'] as const
export type Environment = (typeof ENVIRONMENTS)[number]

export const ORGANIZATION_STATUSES = ['active', 'suspended'] as const
export const organizations = pgTable(
  'organizations',
  {
    id: text('id').primaryKey(),
    name: text('name').notNull(),
    platform: boolean('platform').notNull().default(false),
    status: text('status', { enum: ORGANIZATION_STATUSES }).notNull().default('active'),
    tokensRevokedAt: tokensRevokedAt(),
    version: version(),
    createdAt: createdAt(),
  },
  (t) => [
    check('organizations_status', oneOf(t.status, ORGANIZATION_STATUSES)),
    uniqueIndex('organizations_one_platform').on(t.platform).where(sql`platform`),
  ],
)

export const DELEGATION_STATUSES = ['pending', 'active', 'paused', 'revoked'] as const
export const delegations = pgTable(
  'delegations',
  {
    id: text('id').primaryKey(),
    organizationId: text('organization_id')
      .notNull()
      .references(() => organizations.id),
    partnerId: text('partner_id')
      .notNull()
      .references(() => organizations.id),
    environment: text('environment', { enum: ENVIRONMENTS }).notNull(),
    scopes: text('scopes').array().notNull(),
    maxExpirySeconds: integer('max_expiry_seconds').notNull().default(86_400),
    status: text('status', { enum: DELEGATION_STATUSES }).notNull().default('pending'),
    tokensRevokedAt: tokensRevokedAt(),
    version: version(),
    createdAt: createdAt(),
  },
  (t) => [
    // A revoked delegation is history; the parties may agree anew.
    uniqueIndex('delegations_in_force')
      .on(t.organizationId, t.partnerId, t.environment)
      .where(sql`status <> 'revoked'`),
    index('delegations_given').on(t.organizationId, t.id),
    index('delegations_held').on(t.partnerId, t.id),
    check('delegations_status', oneOf(t.status, DELEGATION_STATUSES)),
    check('delegations_environment', oneOf(t.environment, ENVIRONMENTS)),
    check('delegations_max_expiry', sql`${t.maxExpirySeconds} between 300 and 86400`),
    check('delegations_two_parties', sql`${t.organizationId} <> ${t.partnerId}`),
  ],
)

export const CLIENT_STATUSES = ['pending_approval', 'active', 'suspended', 'revoked'] as const
export const CLIENT_KINDS = ['organization', 'partner'] as const
export const clients = pgTable(
  'clients',
  {
    id: text('id').primaryKey(),
    organizationId: text('organization_id')
      .notNull()
      .references(() => organizations.id),
    name: text('name').notNull(),
    environment: text('environment', { enum: ENVIRONMENTS }).notNull(),
    kind: text('kind', { enum: CLIENT_KINDS }).notNull().default('organization'),
    scopes: text('scopes').array().notNull(),
    /** Null: the deployment's default audience. */
    audience: text('audience'),
    maxExpirySeconds: integer('max_expiry_seconds').notNull().default(86_400),
    rateLimitPerMinute: integer('rate_limit_per_minute').notNull().default(60),
    /** Null: from anywhere. Empty: from nowhere. */
    allowedCidrs: cidr('allowed_cidrs').array(),
    /** Null or empty: never from a browser. */
    allowedOrigins: text('allowed_origins').array(),
    status: text('status', { enum: CLIENT_STATUSES }).notNull(),
    approvedAt: at('approved_at'),
    approvedBy: text('approved_by'),
    createdBy: text('created_by'),
    /** Who asked for what is to be approved, or was last: its creation, and changes that widened it. */
    requestedBy: text('requested_by').array().notNull().default([]),
    /** Then its own organization cannot reactivate it. */
    suspendedByPlatform: boolean('suspended_by_platform').notNull().default(false),
    tokensRevokedAt: tokensRevokedAt(),
    version: version(),
    createdAt: createdAt(),
  },
  (t) => [
    index('clients_of_organization').on(t.organizationId, t.id),
    check('clients_status', oneOf(t.status, CLIENT_STATUSES)),
    check('clients_kind', oneOf(t.kind, CLIENT_KINDS)),
    check('clients_environment', oneOf(t.environment, ENVIRONMENTS)),
    check('clients_max_expiry', sql`${t.maxExpirySeconds} between 300 and 86400`),
    check('clients_rate_limit', sql`${t.rateLimitPerMinute} >= 0`),
  ],
)

/** As it was registered: `kid` is the client's own word for it; without one, its RFC 7638 thumbprint. */
export type PublicJwk = { kid: string; alg: string; kty: string } & Record<string, string>

/** A secret, of which the hash is kept, or the public half of a key pair of the client's own: never both. */
export const keys = pgTable(
  'keys',
  {
    id: text('id').primaryKey(),
    clientId: text('client_id')
      .notNull()
      .references(() => clients.id),
    lookupId: text('lookup_id'),
    /** SHA-256 of the whole key. The key itself is never stored. */
    hash: bytea('hash'),
    prefix: text('prefix'),
    /** Verifies the client's assertions (RFC 7523). */
    publicJwk: jsonb('public_jwk').$type<PublicJwk>(),
    expiresAt: at('expires_at'),
    revokedAt: at('revoked_at'),
    revocationReason: text('revocation_reason'),
    tokensRevokedAt: tokensRevokedAt(),
    replaces: text('replaces').references((): AnyPgColumn => keys.id),
    /** The client that made it, also of what it was renewed to. Null: the first start. */
    createdBy: text('created_by'),
    version: version(),
    createdAt: createdAt(),
  },
  (t) => [
    unique('keys_lookup_id').on(t.lookupId),
    index('keys_of_client').on(t.clientId, t.id),
    index('keys_not_revoked').on(t.clientId, t.id).where(sql`revoked_at is null`),
    // A key is renewed once.
    uniqueIndex('keys_replaced').on(t.replaces),
    index('keys_tokens_revoked').on(t.tokensRevokedAt).where(sql`tokens_revoked_at is not null`),
    check('keys_hash', sql`octet_length(${t.hash}) = 32`),
    check(
      'keys_one_kind',
      sql`num_nonnulls(${t.lookupId}, ${t.hash}, ${t.prefix}) = case when ${t.publicJwk} is null then 3 else 0 end`,
    ),
  ],
)

export const signingKeys = pgTable(
  'signing_keys',
  {
    kid: text('kid').primaryKey(),
    environment: text('environment', { enum: ENVIRONMENTS }).notNull(),
    alg: text('alg').notNull(),
    publicJwk: jsonb('public_jwk').$type<Record<string, string>>().notNull(),
    sealedPrivateJwk: text('sealed_private_jwk').notNull(),
    publishedAt: at('published_at').notNull(),
    activatesAt: at('activates_at').notNull(),
    retiresAt: at('retires_at'),
    removesAt: at('removes_at'),
    revokedAt: at('revoked_at'),
    version: version(),
    createdAt: createdAt(),
  },
  (t) => [check('signing_keys_environment', oneOf(t.environment, ENVIRONMENTS))],
)
