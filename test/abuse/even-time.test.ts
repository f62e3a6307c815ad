import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { createKeyFormat } from '../../src/keys/key-format.ts'
import { createEvenly } from '../../src/network/even-time.ts'
import { mint } from '../support/mint.ts'
import { seedClient, seedKey } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'

/** Longer than anything takes by itself. */
const WAIT_MS = 800

test('A61 failures are told at ticks that all share, and not before their time', async () => {
  const evenly = createEvenly(50)
  const work = evenly(
    async (milliseconds: number) => {
      await sleep(milliseconds)
      return milliseconds
    },
    (outcome) => outcome !== 1,
  )
  const timed = async (milliseconds: number) => {
    const began = performance.now()
    await work(milliseconds)
    return performance.now() - began
  }
  await work(0)
  // Quick and slow ones that began together end together.
  const ends = await Promise.all([0, 10, 20].map(async (each) => [await timed(each), performance.now()]))
  for (const [took = 0] of ends) expect(took).toBeGreaterThanOrEqual(50)
  expect(
    Math.max(...ends.map(([, end = 0]) => end)) - Math.min(...ends.map(([, end = 0]) => end)),
  ).toBeLessThan(10)
  expect(await timed(60)).toBeGreaterThanOrEqual(100)
  // Success waits for nothing, and a rejection comes through.
  expect(await timed(1)).toBeLessThan(45)
  const failing = evenly(
    async () => {
      throw new Error('as it was')
    },
    () => true,
  )
  const began = performance.now()
  await expect(failing(undefined)).rejects.toThrow('as it was')
  expect(performance.now() - began).toBeGreaterThanOrEqual(50)
})

const { database, service } = await setUpService({ failureMilliseconds: WAIT_MS })

test('A61 a key that is refused waits, whatever is wrong with it, by every door; a good one does not', async () => {
  const client = await seedClient(database.sql)
  const expired = await seedKey(database.sql, client.clientId, 'sandbox', new Date(0))
  const revoked = await seedKey(database.sql, client.clientId, 'sandbox')
  await database.sql`update keys set revoked_at = now() where id = ${revoked.keyId}`
  await mint(service.url, client)
  const unknown = createKeyFormat('sgt').generate('sandbox').key
  const form = (secret: string, more: Record<string, string>) => ({
    method: 'POST',
    body: new URLSearchParams({ client_id: client.clientId, client_secret: secret, ...more }),
  })
  const doors = (key: string): (() => Promise<Response>)[] => [
    () => mint(service.url, { ...client, key }),
    () => fetch(`${service.url}/sandbox/oauth2/token`, form(key, { grant_type: 'client_credentials' })),
    () => fetch(`${service.url}/sandbox/oauth2/introspect`, form(key, { token: 'x' })),
    () => fetch(`${service.url}/sandbox/oauth2/revoke`, form(key, { token: 'x' })),
  ]
  const validate = (key: string) => () =>
    fetch(`${service.url}/v2/auth/validate`, { headers: { Authorization: key } })
  const timed = async (ask: () => Promise<Response>) => {
    const began = performance.now()
    const { status } = await ask()
    return { status, milliseconds: performance.now() - began }
  }
  const named = ['malformed', unknown, `${unknown.slice(0, -1)}!`]
  const refusals = [...named, expired.key, revoked.key].flatMap((key) => [
    ...doors(key),
    ...(named.includes(key) ? [validate(key)] : []),
  ])
  for (const { status, milliseconds } of await Promise.all(refusals.map(timed))) {
    expect(status).toBe(401)
    expect(milliseconds).toBeGreaterThanOrEqual(WAIT_MS)
  }
  const quickest = async (ask: () => Promise<Response>) =>
    Math.min(
      ...(await Promise.all([timed(ask), timed(ask), timed(ask)])).map(({ milliseconds }) => milliseconds),
    )
  for (const door of [...doors(client.key), validate(client.key)])
    expect(await quickest(door)).toBeLessThan(WAIT_MS)
})
