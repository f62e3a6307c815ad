/** Rows as a service has them that has been used for a while, written straight into its database. */
import { hash, randomBytes } from 'node:crypto'
import { drizzle } from 'drizzle-orm/postgres-js'
import type { Sql } from 'postgres'
import type { Database } from '../../src/database/database.ts'
import { createKeyFormat } from '../../src/keys/key-format.ts'
import { createLedgerStore } from '../../src/ledger/store.ts'
import type { Turn } from './load.ts'

const keyFormat = createKeyFormat('sgt')
const SCOPES = [
  'transactions:read',
  'transactions:write',
  'accounts:read',
  'accounts:write',
  'users:read',
  'webhooks:read',
  'webhooks:write',
]
/** More than a benchmark reaches. */
const RATE_LIMIT = 100_000_000

export type Presentable = {
  organizationId: string
  clientId: string
  keyId: string
  key: string
  lookupId: string
  /** Which of all keys it is, from 1. */
  n: number
}

/** Ids and lookup ids of those whose keys nobody has. */
const SALT = randomBytes(8).toString('hex')
export const unheldLookupId = (n: number): string => `~${hash('md5', `${n}${SALT}`).slice(0, 11)}`

/** As ids that were made one after the other, in a spelling that SQL can make too: hexadecimal is within base 32. */
export const idOf = (prefix: 'org' | 'cli' | 'key', n: number): string =>
  `${prefix}_01k${n.toString(16).padStart(8, '0')}0123456789abcde`
const sqlIdOf = (prefix: string, n: string): string =>
  `'${prefix}_01k' || lpad(to_hex(${n}), 8, '0') || '0123456789abcde'`

/**
 * As many organizations as keys, each with a client and its key, in the sandbox. The keys of `presentable` of them, spread
 * evenly over the tables, come back; nobody has those of the others.
 */
export async function populate(sql: Sql, keys: number, presentable: number): Promise<Presentable[]> {
  const every = keys / presentable
  const made = Array.from({ length: presentable }, (_, i) => {
    const n = Math.floor(i * every) + 1
    const { key, lookupId, hash, prefix } = keyFormat.generate('sandbox')
    return { n, key, lookup_id: lookupId, hash: Buffer.from(hash).toString('hex'), prefix }
  })
  await sql.begin(async (transaction) => {
    await transaction.unsafe(`
      insert into organizations (id, name)
      select ${sqlIdOf('org', 'n')}, 'Organization ' || n from generate_series(1, ${keys}) as n`)
    await transaction.unsafe(
      `
      insert into clients (id, organization_id, name, environment, scopes, rate_limit_per_minute, status)
      select ${sqlIdOf('cli', 'n')}, ${sqlIdOf('org', 'n')}, 'Integration', 'sandbox', $1, ${RATE_LIMIT}, 'active'
      from generate_series(1, ${keys}) as n`,
      [SCOPES],
    )
    // The lookup id of what nobody has begins with a character that no real one begins with.
    await transaction.unsafe(
      `
      insert into keys (id, client_id, lookup_id, hash, prefix)
      select ${sqlIdOf('key', 'n')}, ${sqlIdOf('cli', 'n')},
        coalesce(m.lookup_id, '~' || substr(md5(n || $2), 1, 11)),
        coalesce(decode(m.hash, 'hex'), sha256(convert_to(n || $2, 'UTF8'))),
        coalesce(m.prefix, 'sgt_test_' || substr(md5(n::text), 1, 6))
      from generate_series(1, ${keys}) as n
        left join jsonb_to_recordset($1::text::jsonb) as m (n integer, lookup_id text, hash text, prefix text) using (n)
      order by n`,
      [JSON.stringify(made), SALT],
    )
  })
  await sql.unsafe('vacuum analyze organizations, clients, keys')
  return made.map(({ n, key, lookup_id: lookupId }) => ({
    organizationId: idOf('org', n),
    clientId: idOf('cli', n),
    keyId: idOf('key', n),
    key,
    lookupId,
    n,
  }))
}

/** The request by which such a key is exchanged for a token. */
export const turnOf = ({ key, organizationId }: Presentable): Turn => ({
  authorization: `Bearer ${key}`,
  body: JSON.stringify({
    expiry_seconds: 3600,
    scopes: { organization_id: organizationId, scopes: SCOPES },
  }),
})

/** Days over which the ledger's rows are spread: today's partition has a share like any other's. */
const DAYS = 10
const DAY_MS = 86_400_000

/** So many tokens of these keys, issued in the last ten days, and what their clients used, minute by minute. */
export async function fillLedger(sql: Sql, of: readonly Presentable[], rows: number): Promise<void> {
  const today = Math.floor(Date.now() / DAY_MS)
  const store = createLedgerStore(drizzle(sql) as unknown as Database)
  const present = await store.findPartitions()
  for (let day = today - DAYS + 1; day <= today; day++) {
    const [date, next] = [isoDay(day), isoDay(day + 1)]
    if (!present.includes(date)) await store.addPartition(date, next)
    const until = Math.min(Date.now(), (day + 1) * DAY_MS - 1000)
    await issue(sql, { of, rows: Math.round(rows / DAYS), from: day * DAY_MS, until, lifeSeconds: 3600 })
    await sql`
      insert into usage_minutes (client_id, window_start, rate_limit, admitted)
      select client_id, date_trunc('minute', issued_at), 60, count(*) from issued_tokens
      where issued_at >= ${date}::timestamptz and issued_at < ${next}::timestamptz group by 1, 2`
  }
  await sql.unsafe('vacuum analyze issued_tokens, usage_minutes')
}

/** Tokens of one key, or of several, that are good for a day from when they were issued: in the last six hours. */
export async function addOutstanding(sql: Sql, of: readonly Presentable[], rows: number): Promise<void> {
  const until = Date.now() - 1000
  await issue(sql, { of, rows, from: until - DAY_MS / 4, until, lifeSeconds: 86_400 })
  await sql.unsafe('vacuum analyze issued_tokens')
}

async function issue(
  sql: Sql,
  {
    of,
    rows,
    from,
    until,
    lifeSeconds,
  }: { of: readonly Presentable[]; rows: number; from: number; until: number; lifeSeconds: number },
): Promise<void> {
  await sql.unsafe(
    `
    with keys as materialized (
      select row_number() over () - 1 as place, value ->> 'keyId' as key_id, value ->> 'clientId' as client_id,
        value ->> 'organizationId' as organization_id
      from jsonb_array_elements($1::text::jsonb)
    ), kid as materialized (select kid from signing_keys where environment = 'sandbox' limit 1)
    insert into issued_tokens (jti, issued_at, expires_at, key_id, client_id, organization_id, environment, scopes,
      audience, kid, client_ip, request_id)
    select 'tok_' || lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || substr(md5(n || $2), 1, 14),
      at, at + make_interval(secs => ${lifeSeconds}), key_id, client_id, organization_id, 'sandbox', $3,
      'https://api.example.com', kid.kid, '203.0.113.7', 'req_' || substr(md5(n::text), 1, 26)
    from generate_series(0, ${rows - 1}) as n
      cross join lateral (select to_timestamp(${from / 1000}::float8 + ${(until - from) / 1000 / rows}::float8 * n) as at) as moment
      join keys on keys.place = n % ${of.length}
      cross join kid`,
    [JSON.stringify(of), randomBytes(8).toString('hex'), SCOPES],
  )
}

const isoDay = (day: number) => new Date(day * DAY_MS).toISOString().slice(0, 10)
