/**
 * `npm run fuzz -- [--requests 20000] [--seed N]`: a server of its own, driven with requests made from its OpenAPI
 * document. Prints what was answered, by operation and status. Exits with 1 on a 5xx, on an answer that is not as
 * documented (with the request), on an operation that never succeeded, and when it takes longer than four minutes.
 */
import { parseArgs } from 'node:util'
import { fuzz } from '../test/support/fuzz/fuzz.ts'
import { withThrowawayServer } from './throwaway-server.ts'

const CONCURRENCY = 8
const DEADLINE_MS = 240_000
/** Of fewer, some operation may have had bad luck only. */
const ENOUGH = 5000

const { values } = parseArgs({
  options: { requests: { type: 'string', default: '20000' }, seed: { type: 'string' } },
})
const requests = Number(values.requests)
const seed = values.seed === undefined ? Date.now() % 2 ** 31 : Number(values.seed)

await withThrowawayServer(async (server) => {
  await server.start()
  const { operator } = await server.bootstrapped()
  console.log(`seed ${seed}: ${requests} requests to ${server.url}, ${CONCURRENCY} at a time`)
  const began = performance.now()
  const { sent, counts, violations } = await fuzz({
    url: server.url,
    operator,
    requests,
    seed,
    concurrency: CONCURRENCY,
    deadlineMilliseconds: DEADLINE_MS,
  })
  const seconds = (performance.now() - began) / 1000

  for (const [operation, ofOperation] of [...counts].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const cells = [...ofOperation].sort(([a], [b]) => a - b).map(([status, count]) => `${status}: ${count}`)
    console.log(`${operation.padEnd(54)} ${cells.join('  ')}`)
  }
  console.log(`${sent} requests in ${seconds.toFixed(0)} s (seed ${seed})`)
  for (const { request, answer, broken } of violations)
    console.log(`\nVIOLATION ${broken.join('; ')}\n  ${request}\n  → ${answer}`)
  if (violations.length > 0) throw new Error(`${violations.length} answers are not as documented`)
  if (sent < requests) throw new Error(`only ${sent} requests were sent within ${DEADLINE_MS / 1000} s`)
  const failed = [...counts].filter(
    ([, ofOperation]) => ![...ofOperation.keys()].some((status) => status < 300),
  )
  const never = failed.map(([operation]) => operation).filter((operation) => !/^(HEAD|\()/.test(operation))
  if (requests >= ENOUGH && never.length > 0) throw new Error(`never succeeded: ${never.join(', ')}`)
})
