/**
 * `npm run measure -- retries`: whether a write that is retried with its Idempotency-Key takes effect once. Of 10 000
 * writes (--writes 100000) by the management API (organizations, clients and keys that are made), each is sent three times
 * at once to any of three instances, some of them by callers who hang up; and again until it is answered. Meanwhile the
 * database connections of one of the instances are cut, one after the other. Counts the rows and the audit events. Exits
 * with 1 when there is not one for each write.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type Answer, type Call, operatorToken, startFleet } from '../fleet.ts'
import { withThrowawayServer } from '../throwaway-server.ts'

const { values: options } = parseArgs({ options: { writes: { type: 'string', default: '10000' } } })
const writes = Number(options.writes)
const PARALLEL_WRITES = 12
const SENT_AT_ONCE = 3
const HANG_UPS = 0.3
const CUT_EVERY_MS = 50
/** Tries of a write until it is given up. */
const PATIENCE = 100

await withThrowawayServer(async (server) => {
  const fleet = await startFleet(server)
  const { sql, call, instances, proxy } = fleet
  const began = performance.now()
  const scopes = ['signet:organizations:write', 'signet:clients:write', 'signet:keys:write']
  const authorization = await operatorToken(fleet, scopes)
  let isDone = false
  let [sent, hungUp, cuts, refused] = [0, 0, 0, 0]
  const wrong: string[] = []

  async function cutConnections(): Promise<void> {
    while (!isDone) {
      await sleep(2 * CUT_EVERY_MS * Math.random())
      if (proxy.size() === 0) continue
      proxy.cut(Math.random() < 0.5 ? 'reset' : 'server')
      cuts++
    }
  }

  async function tryOnce(write: Call, mayHangUp: boolean): Promise<Answer | undefined> {
    const hangUp = mayHangUp && Math.random() < HANG_UPS ? { hangUpAfter: Math.random() * 15 } : {}
    sent++
    const instance = instances[Math.floor(Math.random() * 3) as 0 | 1 | 2]
    try {
      return await call(instance, { ...write, ...hangUp })
    } catch {
      hungUp++
      return undefined
    }
  }

  /** Sends it until it is answered for good, and answers with the id of what it made. */
  async function write(what: Omit<Call, 'authorization'>): Promise<string> {
    const whole: Call = { ...what, authorization, headers: { 'Idempotency-Key': randomUUID() } }
    const made = new Set<string>()
    const note = (answer: Answer | undefined) => {
      if (answer === undefined) return
      if (answer.status === 201 || answer.status === 200) made.add(JSON.parse(answer.body).id)
      // In flight elsewhere, or out of order for the moment: to be tried again.
      else if (answer.status === 409 || answer.status >= 500) refused++
      else wrong.push(`${what.path} was answered with ${answer.status}: ${answer.body}`)
    }
    const tries = Array.from({ length: SENT_AT_ONCE }, () => tryOnce(whole, true))
    for (const answer of await Promise.all(tries)) note(answer)
    for (let tried = 0; made.size === 0 && wrong.length === 0; tried++) {
      if (tried > PATIENCE) throw new Error(`${what.path} was never answered`)
      await sleep(20)
      note(await tryOnce(whole, false))
    }
    // Even when it has been answered.
    note(await tryOnce(whole, false))
    if (made.size > 1) wrong.push(`${what.path} made ${[...made].join(' and ')}`)
    return [...made][0] ?? ''
  }

  const counts = { organizations: 0, clients: 0, keys: 0 }
  async function writeOn(): Promise<void> {
    while (counts.organizations + counts.clients + counts.keys < writes && wrong.length === 0) {
      counts.organizations++
      const organizationId = await write({ path: '/v2/organizations', body: { name: 'Retried' } })
      counts.clients++
      const clientId = await write({
        path: `/v2/organizations/${organizationId}/clients`,
        body: { name: 'Retried', environment: 'sandbox', scopes: ['transactions:read'] },
      })
      counts.keys++
      await write({ path: `/v2/clients/${clientId}/keys`, body: {} })
    }
  }

  try {
    const [before] = await count()
    const cutting = cutConnections()
    await Promise.all(Array.from({ length: PARALLEL_WRITES }, writeOn))
    isDone = true
    await cutting
    const [after] = await count()
    const seconds = (performance.now() - began) / 1000
    const total = counts.organizations + counts.clients + counts.keys
    console.log(
      `${total} writes, sent ${sent} times to three instances in ${seconds.toFixed(0)} s: ${hungUp} connections cut by the ` +
        `caller, ${cuts} to the database, ${refused} answers of 409 or 5xx`,
    )
    if (!before || !after) throw new Error('nothing was counted')
    let twice = 0
    for (const [what, expected] of [
      ['organizations', counts.organizations],
      ['clients', counts.clients],
      ['keys', counts.keys],
      ['events', total],
    ] as const) {
      const found = after[what] - before[what]
      console.log(`${what.padEnd(14)} ${expected} written, ${found} there`)
      twice += Math.abs(found - expected)
    }
    console.log(`duplicate effects ${twice}`)
    if (wrong.length > 0) throw new Error(wrong[0])
    if (twice > 0) throw new Error('a write did not take effect exactly once')
  } finally {
    isDone = true
    await fleet.close()
  }

  async function count() {
    return sql<{ organizations: number; clients: number; keys: number; events: number }[]>`
      select (select count(*)::integer from organizations) as organizations,
        (select count(*)::integer from clients) as clients, (select count(*)::integer from keys) as keys,
        (select count(*)::integer from audit_events where action in ('organization.create', 'client.create', 'key.create')) as events`
  }
})
