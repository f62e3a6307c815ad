/** F9: whatever instance rotates a signing key is gone in the midst of it: after each of its messages to the database. */
import { decodeProtectedHeader } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createVerifier, type JwkSet } from '#sdk'
import { createTcpProxy, type TcpProxy } from '../database/tcp-proxy.ts'
import {
  activeCounts,
  activeKid,
  age,
  createRotator,
  DAY_SECONDS,
  keysOf,
  ROTATION_DAYS,
} from '../signing/rotators.ts'
import { mint, tokenOf } from '../support/mint.ts'
import { type SeededClient, seedClient } from '../support/seed.ts'
import { DEFAULT_AUDIENCE, SANDBOX_ISSUER, setUpService } from '../support/service.ts'

const { database, service } = await setUpService({ logLevel: 'silent' })
const { sql, target } = database
let proxy: TcpProxy
let client: SeededClient
beforeAll(async () => {
  proxy = await createTcpProxy(`${target.host}/.s.PGSQL.${target.port}`)
  client = await seedClient(sql)
})
afterAll(() => proxy?.close())

const mintOne = async () => (await tokenOf(await mint(service.url, client))).token
const keySet = async () =>
  (await (await fetch(`${service.url}/sandbox/.well-known/jwks.json`)).json()) as JwkSet
const verify = (token: string, jwks: JwkSet) =>
  createVerifier({ issuer: SANDBOX_ISSUER, audience: DEFAULT_AUDIENCE, jwks: () => jwks }).verify(token)
const rotations = async () =>
  (await sql`select from audit_events where action = 'signing_key.rotate' and actor_client_id is null`).count

/** Cuts all connections at the nth message: before the server has it, or once it has answered. */
function cutAt(nth: number, when: 'before' | 'after') {
  const gone = Promise.withResolvers<'gone'>()
  const state = { hasCut: false, gone: gone.promise }
  let sent = 0
  proxy.filter(() => {
    let isLast = false
    return (from) => {
      if (state.hasCut) return false
      if (from === 'client' && ++sent === nth) isLast = true
      if (!isLast || (from === 'client' && when === 'after')) return true
      state.hasCut = true
      setImmediate(() => {
        proxy.cutAll()
        gone.resolve('gone')
      })
      return false
    }
  })
  return state
}

describe.each(['before', 'after'] as const)(
  'F9 the instance is gone %s the server has what it sent',
  (when) => {
    test('F9 at every crash point one key is active, now and later, and all tokens verify', async () => {
      const healthy = createRotator(target)
      let interrupted = 0
      for (let nth = 1; ; nth++) {
        // The next key of the last round becomes active, and then old enough: only of one environment.
        await age(sql, ROTATION_DAYS * DAY_SECONDS + 3600, 'sandbox')
        const before = await mintOne()
        const sets = [await keySet()]
        const made = await rotations()

        const doomed = createRotator({ ...target, host: '127.0.0.1', port: proxy.port })
        const cut = cutAt(nth, when)
        // Who is gone neither tries again nor learns what became of it.
        const outcome = await Promise.race([cut.gone, doomed.rotateWhatIsDue().catch(() => 'failed')])
        proxy.filter(undefined)
        await doomed.kill()

        for (const environment of ['sandbox', 'production'])
          expect([nth, await activeCounts(sql, environment)]).toEqual([nth, [1]])
        expect(decodeProtectedHeader(before).kid).toBe(await activeKid(sql, 'sandbox'))
        const after = await mintOne()
        sets.push(await keySet())
        // Somebody else finds it done, or does it. Never twice, and never without its record.
        await healthy.rotateWhatIsDue()
        await healthy.rotateWhatIsDue()
        expect([nth, (await rotations()) - made]).toEqual([nth, 1])
        const states = (await keysOf(sql, 'sandbox')).filter(
          ({ activatesAt }) => activatesAt.getTime() > Date.now(),
        )
        expect(states).toHaveLength(1)
        expect(await activeCounts(sql, 'sandbox')).toEqual([1])
        sets.push(await keySet())
        for (const token of [before, after])
          for (const set of sets) expect(await verify(token, set)).toMatchObject({ sub: client.clientId })

        if (!cut.hasCut) {
          expect(outcome).toBeUndefined()
          break
        }
        interrupted++
      }
      // It has as many messages as a rotation has statements, at the least.
      expect(interrupted).toBeGreaterThan(15)
      await healthy.close()
    }, 60_000)
  },
)
