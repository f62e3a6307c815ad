/** F7: the row that a 200 stands for cannot be written. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { apiOfOperator } from '../support/management.ts'
import { mint, tokenOf } from '../support/mint.ts'
import { claimsOf } from '../support/process.ts'
import { seedClient } from '../support/seed.ts'
import { startService, type TestService } from '../support/service.ts'

let database: TestDatabase
let service: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService(database, { logLevel: 'warn' })
})
afterAll(async () => {
  await service?.stop()
  await database?.drop()
})

/** As a full disk says it (53100), for the rows that meet the condition; until it is called off. */
async function failInserts(table: string, condition: string): Promise<() => Promise<unknown>> {
  const { sql } = database
  await sql.unsafe(`
    create function disk_full() returns trigger language plpgsql as $$
      begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$;
    create trigger disk_full before insert on ${table} for each row when (${condition}) execute function disk_full()`)
  return () => sql.unsafe('drop function disk_full cascade')
}

test('F7 the ledger: 503 and no token, for as long as it lasts; a row for each 200 throughout', async () => {
  const { sql } = database
  const [marked, other] = [await seedClient(sql), await seedClient(sql)]
  const received: unknown[] = []
  async function statusOf(client: typeof marked) {
    const response = await mint(service.url, client)
    if (response.status === 200) received.push(claimsOf((await tokenOf(response)).token).jti)
    else expect(response.headers.get('retry-after')).toBe('1')
    return response.status
  }
  expect(await statusOf(marked)).toBe(200)
  const callOff = await failInserts('issued_tokens', `new.client_id = '${marked.clientId}'`)
  expect(await Promise.all(Array.from({ length: 20 }, () => statusOf(marked)))).toEqual(Array(20).fill(503))
  expect(await statusOf(other)).toBe(200)
  // Those who share a batch share its fate: none of them leaves without its row.
  const mixed = await Promise.all(Array.from({ length: 40 }, (_, n) => statusOf(n % 2 ? marked : other)))
  expect(mixed.filter((status, n) => n % 2 && status !== 503)).toEqual([])
  const [windows] =
    await sql`select sum(admitted)::integer as admitted from usage_minutes where client_id = ${marked.clientId}`
  await callOff()
  expect(await statusOf(marked)).toBe(200)
  const rows =
    await sql`select jti from issued_tokens where client_id in ${sql([marked.clientId, other.clientId])}`
  expect(rows.map(({ jti }) => jti).toSorted()).toEqual(received.toSorted())
  // What did not leave has not used up anything either.
  expect(windows?.admitted).toBe(1)
  expect(service.logs.join('')).toContain('53100')
})

test('F7 the audit trail: nothing is changed without its event, and the answer is 503', async () => {
  const { sql } = database
  const client = await seedClient(sql)
  const operator = await apiOfOperator(service)
  const callOff = await failInserts('audit_events', `new.target_id = '${client.keyId}'`)
  const refused = await operator.post(`/v2/keys/${client.keyId}/revoke`)
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
  expect((await mint(service.url, client)).status).toBe(200)
  await callOff()
  expect((await operator.post(`/v2/keys/${client.keyId}/revoke`)).status).toBe(200)
  expect((await mint(service.url, client)).status).toBe(401)
  expect((await sql`select from audit_events where target_id = ${client.keyId}`).count).toBe(1)
})
