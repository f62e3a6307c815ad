/** Looking for secrets where none should be. */
import type { Sql } from 'postgres'
import { expect } from 'vitest'

/** What a secret may look like where it does not belong. */
export const spellings = (secret: Uint8Array | string): string[] => {
  const bytes = Buffer.from(secret)
  const encoded = (['base64', 'base64url', 'hex'] as const).map((encoding) => bytes.toString(encoding))
  return [...(typeof secret === 'string' ? [secret] : []), ...encoded]
}

/** How often any of the texts stands in any column of any row, bytea as hex. */
export async function hitsInDatabase(superuser: Sql, texts: readonly string[]): Promise<number> {
  const tables = await superuser<{ name: string }[]>`
    select distinct format('%I.%I', table_schema, table_name) as name
    from information_schema.columns join information_schema.tables using (table_schema, table_name)
    where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')`
  expect(tables.length).toBeGreaterThan(10)
  let hits = 0
  for (const { name } of tables) {
    const rows = await superuser<{ line: string }[]>`select t::text as line from ${superuser.unsafe(name)} t`
    for (const { line } of rows) hits += texts.filter((text) => line.includes(text)).length
  }
  return hits
}
