/** The service's connections: each kind of work has its own, so that what is slow in one cannot starve another. */
import { connectAsNobody, connectAsPlatform, type DatabaseTarget, disconnect } from './database/database.ts'
import { ADMISSION_SETTINGS, createAdmission } from './ledger/admission.ts'
import { INSPECTION_SETTINGS } from './tokens/store.ts'

export function connectPools(target: DatabaseTarget) {
  const pools = {
    /** What the exchange reads. */
    lookups: connectAsPlatform(target, { max: 4, statementTimeoutMilliseconds: 500 }),
    /** The same, where it waits for whoever is changing the rows. */
    settling: connectAsPlatform(target, { max: 2, statementTimeoutMilliseconds: 500 }),
    /** A gateway may ask for each of its own requests: whoever mints does not wait behind that. */
    inspecting: connectAsPlatform(target, {
      max: 3,
      statementTimeoutMilliseconds: 500,
      settings: INSPECTION_SETTINGS,
    }),
    /** Management: sees nothing until a transaction says whose it is. */
    managing: connectAsNobody(target, { max: 4, statementTimeoutMilliseconds: 2_000 }),
    /** The same for what clients do for themselves: nobody who floods that with a key keeps others from revoking it. */
    selfServing: connectAsNobody(target, { max: 2, statementTimeoutMilliseconds: 2_000 }),
    background: connectAsPlatform(target, {
      max: 1,
      statementTimeoutMilliseconds: 10_000,
      settings: { lock_timeout: '200ms' },
    }),
  }
  /** What lets tokens out. It is closed by itself, and first. */
  const admission = createAdmission(() =>
    connectAsPlatform(target, { max: 3, statementTimeoutMilliseconds: 500, settings: ADMISSION_SETTINGS }),
  )
  return { ...pools, admission, disconnectAll: () => Promise.all(Object.values(pools).map(disconnect)) }
}
