/**
 * The tables of what happened: the ledger, what is counted, the audit trail, what was answered. Of policy, schema.ts.
 */
import { bigint, index, inet, integer, jsonb, pgTable, primaryKey, text } from 'drizzle-orm/pg-core'
import { at, bytea, createdAt, ENVIRONMENTS } from './schema.ts'

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
    /** Of a token that was had for another one (RFC 8693): that one, and those that it was had for, the last first. */
    subjectJtis: text('subject_jtis').array(),
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
    /** Null: written by a version that did not name it. It is the client's. */
    environment: text('environment', { enum: ENVIRONMENTS }),
    expiresAt: at('expires_at').notNull(),
    revokedAt: at('revoked_at').notNull().defaultNow(),
    reason: text('reason'),
  },
  (t) => [index('revoked_tokens_expiry').on(t.expiresAt)],
)

/** Assertions that were used, until they expire: each is good for one request (RFC 7523 §3). */
export const clientAssertions = pgTable(
  'client_assertions',
  {
    clientId: text('client_id').notNull(),
    jti: text('jti').notNull(),
    expiresAt: at('expires_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.jti] }), index('client_assertions_expiry').on(t.expiresAt)],
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
    /** SHA-256 of it. */
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
