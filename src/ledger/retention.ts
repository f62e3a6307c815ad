/**
 * The ledger's partitions: one a day, made ahead and dropped when they are past retention. A day without a partition
 * would refuse its tokens.
 */
import type { LedgerStore } from './store.ts'

const DAY = 86_400_000
const DAYS_AHEAD = 7
/** Never less than the longest life of a token, which is a day. */
export const RETENTION_DAYS = 90

type Partitions = Pick<LedgerStore, 'findPartitions' | 'addPartition' | 'dropPartition' | 'forgetBefore'>

/** Makes the partitions from yesterday (a clock may lag at midnight) to a week ahead of `now`. Safe to repeat. */
export async function ensureLedgerPartitions(store: Partitions, now: number): Promise<void> {
  const present = await store.findPartitions()
  const today = Math.floor(now / DAY)
  for (let day = today - 1; day <= today + DAYS_AHEAD; day++)
    if (!present.includes(isoDay(day))) await store.addPartition(isoDay(day), isoDay(day + 1))
}

/** Fewer days than that are left only when nobody has made any for days. */
const FEW_DAYS = 3

/**
 * Makes partitions where few are left, and answers whether it had to: for each instance to ask by itself, so that no day
 * comes without one because whatever should have made them does not run.
 */
export async function ensureFewDays(store: Partitions, now: number): Promise<boolean> {
  const present = await store.findPartitions()
  const today = Math.floor(now / DAY)
  for (let day = today; day <= today + FEW_DAYS; day++)
    if (!present.includes(isoDay(day))) {
      await ensureLedgerPartitions(store, now)
      return true
    }
  return false
}

/** Drops what is past retention. Safe to repeat. */
export async function dropOldLedger(store: Partitions, now: number): Promise<void> {
  const oldest = (Math.floor(now / DAY) - RETENTION_DAYS) * DAY
  for (const day of await store.findPartitions()) if (Date.parse(day) < oldest) await store.dropPartition(day)
  await store.forgetBefore(new Date(oldest), new Date(now))
}

const isoDay = (day: number) => new Date(day * DAY).toISOString().slice(0, 10)
