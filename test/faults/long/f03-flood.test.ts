/** F3: more requests at once than a slow database will ever take. */
import { expect, test } from 'vitest'
import { startBehindProxy, type Timed, timed } from '../../support/behind-proxy.ts'
import { mint } from '../../support/mint.ts'
import { waitFor } from '../../support/process.ts'
import { seedClient } from '../../support/seed.ts'

/** More than may wait for their batch (2,048). */
const FLOOD = 2_500

test('F3 a flood at a database that does not answer: all of it is refused, memory is bounded, and it recovers alone', async () => {
  const one = await startBehindProxy()
  try {
    const client = await seedClient(one.database.sql)
    const mintOnce = () => timed(() => mint(one.service.url, client))
    await waitFor('a token', async () => (await mintOnce()).status === 200)
    one.proxy.delay(1_000)
    await mintOnce()
    const before = process.memoryUsage().rss
    const answers: Timed[] = await Promise.all(Array.from({ length: FLOOD }, mintOnce))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([503]))
    const grownMb = Math.round((process.memoryUsage().rss - before) / 2 ** 20)
    one.proxy.delay(0)
    const backMs = await waitFor('a token', async () => (await mintOnce()).status === 200)
    console.log(
      `F3: ${FLOOD} at once: memory grew by ${grownMb} MB (client and server); minting ${backMs} ms after the delay`,
    )
    expect(grownMb).toBeLessThan(400)
    expect(backMs).toBeLessThan(5_000)
  } finally {
    await one.end()
  }
})
