/** From the configuration to a service: every dependency is made here and passed down. */
import type { Logger } from 'pino'
import { createApp } from './app.ts'
import { insertEvents, recordEvent } from './audit/audit.ts'
import { createRefusals } from './audit/refusals.ts'
import { bootstrap, type HandOver } from './bootstrap.ts'
import { type Clock, inTime, systemClock } from './clock.ts'
import type { Config } from './config.ts'
import { connectAsPlatform, type DatabaseTarget } from './database/database.ts'
import { withMigratedDatabase } from './database/migrate.ts'
import type { Environment } from './database/schema.ts'
import { createServers } from './database/servers.ts'
import { createTransactions } from './database/transaction.ts'
import { createDelegations } from './delegations/delegations.ts'
import { createDelegationStore } from './delegations/store.ts'
import { issuerOf } from './exchange/claims.ts'
import { createExchange, type Exchange } from './exchange/exchange.ts'
import { createHousekeeping } from './housekeeping.ts'
import type { JobTimings } from './jobs/jobs.ts'
import { createAssertions } from './keys/assertion.ts'
import { createAuthenticateClient } from './keys/client-authentication.ts'
import { createKeyFormat } from './keys/key-format.ts'
import { createKeys } from './keys/keys.ts'
import { createProve } from './keys/proof.ts'
import { isOfKey } from './keys/refusal.ts'
import { createSelfService } from './keys/self-service.ts'
import { createAssertionStore, createCredentialStore } from './keys/store.ts'
import { createLedger } from './ledger/ledger.ts'
import { punctual } from './ledger/punctual.ts'
import { ensureLedgerPartitions } from './ledger/retention.ts'
import { createLedgerStore } from './ledger/store.ts'
import { createUsage } from './ledger/usage.ts'
import { createAuthenticate } from './management/authenticate.ts'
import { createPerformChange } from './management/change.ts'
import { createCursors } from './management/cursor.ts'
import type { Operation } from './management/operation.ts'
import { sourceOf } from './network/address.ts'
import { createClientAddress } from './network/client-address.ts'
import { createEvenly } from './network/even-time.ts'
import { createThrottle } from './network/throttle.ts'
import { createOperations } from './operations.ts'
import { connectPools } from './pools.ts'
import { createFindUnreadiness, watchClock } from './readiness.ts'
import { createSealing } from './signing/sealing.ts'
import { createSigner, ensureSigningKeys } from './signing/signer.ts'
import { createSigningKeyStore } from './signing/store.ts'
import { createInspectToken } from './tokens/inspection.ts'
import { createRevokeToken } from './tokens/revocation.ts'
import { createRevocationFeed, FEED_POLL_MILLISECONDS } from './tokens/revocation-feed.ts'
import { createInspectionStore } from './tokens/store.ts'
import { createReadToken } from './tokens/token-reader.ts'

const CACHE_SIZE = 20_000
/** A client's, before it gets 429 for each: enough for any mistake, too little to keep the database busy. */
const DENIALS_PER_MINUTE = 1000
/** For each failed key, so many failed tokens: refusing one reads nothing, and nobody guesses a signature. */
const FAILED_TOKENS = 10
/** A share is an organization's in management, a client's in what keys do for themselves. */
const TRANSACTIONS = { deadlineMilliseconds: 4_000, maxPending: 1000, maxPendingPerShare: 100 }
/** How long another instance's change to the signing keys may go unseen where nothing points it out. */
const SIGNING_KEY_REFRESH = 30_000
/** How long a jump of the database's clock may go unseen; one of ours never does. */
const CLOCK_MEASURE = 1_000

