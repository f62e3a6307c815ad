import { kill } from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, expect, test, vi } from 'vitest'
import { apiWith, tokenFor } from '../support/management.ts'
import { mint, problemOf, tokenOf } from '../support/mint.ts'
import {
  claimsOf,
  createProcesses,
  mintable,
  readBootstrapFile,
  startLoad,
  startUnlimited,
  waitFor,
  withDatabase,
} from '../support/process.ts'

const processes = createProcesses()
// Processes start in seconds, on a machine that has something else to do.
vi.setConfig({ testTimeout: 90_000 })
afterEach(processes.cleanUp)
afterAll(processes.close)

test('F12: an instance that was paused during a revocation mints nothing with what it remembers', async () => {
  const { environment, service, demo, dataDir } = await startUnlimited(processes)
  const paused = await processes.start(environment)
  const { operator } = await readBootstrapFile(environment.BOOTSTRAP_FILE ?? '')
  const scopes = ['signet:keys:read', 'signet:keys:write']
  const api = apiWith(service.url, await tokenFor(service.url, mintable(operator), scopes))
  const recorded = () =>
    withDatabase(dataDir, async (sql) =>
      (await sql`select jti from issued_tokens where key_id = ${demo.keyId}`).map(({ jti }) => String(jti)),
    )

  // It knows the key by heart, and has requests in every state when it stops.
  const load = startLoad(paused.url, demo, 16)
  await waitFor('tokens', async () => load.received.length > 50)
  kill(paused.pid, 'SIGSTOP')
  try {
    // In its sockets, to be read when it goes on.
    const waiting = Array.from({ length: 20 }, () => mint(paused.url, demo))
    await sleep(100)
    const began = performance.now()
    await waitFor('the revocation', async () => {
      const { status } = await api.post(`/v2/keys/${demo.keyId}/revoke`, {})
      expect([200, 503]).toContain(status)
      return status === 200
    })
    const revokedMs = Math.round(performance.now() - began)
    const atRevocation = await recorded()
    kill(paused.pid, 'SIGCONT')

    for (const answer of await Promise.all(waiting)) {
      // One may have been at the database already.
      if (answer.status === 200) expect(atRevocation).toContain(claimsOf((await tokenOf(answer)).token).jti)
      else expect((await problemOf(answer)).status).not.toBe(500)
    }
    await waitFor('refusals', async () => load.surprises.length > 50)
    await load.stop()
    expect(new Set(load.surprises.map((surprise) => surprise.slice(0, 3)))).toEqual(new Set(['401']))
    const after = await recorded()
    expect(after.length).toBe(atRevocation.length)
    expect(load.received.filter((jti) => !atRevocation.includes(jti))).toEqual([])
    expect((await mint(paused.url, demo)).status).toBe(401)
    console.log(
      `F12: revoked in ${revokedMs} ms beside a paused instance; ${after.length} tokens, none of them later`,
    )
  } finally {
    kill(paused.pid, 'SIGCONT')
  }
})
