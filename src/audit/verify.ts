/**
 * Verifies the chain of the audit trail: what each hash covers is spelled by the database, the hashes are computed
 * here. Rows that were changed, taken out or put in break it. That the tail was cut off, or all of it written anew from
 * some row on, shows only against a head that was kept elsewhere.
 */
import { hash } from 'node:crypto'
import { sql } from 'drizzle-orm'
import type { Database } from '../database/database.ts'

/** The last row, or any that was the last once. */
export type ChainHead = { sequence: number; hash: string }

export type ChainVerdict =
  /** `head` is undefined where there is no row at all. */
  | { ok: true; count: number; head: ChainHead | undefined }
  /** `id` is undefined where the row is missing. */
  | { ok: false; brokenAt: { sequence: number; id: string | undefined; reason: BrokenChain } }

export type BrokenChain =
  | 'the row is missing'
  | 'the row has a number that none is given'
  | 'the row does not follow from the one before'
  | 'the row is not what was written'
  | 'the row is not the one that was the head'

const PAGE_SIZE = 1000
/** What the first row follows from (drizzle/0003_management_guards.sql). */
const GENESIS = hash('sha256', '', 'hex')

type Row = { sequence: string; id: string; previous: string; hash: string; text: string }

/** Reads the whole chain, as platform. `expected`: a head of an earlier verification, which must still be in it. */
export async function verifyChain(
  database: Pick<Database, 'execute'>,
  expected?: ChainHead,
): Promise<ChainVerdict> {
  let count = 0
  let head: ChainHead | undefined
  for (;;) {
    const rows = await readPage(database, head?.sequence)
    for (const row of rows) {
      const link: ChainHead = { sequence: Number(row.sequence), hash: row.hash }
      const reason = findBreak(row, link, head)
      if (reason === 'the row is missing') return broken((head?.sequence ?? 0) + 1, undefined, reason)
      if (reason) return broken(link.sequence, row.id, reason)
      if (expected?.sequence === link.sequence && expected.hash !== link.hash)
        return broken(link.sequence, row.id, 'the row is not the one that was the head')
      head = link
      count++
    }
    if (rows.length < PAGE_SIZE) break
  }
  if (expected && expected.sequence > count) return broken(count + 1, undefined, 'the row is missing')
  return { ok: true, count, head }
}

/** What is wrong with a row after `last`, if anything is. */
function findBreak(row: Row, { sequence }: ChainHead, last: ChainHead | undefined): BrokenChain | undefined {
  const expected = (last?.sequence ?? 0) + 1
  if (sequence > expected) return 'the row is missing'
  if (sequence < expected) return 'the row has a number that none is given'
  if (row.previous !== (last?.hash ?? GENESIS)) return 'the row does not follow from the one before'
  const covered = Buffer.concat([Buffer.from(row.previous, 'hex'), Buffer.from(row.text)])
  return hash('sha256', covered, 'hex') === row.hash ? undefined : 'the row is not what was written'
}

/** Without a lower bound at first: a row put in before the first would have a number below 1. */
const readPage = (database: Pick<Database, 'execute'>, after: number | undefined) =>
  database.execute<Row>(sql`
    select sequence, id, encode(previous_hash, 'hex') as previous, encode(hash, 'hex') as hash,
      audit_event_text(e) as text
    from audit_events e
    ${after === undefined ? sql`` : sql`where sequence > ${after}`}
    order by sequence limit ${PAGE_SIZE}`)

const broken = (sequence: number, id: string | undefined, reason: BrokenChain): ChainVerdict => ({
  ok: false,
  brokenAt: { sequence, id, reason },
})
