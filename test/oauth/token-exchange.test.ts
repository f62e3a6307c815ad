/** Token exchange over time: the subject token ends, its client is stopped, or both happen while it is exchanged. */
import { decodeJwt } from 'jose'
import { describe, expect, test } from 'vitest'
import type { RawAnswer } from '../support/mint.ts'
import { type SeededClient, seedClient, seedDelegation, seedOrganization } from '../support/seed.ts'
import { setUpService, startService } from '../support/service.ts'
import { askToken, exchangeToken, issuedOf, refusalOf } from './calls.ts'

const { database, service } = await setUpService()
const { url } = service
const invalidRequest = [400, 'invalid_request']

const held = async (client: SeededClient, parameters: Record<string, string> = {}) =>
  issuedOf(await askToken(url, client, parameters)).access_token
const tokensOf = (clientId: string) => database.sql`select from issued_tokens where client_id = ${clientId}`

test('a token names what it was had for, the last first, and so does the ledger', async () => {
  const client = await seedClient(database.sql)
  const subject = await held(client)
  const first = issuedOf(await exchangeToken(url, client, subject)).access_token
  const second = issuedOf(await exchangeToken(url, client, first)).access_token
  const jtiOf = (token: string) => decodeJwt(token).jti ?? ''
  const ancestors = [jtiOf(first), jtiOf(subject)]
  expect(decodeJwt(subject)).not.toHaveProperty('subject_jtis')
  expect(decodeJwt(first).subject_jtis).toEqual([jtiOf(subject)])
  expect(decodeJwt(second).subject_jtis).toEqual(ancestors)
  const [row] = await database.sql`select subject_jtis from issued_tokens where jti = ${jtiOf(second)}`
  expect(row?.subject_jtis).toEqual(ancestors)
})

describe('a subject token that was revoked', () => {
  test('while it was being exchanged: refused, and nothing is minted', async () => {
    const client = await seedClient(database.sql)
    const subject = await held(client)
    const { jti = '', exp = 0 } = decodeJwt(subject)
    const { answer } = await database.sql.begin(async (sql) => {
      // What everybody does who stops tokens of a client: nobody else sees it before it is committed.
      await sql`select pg_advisory_xact_lock(x'73676e74'::integer, policy_lock(${client.clientId}))`
      await sql`select from clients where id = ${client.clientId} for update`
      await sql`insert into revoked_tokens (jti, organization_id, client_id, expires_at)
        values (${jti}, ${client.organizationId}, ${client.clientId}, to_timestamp(${exp}))`
      const answer = exchangeToken(url, client, subject)
      await untilWaiting()
      return { answer }
    })
    expect(refusalOf(await answer)).toEqual(invalidRequest)
    expect(await tokensOf(client.clientId)).toHaveLength(1)
  })

  /** Somebody waits for a row that another transaction has locked. */
  async function untilWaiting(): Promise<void> {
    for (;;) {
      const waiting = await database.sql`select from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`
      if (waiting.length > 0) return
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  test('in a storm of exchanges: none is admitted after the commit', async () => {
    const client = await seedClient(database.sql)
    const subject = await held(client)
    const { jti = '', exp = 0 } = decodeJwt(subject)
    let isRevoked = false
    let late = 0
    const answers: RawAnswer[] = []
    const worker = async () => {
      for (let i = 0; i < 15; i++) {
        const startedLate = isRevoked
        const answer = await exchangeToken(url, client, subject)
        if (startedLate && answer.status === 200) late++
        answers.push(answer)
      }
    }
    const workers = Array.from({ length: 8 }, worker)
    while (answers.length < 40) await new Promise((resolve) => setTimeout(resolve, 1))
    await database.sql.begin(async (sql) => {
      await sql`select pg_advisory_xact_lock(x'73676e74'::integer, policy_lock(${client.clientId}))`
      await sql`insert into revoked_tokens (jti, organization_id, client_id, expires_at)
        values (${jti}, ${client.organizationId}, ${client.clientId}, to_timestamp(${exp}))`
    })
    isRevoked = true
    const [atCommit] =
      await database.sql`select count(*)::integer as n from issued_tokens where ${jti} = any (subject_jtis)`
    await Promise.all(workers)
    expect(late).toBe(0)
    const issued = answers.filter(({ status }) => status === 200)
    expect(issued).toHaveLength(atCommit?.n)
    expect(issued.length).toBeLessThan(120)
    expect(new Set(answers.map(({ status }) => status)).has(400)).toBe(true)
  })
})

describe('a subject token from before something was stopped is no good after it goes on', () => {
  const again = async (
    client: SeededClient,
    stop: () => Promise<unknown>,
    goOn: () => Promise<unknown>,
    more = {},
  ) => {
    const subject = await held(client, more)
    issuedOf(await exchangeToken(url, client, subject))
    await stop()
    await goOn()
    expect(refusalOf(await exchangeToken(url, client, subject))).toEqual(invalidRequest)
    // A new one is.
    const fresh = await held(client, more)
    issuedOf(await exchangeToken(url, client, fresh))
  }
  const { sql } = database

  test('the client', async () => {
    const client = await seedClient(sql)
    const set = (status: string) => sql`update clients set status = ${status} where id = ${client.clientId}`
    await again(
      client,
      () => set('suspended'),
      () => set('active'),
    )
  })

  test('the delegation of a partner', async () => {
    const organizationId = await seedOrganization(sql)
    const partner = await seedClient(sql, { kind: 'partner' })
    const id = await seedDelegation(sql, { organizationId, partnerId: partner.organizationId })
    const set = (status: string) => sql`update delegations set status = ${status} where id = ${id}`
    await again(
      partner,
      () => set('paused'),
      () => set('active'),
      { organization_id: organizationId },
    )
  })
})

test('a subject token that has expired: refused like any other that is no good', async () => {
  let ahead = 0
  const own = await startService(database, { now: () => Date.now() + ahead })
  try {
    const client = await seedClient(database.sql)
    const subject = await held(client, { signet_expires_in_seconds: '300' })
    const left = async () => issuedOf(await exchangeToken(own.url, client, subject)).expires_in
    ahead = 290_000
    expect(await left()).toBeLessThanOrEqual(10)
    ahead = 300_000
    expect(refusalOf(await exchangeToken(own.url, client, subject))).toEqual(invalidRequest)
  } finally {
    await own.stop()
  }
})
