/**
 * `npm run measure -- revoked-mints`: tokens that leave after a revocation has been answered with 200. Three instances, on
 * each of which callers mint all the time; through the first one a key, a client, an organization or a delegation is
 * stopped, over and over, in turn: while all is well, while the second instance is paused (SIGSTOP: it goes on right after
 * the 200, with what it remembers), and while the third one’s database connections have fallen silent. What was received
 * counts as minted afterwards when its request began after the 200, or when its ledger row was not there by then. Then
 * every instance is asked again and again, 20 000 times in all (--attempts 1000000), with what is revoked. 24 revocations
 * (--revocations). Exits with 1 when a token came of it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import autocannon from 'autocannon'
import { seedClient, seedDelegation, seedOrganization } from '../../test/support/seed.ts'
import { type Call, exchangeCall, type Fleet, operatorToken, startFleet } from '../fleet.ts'
import { withThrowawayServer } from '../throwaway-server.ts'

const { values: options } = parseArgs({
  options: { attempts: { type: 'string', default: '20000' }, revocations: { type: 'string', default: '24' } },
})
const CALLERS_PER_INSTANCE = 4
const BEFORE_MS = 250
const AFTER_MS = 250
const ATTACK_CONNECTIONS = 16
const TROUBLES = ['none', 'the second instance paused', 'the third one’s connections silent'] as const
const SCOPES = [
  'signet:keys:write',
  'signet:clients:write',
  'signet:organizations:write',
  'signet:delegations:write',
]

type Victim = {
  what: string
  /** A caller’s request, which succeeds until then. */
  exchange: Call
  revocation: Omit<Call, 'authorization'>
}

const VICTIMS: readonly ((fleet: Fleet) => Promise<Victim>)[] = [
  async ({ sql }) => {
    const client = await seedClient(sql)
    const revocation = { path: `/v2/keys/${client.keyId}/revoke`, body: {} }
    return { what: 'key', exchange: exchangeCall(client), revocation }
  },
  async ({ sql }) => {
    const client = await seedClient(sql)
    const revocation = { path: `/v2/clients/${client.clientId}/revoke` }
    return { what: 'client', exchange: exchangeCall(client), revocation }
  },
  async ({ sql }) => {
    const client = await seedClient(sql)
    const path = `/v2/organizations/${client.organizationId}`
    const revocation = { method: 'PATCH' as const, path, body: { status: 'suspended' } }
    return { what: 'organization', exchange: exchangeCall(client), revocation }
  },
  async ({ sql }) => {
    const partner = await seedClient(sql, { kind: 'partner' })
    const organizationId = await seedOrganization(sql)
    const id = await seedDelegation(sql, { organizationId, partnerId: partner.organizationId })
    const exchange = exchangeCall({ ...partner, organizationId })
    return { what: 'delegation', exchange, revocation: { path: `/v2/delegations/${id}/revoke` } }
  },
]

await withThrowawayServer(async (server) => {
  const fleet = await startFleet(server)
  const [, second] = fleet.instances
  const revocations = Number(options.revocations)
  const attemptsEach = Math.ceil(Number(options.attempts) / revocations)
  const totals = { received: 0, attempts: 0, after: 0 }
  const statuses = new Map<string, number>()
  const counts = new Map<string, number>()
  try {
    for (let i = 0; i < revocations; i++) {
      const makeVictim = VICTIMS[i % VICTIMS.length]
      const trouble = TROUBLES[Math.floor(i / VICTIMS.length) % TROUBLES.length] ?? 'none'
      if (!makeVictim) throw new Error('there is nothing to revoke')
      const victim = await makeVictim(fleet)
      const { received, after } = await revokeUnderLoad(fleet, victim, trouble)
      const attack = await attackWith(fleet, victim, attemptsEach)
      totals.received += received
      totals.attempts += attack.attempts
      totals.after += after + attack.succeeded
      for (const [status, count] of attack.statuses) statuses.set(status, (statuses.get(status) ?? 0) + count)
      const kind = `${victim.what}, ${trouble === 'none' ? 'no trouble' : trouble}`
      counts.set(kind, (counts.get(kind) ?? 0) + 1)
      if (after + attack.succeeded > 0) console.log(`${kind}: ${after} under load, ${attack.succeeded} later`)
    }
    for (const [kind, count] of counts) console.log(`${String(count).padStart(3)} × ${kind}`)
    console.log(`${totals.received} tokens received before the 200s, each with its ledger row by then`)
    console.log(
      `${totals.attempts} requests begun after a 200: ${[...statuses].map(([status, count]) => `${count} × ${status}`).join(', ')}`,
    )
    console.log(`tokens minted after a revocation’s 200: ${totals.after}`)
    if (totals.after > 0) throw new Error('a token was minted after the revocation')
  } finally {
    // One that is paused cannot stop.
    process.kill(second.pid, 'SIGCONT')
    await fleet.close()
  }
})

