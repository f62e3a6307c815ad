/** Rows to test with, written as the management API will write them. */
import type { Sql } from 'postgres'
import { newId } from '../../src/ids.ts'
import { createKeyFormat } from '../../src/keys/key-format.ts'

const keyFormat = createKeyFormat('sgt')

export type SeededClient = {
  organizationId: string
  clientId: string
  keyId: string
  key: string
  scopes: string[]
  environment: 'sandbox' | 'production'
}

export type ClientOptions = {
  organizationId?: string | undefined
  environment?: 'sandbox' | 'production'
  kind?: 'organization' | 'partner'
  scopes?: string[]
  audience?: string | null
  maxExpirySeconds?: number
  rateLimitPerMinute?: number
  allowedCidrs?: string[] | null
  allowedOrigins?: string[] | null
  status?: 'pending_approval' | 'active' | 'suspended' | 'revoked'
  keyExpiresAt?: Date | null
}

export async function seedOrganization(sql: Sql, name = 'Acme'): Promise<string> {
  const id = newId('organization')
  await sql`insert into organizations (id, name) values (${id}, ${name})`
  return id
}

/** A client with one key; its organization too, unless one is given. */
export async function seedClient(sql: Sql, options: ClientOptions = {}): Promise<SeededClient> {
  const organizationId = options.organizationId ?? (await seedOrganization(sql))
  const environment = options.environment ?? 'sandbox'
  const scopes = options.scopes ?? ['transactions:read', 'person:write']
  const clientId = newId('client')
  await sql`
    insert into clients (id, organization_id, name, environment, kind, scopes, audience, max_expiry_seconds,
      rate_limit_per_minute, allowed_cidrs, allowed_origins, status)
    values (${clientId}, ${organizationId}, 'Integration', ${environment}, ${options.kind ?? 'organization'},
      ${scopes}, ${options.audience ?? null}, ${options.maxExpirySeconds ?? 86_400},
      ${options.rateLimitPerMinute ?? 1_000_000}, ${options.allowedCidrs ?? null}::text[]::cidr[],
      ${options.allowedOrigins ?? null}::text[], ${options.status ?? 'active'})`
  const { keyId, key } = await seedKey(sql, clientId, environment, options.keyExpiresAt ?? null)
  return { organizationId, clientId, keyId, key, scopes, environment }
}

export async function seedKey(
  sql: Sql,
  clientId: string,
  environment: 'sandbox' | 'production',
  expiresAt: Date | null = null,
): Promise<{ keyId: string; key: string }> {
  const keyId = newId('key')
  const { key, lookupId, hash, prefix } = keyFormat.generate(environment)
  await sql`insert into keys (id, client_id, lookup_id, hash, prefix, expires_at)
    values (${keyId}, ${clientId}, ${lookupId}, ${hash}, ${prefix}, ${expiresAt})`
  return { keyId, key }
}

export async function seedDelegation(
  sql: Sql,
  delegation: {
    organizationId: string
    partnerId: string
    environment?: 'sandbox' | 'production'
    scopes?: string[]
    maxExpirySeconds?: number
    status?: 'pending' | 'active' | 'paused' | 'revoked'
  },
): Promise<string> {
  const id = newId('delegation')
  await sql`insert into delegations (id, organization_id, partner_id, environment, scopes, max_expiry_seconds, status)
    values (${id}, ${delegation.organizationId}, ${delegation.partnerId}, ${delegation.environment ?? 'sandbox'},
      ${delegation.scopes ?? ['transactions:read', 'person:write']}, ${delegation.maxExpirySeconds ?? 86_400},
      ${delegation.status ?? 'active'})`
  return id
}
