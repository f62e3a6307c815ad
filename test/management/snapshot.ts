/** What is in the database, to tell whether anything has changed, and where. */
import type { Sql } from 'postgres'

/** A digest of all rows of each table but those that minting a token writes to. */
export async function snapshot(sql: Sql, except: readonly string[] = []): Promise<Record<string, string>> {
  const left = ['issued_tokens', 'usage_minutes', 'key_usage', ...except]
  const tables = await sql<{ name: string }[]>`
    select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition order by 1`
  const digests: Record<string, string> = {}
  for (const { name } of tables) {
    if (left.includes(name)) continue
    const [row] = await sql<{ digest: string }[]>`
      select count(*) || ' ' || coalesce(md5(string_agg(t::text, e'\n' order by t::text)), '') as digest
      from ${sql(name)} t`
    digests[name] = row?.digest ?? ''
  }
  return digests
}
