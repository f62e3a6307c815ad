/** The ledger's partitions: one a day, made ahead. A day without a partition would refuse its tokens. */
import type { LedgerStore } from './store.ts'

const DAY = 86_400_000
const DAYS_AHEAD = 7

/** Makes the partitions from yesterday (a clock may lag at midnight) to a week ahead of `now`. Safe to repeat. */
export async function ensureLedgerPartitions(
  store: Pick<LedgerStore, 'ensurePartition'>,
  now: number,
): Promise<void> {
  const today = Math.floor(now / DAY)
  for (let day = today - 1; day <= today + DAYS_AHEAD; day++)
    await store.ensurePartition(isoDay(day), isoDay(day + 1))
}

const isoDay = (day: number) => new Date(day * DAY).toISOString().slice(0, 10)
