/**
 * `npm run measure -- limits`: whether limits are exact across three instances. In each of 300 rounds (--rounds) a new
 * client has a limit of N tokens a minute, N random from 1 to 60, and asks for 5 N at once, spread over the instances.
 * Counts the tokens that it received and those in the ledger. Exits with 1 when they are not N in every round.
 */
import { parseArgs } from 'node:util'
import { untilMinuteHasLeft } from '../../test/support/mint.ts'
import { seedClient } from '../../test/support/seed.ts'
import { exchangeCall, startFleet } from '../fleet.ts'
import { withThrowawayServer } from '../throwaway-server.ts'

const { values: options } = parseArgs({ options: { rounds: { type: 'string', default: '300' } } })
const MAX_LIMIT = 60
/** What a round may take: it must lie in one minute of the database’s clock. */
const ROUND_SECONDS = 5

await withThrowawayServer(async (server) => {
  const fleet = await startFleet(server)
  const { sql, call, instances } = fleet
  try {
    let [asked, admitted, over, under, unclear] = [0, 0, 0, 0, 0]
    for (let round = 0; round < Number(options.rounds); round++) {
      const limit = 1 + Math.floor(Math.random() * MAX_LIMIT)
      const client = await seedClient(sql, { rateLimitPerMinute: limit })
      await untilMinuteHasLeft(sql, ROUND_SECONDS)
      const began = performance.now()
      const statuses = await Promise.all(
        Array.from({ length: 5 * limit }, async (_, i) => {
          const instance = instances[i % 3 === 0 ? 0 : i % 3 === 1 ? 1 : 2]
          return (await call(instance, exchangeCall(client))).status
        }),
      )
      if (performance.now() - began > ROUND_SECONDS * 1000) throw new Error('a round took too long to judge')
      const [row] = await sql<{ recorded: number }[]>`
        select count(*)::integer as recorded from issued_tokens where client_id = ${client.clientId}`
      const received = statuses.filter((status) => status === 200).length
      const recorded = row?.recorded ?? 0
      asked += statuses.length
      admitted += received
      over += Math.max(0, Math.max(received, recorded) - limit)
      if (statuses.some((status) => status !== 200 && status !== 429)) unclear++
      else under += Math.max(0, limit - Math.min(received, recorded))
    }
    console.log(
      `${options.rounds} rounds on three instances, ${asked} tokens asked for, ${admitted} received`,
    )
    console.log(`over the limit   ${over}`)
    console.log(`under it         ${under}`)
    if (unclear > 0)
      console.log(`rounds with an answer of neither 200 nor 429 (not judged for less)   ${unclear}`)
    if (over > 0 || under > 0) throw new Error('the limits were not exact')
  } finally {
    await fleet.close()
  }
})
