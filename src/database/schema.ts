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
  inet,
  integer,
  jsonb,
  pgSequence,
  pgTable,
  primaryKey,
  text,
  timestamp,
  unique,
  uniqueIndex,
} from 'drizzle-orm/pg-core'

const bytea = customType<{ data: Uint8Array; driverData: Uint8Array }>({ dataType: () => 'bytea' })
const at = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' })
const createdAt = () => at('created_at').notNull().defaultNow()
const oneOf = (column: AnyPgColumn, values: readonly string[]) =>
  sql`${column} in (${sql.raw(values.map((value) => `'${value}'`).join(', '))})`

/**
 * One sequence for every policy row: a version never returns, not even when a row is deleted and made again under
 * its old id, so a cached copy can never be mistaken for the row that is there now.
 */
export const policyVersion = pgSequence('policy_version')
const version = () => bigint('version', { mode: 'number' }).notNull().default(sql`nextval('policy_version')`)

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

export const keys = pgTable(
  'keys',
  {
    id: text('id').primaryKey(),
    clientId: text('client_id')
      .notNull()
      .references(() => clients.id),
    lookupId: text('lookup_id').notNull(),
    /** SHA-256 of the whole key. The key itself is never stored. */
    hash: bytea('hash').notNull(),
    prefix: text('prefix').notNull(),
    expiresAt: at('expires_at'),
    revokedAt: at('revoked_at'),
    revocationReason: text('revocation_reason'),
    tokensRevokedAt: at('tokens_revoked_at'),
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
    check('keys_hash', sql`octet_length(${t.hash}) = 32`),
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

/** The ledger: append-only, partitioned by day on issued_at. Its rows are written by ledger/admission.ts alone. */
export const issuedTokens = pgTable(
  'issued_tokens',
  {
    jti: text('jti').notNull(),
    issuedAt: at('issued_at').notNull(),
    expiresAt: at('expires_at').notNull(),
    keyId: text('key_id').notNull(),
    clientId: text('client_id').notNull(),
    organizationId: text('organization_id').notNull(),
    environment: text('environment', { enum: ENVIRONMENTS }).notNull(),
    scopes: text('scopes').array().notNull(),
    audience: text('audience').notNull(),
    kid: text('kid').notNull(),
    clientIp: inet('client_ip'),
    requestId: text('request_id').notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.jti, t.issuedAt] }),
    index('issued_tokens_time').on(t.issuedAt),
    index('issued_tokens_organization').on(t.organizationId, t.issuedAt),
    index('issued_tokens_client').on(t.clientId, t.issuedAt),
  ],
)

export const revokedTokens = pgTable(
  'revoked_tokens',
  {
    jti: text('jti').primaryKey(),
    /** Whom the token was for, and whose client minted it: either may see that it is revoked. */
    organizationId: text('organization_id').notNull(),
    clientId: text('client_id').notNull(),
    expiresAt: at('expires_at').notNull(),
    revokedAt: at('revoked_at').notNull().defaultNow(),
    reason: text('reason'),
  },
  (t) => [index('revoked_tokens_expiry').on(t.expiresAt)],
)

/** A client's minute is its rate-limit window too: `admitted` is what the limit counts. */
export const usageMinutes = pgTable(
  'usage_minutes',
  {
    clientId: text('client_id').notNull(),
    windowStart: at('window_start').notNull(),
    /** The limit in force when the window was last counted. */
    rateLimit: integer('rate_limit').notNull().default(0),
    admitted: integer('admitted').notNull().default(0),
    limited: integer('limited').notNull().default(0),
    denied: integer('denied').notNull().default(0),
    /** How many of the last batch fitted: how admission.ts learns what its own update let through. */
    lastAdmitted: integer('last_admitted').notNull().default(0),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.windowStart] })],
)

export const keyUsage = pgTable('key_usage', {
  keyId: text('key_id').primaryKey(),
  lastUsedAt: at('last_used_at').notNull(),
  lastUsedIp: inet('last_used_ip'),
})

export const auditEvents = pgTable(
  'audit_events',
  {
    /** Without a gap from 1; set, like both hashes, by the trigger that chains the rows. */
    sequence: bigint('sequence', { mode: 'number' }).primaryKey(),
    id: text('id').notNull().unique(),
    organizationId: text('organization_id'),
    actorClientId: text('actor_client_id'),
    actorKeyId: text('actor_key_id'),
    actorOrganizationId: text('actor_organization_id'),
    action: text('action').notNull(),
    targetId: text('target_id'),
    clientIp: inet('client_ip'),
    requestId: text('request_id'),
    details: jsonb('details').notNull().default({}),
    previousHash: bytea('previous_hash').notNull(),
    hash: bytea('hash').notNull(),
    occurredAt: at('occurred_at').notNull().defaultNow(),
  },
  (t) => [
    index('audit_events_organization').on(t.organizationId, t.sequence),
    index('audit_events_target').on(t.targetId, t.sequence),
    index('audit_events_actor').on(t.actorClientId, t.sequence),
    index('audit_events_time').on(t.occurredAt),
    index('audit_events_action').on(t.action, t.sequence),
  ],
)

/** What was answered to a POST or PATCH that bore an Idempotency-Key: written with its effect, kept for a day. */
export const idempotencyKeys = pgTable(
  'idempotency_keys',
  {
    clientId: text('client_id').notNull(),
    /** Method and path template. */
    operation: text('operation').notNull(),
    key: text('key').notNull(),
    organizationId: text('organization_id').notNull(),
    /** SHA-256 of what was asked for. */
    fingerprint: bytea('fingerprint').notNull(),
    status: integer('status').notNull(),
    location: text('location'),
    /** As it was sent, but for secrets. */
    body: text('body').notNull(),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.operation, t.key] }),
    index('idempotency_keys_age').on(t.createdAt),
  ],
)