async function revokeUnderLoad(
  fleet: Fleet,
  { exchange, revocation }: Victim,
  trouble: (typeof TROUBLES)[number],
): Promise<{ received: number; after: number }> {
  const { instances, call, proxy, sql } = fleet
  const [first, second, third] = instances
  const authorization = await operatorToken(fleet, SCOPES)
  // Every instance remembers it, and the third one has come to itself.
  for (const instance of instances) await untilMinting(fleet, instance, exchange)

  const tokens: { jti: string; begun: number }[] = []
  let isOver = false
  const callers = instances.flatMap((instance) =>
    Array.from({ length: CALLERS_PER_INSTANCE }, async () => {
      while (!isOver) {
        const begun = performance.now()
        const answer = await call(instance, exchange).catch(() => undefined)
        if (answer?.status === 200) tokens.push({ jti: jtiOf(answer.body), begun })
        else await sleep(1)
      }
    }),
  )
  await sleep(BEFORE_MS)
  if (trouble === TROUBLES[1]) process.kill(second.pid, 'SIGSTOP')
  if (trouble === TROUBLES[2]) proxy.silence()
  const answer = await call(first, { ...revocation, authorization })
  const answered = performance.now()
  if (answer.status !== 200)
    throw new Error(`${revocation.path} was answered with ${answer.status}: ${answer.body}`)
  const key = exchange.authorization.slice('Bearer '.length)
  const rows = await sql<{ jti: string }[]>`
    select t.jti from issued_tokens t join keys k on k.id = t.key_id where k.hash = sha256(${Buffer.from(key)})`
  if (trouble === TROUBLES[1]) process.kill(second.pid, 'SIGCONT')
  await sleep(AFTER_MS)
  isOver = true
  await Promise.all(callers)
  // Those that were asked for while it was silent got their refusal meanwhile.
  if (trouble === TROUBLES[2]) await untilRefusing(fleet, third, exchange)

  const recorded = new Set(rows.map(({ jti }) => jti))
  const after = tokens.filter(({ jti, begun }) => begun > answered || !recorded.has(jti))
  return { received: tokens.length - after.length, after: after.length }
}

/** As many requests as fit, to each instance, and how they were answered. */
async function attackWith({ instances }: Fleet, { exchange }: Victim, attempts: number) {
  const statuses = new Map<string, number>()
  const runs = instances.map(async ({ url }) => {
    const run = autocannon({
      url,
      connections: ATTACK_CONNECTIONS,
      amount: Math.ceil(attempts / instances.length),
      requests: [
        {
          method: 'POST',
          path: exchange.path,
          headers: { authorization: exchange.authorization, 'content-type': 'application/json' },
          body: JSON.stringify(exchange.body),
        },
      ],
    })
    run.on('response', (_client, status) => {
      statuses.set(String(status), (statuses.get(String(status)) ?? 0) + 1)
    })
    return await run
  })
  const results = await Promise.all(runs)
  return {
    attempts: [...statuses.values()].reduce((sum, count) => sum + count, 0),
    succeeded: results.reduce((sum, result) => sum + result['2xx'], 0),
    statuses,
  }
}

async function untilMinting({ call }: Fleet, instance: Fleet['instances'][0], exchange: Call): Promise<void> {
  await untilStatus(
    () => call(instance, exchange),
    (status) => status === 200,
  )
}

async function untilRefusing(
  { call }: Fleet,
  instance: Fleet['instances'][0],
  exchange: Call,
): Promise<void> {
  await untilStatus(
    () => call(instance, exchange),
    (status) => status < 500,
  )
}

async function untilStatus(
  ask: () => Promise<{ status: number }>,
  holds: (status: number) => boolean,
): Promise<void> {
  for (let tried = 0; tried < 300; tried++) {
    const answer = await ask().catch(() => undefined)
    if (answer && holds(answer.status)) return
    await sleep(50)
  }
  throw new Error('an instance did not come to itself')
}

function jtiOf(body: string): string {
  const { token } = JSON.parse(body) as { token: string }
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()).jti
}
