/** Rows for `npm run measure -- timing`. */
import type { Sql } from 'postgres'
import { newId } from '../src/ids.ts'
import { createKeyFormat } from '../src/keys/key-format.ts'

const WARM_KEYS = 100
/** Of one client, so many refusals a minute are looked at. */
const REFUSALS_OF_A_CLIENT = 500
const keyFormat = createKeyFormat('sgt')

export type Seeds = {
  organizationId: string
  clientId: string
  /** Fresh for each sample. */
  cold: string[]
  live: string[]
  revoked: string[]
  expired: string[]
  /** Of many clients, each with a key. */
  crowd: string[]
  partners: string[]
  strangers: { organizationId: string; clientId: string }[]
}
export async function seed(
  sql: Sql,
  options: { organizationId: string; clientId: string; samples: number },
): Promise<Seeds> {
  const { organizationId, clientId, samples } = options
  await sql`update clients set rate_limit_per_minute = 1000000000 where id = ${clientId}`
  const make = async (
    howMany: number,
    more: { revoked_at?: Date; expires_at?: Date } = {},
    clientIds: readonly string[] = [clientId],
  ) => {
    const keys = Array.from({ length: howMany }, () => keyFormat.generate('sandbox'))
    for (let i = 0; i < keys.length; i += 5000) {
      const rows = keys.slice(i, i + 5000).map(({ lookupId, hash, prefix }, j) => ({
        id: newId('key'),
        client_id: clientIds[(i + j) % clientIds.length] ?? clientId,
        lookup_id: lookupId,
        hash: Buffer.from(hash),
        prefix,
        revoked_at: more.revoked_at ?? null,
        revocation_reason: more.revoked_at ? 'unspecified' : null,
        expires_at: more.expires_at ?? null,
      }))
      await sql`insert into keys ${sql(rows)}`
    }
    return keys.map(({ key }) => key)
  }
  const makeClients = async (ofOrganization: string, howMany: number, kind = 'organization') => {
    const ids = Array.from({ length: howMany }, () => newId('client'))
    await sql`
      insert into clients (id, organization_id, name, environment, kind, scopes, max_expiry_seconds,
        rate_limit_per_minute, status)
      select id, ${ofOrganization}, 'Measured', 'sandbox', ${kind}, '{transactions:read}', 86400, 1000000, 'active'
      from unnest(${ids}::text[]) as id`
    return ids
  }
  const makeOrganization = async (name: string) => {
    const id = newId('organization')
    await sql`insert into organizations (id, name) values (${id}, ${name})`
    return id
  }
  const crowd = Math.ceil((2 * samples) / REFUSALS_OF_A_CLIENT) + 1
  const strangers = []
  for (let i = 0; i < WARM_KEYS; i++) {
    const stranger = await makeOrganization('Stranger')
    const [theirs = ''] = await makeClients(stranger, 1)
    strangers.push({ organizationId: stranger, clientId: theirs })
  }
  const partner = await makeOrganization('Partner')
  const past = new Date(Date.now() - 3_600_000)
  return {
    organizationId,
    clientId,
    cold: await make(samples + 2000),
    live: await make(WARM_KEYS),
    revoked: await make(WARM_KEYS, { revoked_at: past }),
    expired: await make(WARM_KEYS, { expires_at: past }),
    crowd: await make(crowd, {}, await makeClients(organizationId, crowd)),
    partners: await make(crowd, {}, await makeClients(partner, crowd, 'partner')),
    strangers,
  }
}

/** A tenant's client that may look at clients, and its key. */
export async function seedManager(sql: Sql): Promise<{ organizationId: string; key: string }> {
  const organizationId = newId('organization')
  const clientId = newId('client')
  const { key, lookupId, hash, prefix } = keyFormat.generate('production')
  await sql`insert into organizations (id, name) values (${organizationId}, 'Tenant')`
  await sql`
    insert into clients (id, organization_id, name, environment, kind, scopes, max_expiry_seconds, rate_limit_per_minute, status)
    values (${clientId}, ${organizationId}, 'Manager', 'production', 'organization', '{signet:clients:read}', 86400, 100, 'active')`
  await sql`
    insert into keys (id, client_id, lookup_id, hash, prefix)
    values (${newId('key')}, ${clientId}, ${lookupId}, ${Buffer.from(hash)}, ${prefix})`
  return { organizationId, key }
}
