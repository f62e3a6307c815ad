/** What one process does: composes the service, listens, and once it is asked to end, drains. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { type Bootstrapped, writeBootstrapFile } from './bootstrap.ts'
import { compose, type Service } from './compose.ts'
import type { Config } from './config.ts'
import type { DatabaseTarget } from './database/database.ts'
import { UnsafeRoleError } from './database/migrate.ts'
import { StartRefusedError } from './errors.ts'
import { createHttpServer, type HttpServer } from './http/server.ts'

const START_GRACE_MILLISECONDS = 3_000

/** What all processes of one service share. */
export type Foundation = { target: DatabaseTarget; keyEncryptionKeys: readonly Uint8Array[] }

export type StopSignals = {
  /** It should end, when it has turned away who sends it requests. */
  requested: AbortSignal
  /** It should end without that. */
  hurried: AbortSignal
}

export type ServeOptions = {
  config: Config
  foundation: Foundation
  /** Whether it listens before it can answer more than /livez; else once it is ready. */
  listensAtOnce: boolean
  printKeys: (bootstrapped: Bootstrapped) => void
  onReady: () => void
  stop: StopSignals
  /** What running requests get to finish, at the end. */
  drainMilliseconds: number
  log: Logger
}

/** Resolves once it has drained, after `stop`. Rejects with StartRefusedError. */
export async function serve(options: ServeOptions): Promise<void> {
  const { config, foundation, stop, log } = options
  const retired = new AbortController()
  const service = compose({
    config,
    ...foundation,
    withDemo: config.databaseUrl === undefined,
    async handOver(bootstrapped) {
      if (config.bootstrapFile !== undefined) await writeBootstrapFile(config.bootstrapFile, bootstrapped)
      options.printKeys(bootstrapped)
    },
    retired: retired.signal,
    log,
  })
  const server = createHttpServer(service.app, {
    onTurnedAway: (turnedAway) => log.info({ turned_away: turnedAway }, 'turned away'),
  })
  try {
    if (options.listensAtOnce) await listen(server, config)
    const isStarted = await startPatiently(service, stop.requested, log)
    if (isStarted && !stop.requested.aborted) {
      if (!options.listensAtOnce) await listen(server, config)
      options.onReady()
      await once(stop.requested)
      // Who sends requests here learns of it first, by readiness and by connections that end: nothing is refused yet.
      retired.abort()
      server.retire()
      await pause(1000 * config.drainGraceSeconds, stop.hurried)
    }
    log.info('draining')
    await server.drain(options.drainMilliseconds)
  } finally {
    await service.stop()
  }
}

async function listen(server: HttpServer, { host, port }: Config): Promise<void> {
  await server.listen(port, host).catch((error) => {
    if (error.code !== 'EADDRINUSE') throw error
    throw new StartRefusedError(`HOST ${host}, PORT ${port}: another program listens there already.`)
  })
}

/**
 * A database that is not there yet is waited for: /livez answers meanwhile, /readyz says no. A start that is under way
 * when it should stop may finish, for a while.
 */
async function startPatiently(service: Service, stop: AbortSignal, log: Logger): Promise<boolean> {
  const givenUp = once(stop).then(() => pause(START_GRACE_MILLISECONDS))
  for (let attempt = 1; !stop.aborted; attempt++) {
    try {
      const starting = service.start().then(() => true)
      starting.catch(() => {})
      return await Promise.race([starting, givenUp.then(() => false)])
    } catch (error) {
      if (error instanceof UnsafeRoleError) throw new StartRefusedError(error.message)
      log.error({ err: error, attempt }, 'not started yet')
    }
    await pause(Math.min(100 * 2 ** attempt, 5000) * (0.5 + Math.random() / 2), stop)
  }
  return false
}

async function once(signal: AbortSignal): Promise<void> {
  if (!signal.aborted)
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
}

/** Ends early with the signal. */
const pause = (milliseconds: number, signal?: AbortSignal): Promise<void> =>
  sleep(milliseconds, undefined, signal && { signal }).catch(() => {})
