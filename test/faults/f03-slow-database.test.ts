/** F3: a database that is there and does not answer in time. Bounds have room for a busy machine: 1 s is promised. */
import { kill } from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { type ProxiedService, startBehindProxy, type Timed, timed } from '../support/behind-proxy.ts'
import { mint } from '../support/mint.ts'
import { waitFor } from '../support/process.ts'
import { type SeededClient, seedClient } from '../support/seed.ts'

const PROMISED_MS = 1_000
const ROOM_MS = 500

let one: ProxiedService
let known: SeededClient
beforeAll(async () => {
  one = await startBehindProxy()
  known = await seedClient(one.database.sql)
})
afterAll(() => one?.end())

const mintOnce = (client = known) => timed(() => mint(one.service.url, client))
const readiness = async () => (await fetch(`${one.service.url}/readyz`)).json()
const isReady = async () => (await fetch(`${one.service.url}/readyz`)).status === 200
async function isMinting() {
  return (await mintOnce()).status === 200
}

function expectShed(answers: Timed[]): void {
  for (const { status, retryAfter } of answers) expect([status, retryAfter]).toEqual([503, '1'])
  const slowest = Math.max(...answers.map(({ milliseconds }) => milliseconds))
  expect(slowest).toBeLessThan(PROMISED_MS + ROOM_MS)
}

describe('F3 each answer of the database takes', () => {
  test('a fifth of a second: minting goes on, and it is ready', async () => {
    await waitFor('a token', isMinting)
    one.proxy.delay(100)
    onTestFinished(() => one.proxy.delay(0))
    expect((await mintOnce()).status).toBe(200)
    // A new connection takes several of its answers.
    await waitFor('readiness', isReady)
  })

  test('more than half a second: 503 within a second, not ready, key sets go on; then all is well by itself', async () => {
    await waitFor('a token', isMinting)
    const stranger = await seedClient(one.database.sql)
    one.proxy.delay(400)
    onTestFinished(() => one.proxy.delay(0))
    expect(await readiness()).toEqual({ status: 'not_ready', reason: 'database' })
    // In memory, and not.
    expectShed(await Promise.all([mintOnce(), mintOnce(stranger), mintOnce(), mintOnce(stranger)]))
    for (const path of ['/.well-known/jwks.json', '/oauth2/revocations', '/livez'])
      expect((await timed(() => fetch(one.service.url + path))).status).toBe(200)

    one.proxy.delay(0)
    const readyMs = await waitFor('readiness', isReady)
    const mintMs = await waitFor('a token', isMinting)
    console.log(`F3: ready ${readyMs} ms and minting ${readyMs + mintMs} ms after the delay`)
    expect(readyMs + mintMs).toBeLessThan(3_000)
  })
})

describe('F3 the server’s processes stop', () => {
  const backends = async () =>
    (
      await one.database.sql<{ pid: number }[]>`
        select pid from pg_stat_activity
        where datname = current_database() and application_name = 'signet' and pid <> pg_backend_pid()`
    ).map(({ pid }) => pid)

  test('while nothing is asked: 503 within a second, new connections take their place, still frozen', async () => {
    await waitFor('a token', isMinting)
    const strangers = await Promise.all(Array.from({ length: 12 }, () => seedClient(one.database.sql)))
    await Promise.all(strangers.map(mintOnce))
    const frozen = await backends()
    expect(frozen.length).toBeGreaterThan(2)
    for (const pid of frozen) kill(pid, 'SIGSTOP')
    onTestFinished(() => {
      for (const pid of frozen) kill(pid, 'SIGCONT')
    })
    expectShed([await mintOnce()])
    const backMs = await waitFor('a token', isMinting)
    console.log(`F3: with ${frozen.length} backends stopped, minting again after ${backMs} ms more`)
    expect(backMs).toBeLessThan(3_000)
    await waitFor('readiness', isReady)
  })

  test('in the midst of load: each request has its answer in time, and when they go on, so does minting', async () => {
    await waitFor('a token', isMinting)
    const answers: Timed[] = []
    let isOver = false
    const loops = Array.from({ length: 8 }, async () => {
      while (!isOver) answers.push(await mintOnce())
    })
    await waitFor('load', async () => answers.length > 50)
    const frozen = await backends()
    for (const pid of frozen) kill(pid, 'SIGSTOP')
    await sleep(1_200)
    for (const pid of frozen) kill(pid, 'SIGCONT')
    const answered = answers.length
    await waitFor('tokens', async () => answers.slice(answered + 8).some(({ status }) => status === 200))
    isOver = true
    await Promise.all(loops)
    const refused = answers.filter(({ status }) => status !== 200)
    expect(refused.length).toBeGreaterThan(0)
    expectShed(refused)
  })
})
