/** From the configuration to a service: every dependency is made here and passed down. */
import type { Logger } from 'pino'
import { createApp } from './app.ts'
import { bootstrap, type HandOver } from './bootstrap.ts'
import { type Clock, inTime, systemClock } from './clock.ts'
import type { Config } from './config.ts'
import { answers, connectAsPlatform, type DatabaseTarget, disconnect } from './database/database.ts'
import { withMigratedDatabase } from './database/migrate.ts'
import { createDelegations } from './delegations/delegations.ts'
import { createDelegationStore } from './delegations/store.ts'
import { createExchange } from './exchange/exchange.ts'
import { createKeyFormat } from './keys/key-format.ts'
import { createKeys } from './keys/keys.ts'
import { createKeyStore } from './keys/store.ts'
import { ADMISSION_SETTINGS, createAdmission } from './ledger/admission.ts'
import { createLedger } from './ledger/ledger.ts'
import { dropOldLedger, ensureLedgerPartitions } from './ledger/retention.ts'
import { createLedgerStore } from './ledger/store.ts'
import { createUsage } from './ledger/usage.ts'
import { createClientAddress } from './network/client-address.ts'
import { createThrottle } from './network/throttle.ts'
import { createSealing } from './signing/sealing.ts'
import { createSigner, ensureSigningKeys } from './signing/signer.ts'
import { createSigningKeyStore } from './signing/store.ts'

const CACHE_SIZE = 20_000
/** A client's, before it gets 429 for each: enough for any mistake, too little to keep the database busy. */
const DENIALS_PER_MINUTE = 1000
const HOUR = 3_600_000
/** How long another instance's change to the signing keys may go unseen where nothing points it out. */
const SIGNING_KEY_REFRESH = 30_000

export type Service = {
  app: ReturnType<typeof createApp>
  /** Brings the database up to date and loads the keys. To be repeated until it succeeds. */
  start(): Promise<void>
  /** Writes what has gathered and lets go of the database. */
  stop(): Promise<void>
}

export type ServiceOptions = {
  config: Pick<
    Config,
    | 'issuer'
    | 'defaultAudience'
    | 'signingAlgorithm'
    | 'keyVendor'
    | 'trustedProxies'
    | 'failedAuthenticationsPerMinute'
  >
  target: DatabaseTarget
  keyEncryptionKeys: readonly Uint8Array[]
  withDemo: boolean
  /** Called at the first start only, before its keys are committed. */
  handOver: HandOver
  log: Logger
  now?: Clock
}

export function compose(options: ServiceOptions): Service {
  const { config, target, log, now = systemClock } = options
  const reportAs = (what: string) => (error: unknown) => log.error({ err: error }, what)

  // Each kind of work has connections of its own: what is slow in one cannot starve the other.
  const lookups = connectAsPlatform(target, { max: 4, statementTimeoutMilliseconds: 500 })
  const admission = createAdmission(() =>
    connectAsPlatform(target, { max: 3, statementTimeoutMilliseconds: 500, settings: ADMISSION_SETTINGS }),
  )
  const settling = connectAsPlatform(target, { max: 2, statementTimeoutMilliseconds: 500 })
  const background = connectAsPlatform(target, {
    max: 1,
    statementTimeoutMilliseconds: 10_000,
    settings: { lock_timeout: '200ms' },
  })

  const keyFormat = createKeyFormat(config.keyVendor)
  const sealing = createSealing(options.keyEncryptionKeys)
  const signer = createSigner({
    store: createSigningKeyStore(lookups),
    sealing,
    now,
    onFailure: reportAs('signing keys'),
  })
  const ledger = createLedger({
    admitBatch: admission.admitBatch,
    onFailure: (error, tokens) =>
      log.error({ err: error, tokens }, 'admission failed; no token of the batch left'),
  })
  const usage = createUsage({
    store: createLedgerStore(background),
    now,
    onFailure: reportAs('usage was not written'),
  })

  const exchange = createExchange({
    keyFormat,
    keys: createKeys({ store: createKeyStore(lookups, settling), cacheSize: CACHE_SIZE }),
    delegations: createDelegations({
      store: createDelegationStore(lookups, settling),
      cacheSize: CACHE_SIZE,
    }),
    signer,
    ledger,
    usage,
    failures: createThrottle(config.failedAuthenticationsPerMinute),
    denials: createThrottle(DENIALS_PER_MINUTE),
    now,
    issuer: config.issuer,
    defaultAudience: config.defaultAudience,
  })

  let started = false
  let asking: Promise<boolean> | undefined
  const timers: NodeJS.Timeout[] = []
  const every = (milliseconds: number, what: string, task: () => Promise<unknown>) =>
    timers.push(setInterval(() => task().catch(reportAs(what)), milliseconds).unref())

  async function findUnreadiness(): Promise<string | undefined> {
    if (!started) return 'starting'
    if (!signer.isReady()) return 'signing_keys'
    asking ??= answers(lookups, 500).finally(() => {
      asking = undefined
    })
    return (await asking) ? undefined : 'database'
  }

  return {
    app: createApp({
      log,
      issuer: config.issuer,
      clientAddress: createClientAddress(config.trustedProxies),
      exchange,
      signer,
      findUnreadiness,
    }),

    async start() {
      await withMigratedDatabase(target, async (database) => {
        await ensureLedgerPartitions(createLedgerStore(database), now())
        await ensureSigningKeys(createSigningKeyStore(database), sealing, config.signingAlgorithm, now())
        // Before anybody's keys are made: what cannot sign should not look as if it had started.
        await signer.load()
        if (!signer.isReady())
          throw new Error('a signing key is missing or does not open; the log says which')
        const { withDemo, handOver } = options
        await bootstrap(database, { issuer: config.issuer, keyFormat, withDemo, handOver, now: now() })
      })
      const ledgerStore = createLedgerStore(background)
      every(HOUR, 'ledger partitions', () => ensureLedgerPartitions(ledgerStore, now()))
      every(HOUR, 'ledger retention', () => dropOldLedger(ledgerStore, now()))
      every(SIGNING_KEY_REFRESH, 'signing keys', () => signer.refresh())
      started = true
    },

    async stop() {
      for (const timer of timers) clearInterval(timer)
      await ledger.close()
      await admission.close()
      await inTime(usage.close(), 2000).catch(reportAs('usage was not written'))
      await Promise.all([lookups, settling, background].map(disconnect))
    },
  }
}
