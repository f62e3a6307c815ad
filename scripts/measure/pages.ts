/**
 * `npm run measure -- pages`: pages through a list of 100 000 keys over HTTP, on a server of its own, and prints what the
 * first and the last pages took. Exits with 1 when the last ones take more than twice as long.
 */
import { hash, randomBytes } from 'node:crypto'
import postgres from 'postgres'
import { startEmbeddedPostgres } from '../../src/database/embedded.ts'
import { newId } from '../../src/ids.ts'
import { withThrowawayServer } from '../throwaway-server.ts'

const KEYS = 100_000
const PAGE = 100
/** Pages at either end that are compared, by their median. */
const COMPARED = 50

await withThrowawayServer(async (server) => {
  await server.start()
  const { operator } = await server.bootstrapped()
  const { organization_id: organizationId, client_id: clientId, key } = operator
  const embedded = await startEmbeddedPostgres({ dataDir: server.dataDir })
  const sql = postgres({ ...embedded.connection, max: 1, connection: { 'signet.platform': 'on' } })
  for (let made = 0; made < KEYS; made += 10_000) {
    const rows = Array.from({ length: 10_000 }, () => {
      const secret = randomBytes(24).toString('hex')
      return { id: newId('key'), lookup_id: secret.slice(0, 24), hash: hash('sha256', secret, 'hex') }
    })
    await sql`
      insert into keys (id, client_id, lookup_id, hash, prefix, revoked_at)
      select id, ${clientId}, lookup_id, decode(hash, 'hex'), 'sgt_live_', now()
      from jsonb_to_recordset(${sql.json(rows)}) as k (id text, lookup_id text, hash text)`
  }
  await sql`analyze keys`
  await sql.end()
  await embedded.stop()

  const exchanged = await fetch(`${server.url}/v2/auth/token`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ scopes: { organization_id: organizationId, scopes: ['signet:keys:read'] } }),
  })
  const { token } = (await exchanged.json()) as { token: string }

  const times: number[] = []
  const seen = new Set<string>()
  let cursor: string | null = null
  do {
    const began = performance.now()
    const response = await fetch(
      `${server.url}/v2/clients/${clientId}/keys?limit=${PAGE}${cursor ? `&cursor=${cursor}` : ''}`,
      { headers: { Authorization: `Bearer ${token}` } },
    )
    const page = (await response.json()) as { data: { id: string }[]; next_cursor: string | null }
    times.push(performance.now() - began)
    for (const { id } of page.data) seen.add(id)
    cursor = page.next_cursor
  } while (cursor)

  const [first, last] = [median(times.slice(0, COMPARED)), median(times.slice(-COMPARED))]
  const ratio = last / first
  console.log(`${seen.size} keys on ${times.length} pages of ${PAGE}`)
  console.log(
    `first ${COMPARED} pages ${first.toFixed(2)} ms, last ${COMPARED} ${last.toFixed(2)} ms (medians)`,
  )
  console.log(`last to first: ${ratio.toFixed(2)}`)
  if (seen.size !== KEYS + 1) throw new Error('a key was left out, or came twice')
  if (ratio > 2) throw new Error('the last pages cost more than the first')
})

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}
