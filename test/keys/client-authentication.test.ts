/** A client proves itself where no admission looks at its rows again. */
import { expect, test } from 'vitest'
import { connectAsPlatform, disconnect } from '../../src/database/database.ts'
import { createAuthenticateClient } from '../../src/keys/client-authentication.ts'
import { createKeyFormat } from '../../src/keys/key-format.ts'
import { createKeys } from '../../src/keys/keys.ts'
import { createProve } from '../../src/keys/proof.ts'
import { createCredentialStore } from '../../src/keys/store.ts'
import { createThrottle } from '../../src/network/throttle.ts'
import { seedClient } from '../support/seed.ts'
import { setUpService, startService } from '../support/service.ts'
import { basic } from '../tokens/calls.ts'

const { database } = await setUpService()

test('a read that began before the key was revoked lets nobody in with it', async () => {
  const client = await seedClient(database.sql)
  const pool = connectAsPlatform(database.target, { max: 2, statementTimeoutMilliseconds: 2000 })
  try {
    const store = createCredentialStore(pool, pool)
    const held: (() => void)[] = []
    const reads: Promise<unknown>[] = []
    let isHolding = false
    const keys = createKeys({
      cacheSize: 10,
      store: {
        async findCredential(lookupId, options) {
          const reading = store.findCredential(lookupId, options)
          reads.push(reading)
          const row = await reading
          // As it was when it was read, however late it arrives.
          if (isHolding) await new Promise<void>((resolve) => held.push(resolve))
          return row
        },
      },
    })
    const prove = createProve({
      keyFormat: createKeyFormat('sgt'),
      keys,
      assertions: { proofOf: () => undefined },
    })
    const authenticate = createAuthenticateClient({ prove, failures: createThrottle(100), now: Date.now })
    const ask = () =>
      authenticate({
        presented: {
          kind: 'client_secret',
          clientId: client.clientId,
          secret: client.key,
          environment: 'sandbox',
        },
        clientAddress: '127.0.0.1',
        origin: undefined,
      })
    expect((await ask()).ok).toBe(true)

    isHolding = true
    const early = ask()
    await expect.poll(() => held.length, { interval: 1 }).toBe(1)
    isHolding = false
    await database.sql`update keys set revoked_at = now() where id = ${client.keyId}`
    const late = ask()
    await new Promise((resolve) => setTimeout(resolve, 20))
    for (const release of held) release()
    // Asked before the revocation, it may have either answer; what was asked after it has one.
    await early
    expect(await late).toMatchObject({ ok: false, reason: 'key_revoked' })
    expect(reads.length).toBeGreaterThanOrEqual(3)
  } finally {
    await disconnect(pool)
  }
})

test.each(['introspect', 'revoke'])(
  'A54 failures at %s are throttled by source, and good clients are not',
  async (endpoint) => {
    const service = await startService(database, { config: { failedAuthenticationsPerMinute: 5 } })
    try {
      const client = await seedClient(database.sql)
      const ask = async (key: string) => {
        const answer = await fetch(`${service.url}/sandbox/oauth2/${endpoint}`, {
          method: 'POST',
          headers: { Authorization: basic({ ...client, key }) },
          body: new URLSearchParams({ token: 'x' }),
        })
        return [answer.status, answer.headers.get('retry-after') !== null]
      }
      expect(await ask(client.key)).toEqual([200, false])
      for (let i = 0; i < 5; i++) expect(await ask('wrong')).toEqual([401, false])
      expect(await ask('wrong')).toEqual([429, true])
      expect(await ask(client.key)).toEqual([200, false])
    } finally {
      await service.stop()
    }
  },
)
