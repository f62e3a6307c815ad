/** The process that makes the load: takes the turns, then one run after the other, and sends each one's result. */
import autocannon, { type Request } from 'autocannon'
import type { LoadOptions, LoadResult, Turn } from './load.ts'
import { runPaced } from './paced.ts'

let turns: Turn[] = []

process.on('message', async (message: { turns: Turn[] } | LoadOptions) => {
  if ('turns' in message) turns = message.turns
  else
    process.send?.(await (message.rate === undefined ? run(message) : runPaced(message, message.rate, turns)))
})
process.on('disconnect', () => process.exit())

async function run({ url, connections, seconds }: LoadOptions): Promise<LoadResult> {
  const { origin, pathname } = new URL(url)
  const requests: Request[] = turns.map(({ authorization, body }) => ({
    method: 'POST',
    path: pathname,
    headers: { authorization, 'content-type': 'application/json' },
    body,
  }))
  // Each connection has turns of its own.
  const share = requests.length / connections
  let opened = 0
  const result = await autocannon({
    url: origin,
    connections,
    duration: seconds,
    requests: requests.slice(0, 1),
    setupClient(client) {
      client.setRequests(requests.slice(Math.floor(opened * share), Math.floor(++opened * share)))
    },
  })
  return {
    answered: result['2xx'],
    failed: result.non2xx + result.errors + result.timeouts,
    seconds: result.duration,
    p50: result.latency.p50,
    p99: result.latency.p99,
  }
}