export type Service = {
  app: ReturnType<typeof createApp>
  /** Of the management API. */
  operations: readonly Operation[]
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
    | 'fourEyes'
    | 'acceptTokenEndpointAudience'
    | 'signingKeyRotationDays'
  >
  target: DatabaseTarget
  keyEncryptionKeys: readonly Uint8Array[]
  withDemo: boolean
  /** Called at the first start only, before its keys are committed. */
  handOver: HandOver
  /** See network/even-time.ts. 0: failed authentications are answered at once. */
  failureMilliseconds?: number
  log: Logger
  /** Once aborted it is not ready, so that nobody sends it more; it still answers everything. */
  retired?: AbortSignal
  now?: Clock
  jobTimings?: Partial<JobTimings>
}

export function compose(options: ServiceOptions): Service {
  const { config, log, now = systemClock } = options
  const reportAs = (what: string) => (error: unknown) => log.error({ err: error }, what)

  const target = createServers(options.target, { onNotice: (notice) => log.warn({ notice }, 'database') })
  const pools = connectPools(target)
  const { lookups, settling, background, admission } = pools
  const inTransaction = createTransactions(pools.managing, TRANSACTIONS)
  const inOwnTransaction = createTransactions(pools.selfServing, TRANSACTIONS)

  const clock = watchClock(lookups, log)
  const issuerOfEnvironment = (environment: Environment) => issuerOf(config.issuer, environment)
  const keyFormat = createKeyFormat(config.keyVendor)
  const sealing = createSealing(options.keyEncryptionKeys)
  const signer = createSigner({
    store: createSigningKeyStore(lookups, settling, reportAs('signing keys')),
    sealing,
    now,
    onFailure: reportAs('signing keys'),
  })
  const ledger = createLedger({
    admitBatch: punctual(admission.admitBatch, { clock, now }),
    onFailure: (error, tokens) =>
      log.error({ err: error, tokens }, 'admission failed; no token of the batch left'),
  })
  const usage = createUsage({
    store: createLedgerStore(background),
    now,
    onFailure: reportAs('usage was not written'),
  })
  const refusals = createRefusals({
    write: (events) => insertEvents(background, events),
    sourceOf,
    now,
    onFailure: reportAs('refusals were not written'),
  })

  const keys = createKeys({ store: createCredentialStore(lookups, settling), cacheSize: CACHE_SIZE })
  const failures = createThrottle(config.failedAuthenticationsPerMinute)
  const denials = createThrottle(DENIALS_PER_MINUTE)
  const performChange = createPerformChange({ inTransaction, record: recordEvent })

  const assertions = createAssertions({
    store: createAssertionStore(lookups, settling),
    cacheSize: CACHE_SIZE,
    now,
    issuerOf: issuerOfEnvironment,
    acceptsTokenEndpoint: config.acceptTokenEndpointAudience,
    log,
  })
  const prove = createProve({ keyFormat, keys, assertions })
  const readToken = createReadToken({
    jwks: (environment) => signer.jwks(environment)?.set,
    issuerOf: issuerOfEnvironment,
  })
  const revokeToken = createRevokeToken({ inTransaction: inOwnTransaction, record: recordEvent })
  const inspectToken = createInspectToken({ readToken, store: createInspectionStore(pools.inspecting), now })
  const feed = createRevocationFeed({
    connect: (pool) => connectAsPlatform(target, pool),
    signer,
    issuerOf: issuerOfEnvironment,
    now,
    onFailure: reportAs('the revocation feed could not be read'),
  })

  const exchangePunctually = createExchange({
    prove,
    delegations: createDelegations({
      store: createDelegationStore(lookups, settling),
      cacheSize: CACHE_SIZE,
    }),
    inspectToken,
    signer,
    ledger,
    usage,
    failures,
    denials,
    onRefused: refusals.record,
    now,
    issuer: config.issuer,
    defaultAudience: config.defaultAudience,
  })

  // A wrong clock would call good keys and tokens expired, or expired ones good: the fault is ours, and not the caller's.
  const evenly = createEvenly(options.failureMilliseconds)
  const exchange: Exchange = evenly(
    (request) =>
      clock.isRight()
        ? exchangePunctually(request)
        : Promise.resolve({ ok: false as const, reason: 'unavailable' as const }),
    (answer) => answer?.ok === false && isOfKey(answer.reason),
  )

  const operations = createOperations({ config, keyFormat, sealing, signer })
  const tokenFailures = createThrottle(FAILED_TOKENS * config.failedAuthenticationsPerMinute)

  const housekeeping = createHousekeeping({
    ...{ target, background, inTransaction, sealing, signer, config, log, now },
    timings: options.jobTimings,
  })

  let started = false
  const timers: NodeJS.Timeout[] = []
  const every = (milliseconds: number, what: string, task: () => Promise<unknown>) =>
    timers.push(setInterval(() => task().catch(reportAs(what)), milliseconds).unref())

  const findUnreadiness = createFindUnreadiness({
    isDraining: () => options.retired?.aborted ?? false,
    isStarted: () => started,
    ...{ clock, signer, database: lookups },
  })

  return {
    operations,
    app: createApp({
      log,
      issuer: config.issuer,
      clientAddress: createClientAddress(config.trustedProxies),
      exchange,
      oauth: {
        signingAlgorithm: config.signingAlgorithm,
        authenticateClient: evenly(
          createAuthenticateClient({ prove, failures, now }),
          (it) => it?.ok === false,
        ),
        readToken,
        inspectToken,
        revokeToken: (request) => feed.follow(revokeToken(request)),
        feed,
        signer,
        now,
        onRefused: refusals.record,
      },
      selfService: createSelfService({
        keyFormat,
        keys,
        evenly,
        inTransaction: inOwnTransaction,
        performChange: createPerformChange({ inTransaction: inOwnTransaction, record: recordEvent }),
        failures,
        denials,
        usage,
        now,
      }),
      onKeyRefused: refusals.record,
      operations,
      management: {
        authenticate: createAuthenticate({
          issuer: config.issuer,
          jwks: () => (clock.isRight() ? signer.jwks('production')?.set : undefined),
          failures: {
            blockedSeconds: (address) => tokenFailures.blockedSeconds(sourceOf(address)),
            record: (address) => tokenFailures.record(sourceOf(address)),
          },
          now,
        }),
        inTransaction,
        performChange,
        followRevocation: feed.follow,
        cursors: createCursors(options.keyEncryptionKeys),
        onRefused: refusals.recordRequest,
      },
      signer,
      findUnreadiness,
    }),

    async start() {
      await clock.measure()
      if (!clock.isRight()) throw new Error('the clock is not the database’s')
      await withMigratedDatabase(target, async (database) => {
        await ensureLedgerPartitions(createLedgerStore(database), now())
        await ensureSigningKeys(createSigningKeyStore(database), sealing, config.signingAlgorithm, now())
        // Before anybody's keys are made: what cannot sign should not look as if it had started.
        await signer.load()
        if (!signer.isReady())
          throw new Error('a signing key is missing or does not open; the log says which')
        const { withDemo, handOver } = options
        await bootstrap(database, {
          issuer: config.issuer,
          fourEyes: config.fourEyes,
          keyFormat,
          withDemo,
          handOver,
          now: now(),
        })
      })
      every(CLOCK_MEASURE, 'clock', clock.measure)
      every(SIGNING_KEY_REFRESH, 'signing keys', () => signer.refresh())
      await feed.refresh()
      every(FEED_POLL_MILLISECONDS, 'revocation feed', () => feed.refresh())
      started = true
      housekeeping.start()
    },

    async stop() {
      for (const timer of timers) clearInterval(timer)
      const houseKept = housekeeping.stop()
      await ledger.close()
      await admission.close()
      await houseKept
      await inTime(usage.close(), 2000).catch(reportAs('usage was not written'))
      await inTime(refusals.close(), 2000).catch(reportAs('refusals were not written'))
      await feed.close()
      await pools.disconnectAll()
    },
  }
}
