/** Rows of public keys in memory, and when memory is not enough; and that an assertion is used up once. */
import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { createAssertions } from '../../src/keys/assertion.ts'
import { evaluateJwk } from '../../src/keys/public-jwk.ts'
import { createKeyRegister } from '../../src/keys/registered-keys.ts'
import type { CredentialRows } from '../../src/keys/store.ts'
import { ISSUER } from '../support/service.ts'
import { assertionOf, makePair, type Pair } from './assertions.ts'

const clientId = newId('client')
const client = { clientId, environment: 'production' as const }

/** Rows as the store gives them, as far as anybody looks at them here. */
function rowsOf({ jwk }: Pair, id = newId('key')): CredentialRows {
  const verdict = evaluateJwk(jwk)
  if (!verdict.ok) throw new Error(verdict.rule)
  const rows = {
    key: { id, publicJwk: verdict.jwk },
    client: { id: clientId, environment: 'production', allowedCidrs: null },
    owner: {},
  }
  return rows as unknown as CredentialRows
}
const idsOf = (found: readonly { credential: { key: { id: string } } }[] | undefined) =>
  found?.map(({ credential }) => credential.key.id)

describe('a read for somebody who has to be sure', () => {
  /** A store whose reads are answered by hand. */
  function setUp() {
    const reads: PromiseWithResolvers<CredentialRows[]>[] = []
    const register = createKeyRegister({
      store: {
        findPublicKeys: () => {
          const read = Promise.withResolvers<CredentialRows[]>()
          reads.push(read)
          return read.promise
        },
      },
      cacheSize: 10,
      onUnusable: () => {},
    })
    return { register, reads }
  }
  const [old, fresh] = [rowsOf(makePair()), rowsOf(makePair())]
  const later = { settle: false }

  test.each([
    ['found some rows', [old]],
    ['found none', []],
  ])('does not take the answer of one that was under way, which %s', async (_, stale) => {
    const { register, reads } = setUp()
    const before = register.read(clientId, undefined, later)
    // In between, a key is registered; this asks after that.
    const after = register.read(clientId, undefined, later)
    expect(reads).toHaveLength(1)
    reads[0]?.resolve(stale)
    await before
    await expect.poll(() => reads.length).toBe(2)
    reads[1]?.resolve([fresh])
    expect(idsOf(await after)).toEqual([fresh.key.id])
    expect(idsOf(register.recall(clientId))).toEqual([fresh.key.id])
  })

  test('shares one with all others that wait for the next one', async () => {
    const { register, reads } = setUp()
    const first = register.read(clientId, undefined, later)
    const waiting = Array.from({ length: 50 }, () => register.read(clientId, undefined, later))
    reads[0]?.resolve([old])
    await first
    await expect.poll(() => reads.length).toBe(2)
    reads[1]?.resolve([fresh])
    for (const found of await Promise.all(waiting)) expect(idsOf(found)).toEqual([fresh.key.id])
    expect(reads).toHaveLength(2)
  })

  test('is one read where nothing else is under way, whatever it finds', async () => {
    const { register, reads } = setUp()
    for (const rows of [[], [old], [fresh], []]) {
      const count = reads.length
      const reading = register.read(clientId, register.recall(clientId), later)
      reads.at(-1)?.resolve(rows)
      expect(idsOf(await reading) ?? []).toEqual(rows.map(({ key }) => key.id))
      expect(reads).toHaveLength(count + 1)
    }
    // Whom nobody knows takes no room in memory.
    expect(register.recall(clientId)).toBeUndefined()
  })
})

describe('one request', () => {
  const pair = makePair('ES256', 'k')
  const rows = rowsOf(pair)

  function setUp(found: CredentialRows[], uses: () => Promise<boolean> = async () => true) {
    const calls = { reads: 0, uses: 0 }
    const assertions = createAssertions({
      store: {
        findPublicKeys: async () => {
          calls.reads++
          return found
        },
        useAssertion: () => {
          calls.uses++
          return uses()
        },
      },
      cacheSize: 10,
      now: Date.now,
      issuerOf: () => ISSUER,
      acceptsTokenEndpoint: false,
      log: { warn: () => {}, error: () => {} },
    })
    const prove = () => {
      const assertion = assertionOf(client, pair)
      const proof = assertions.proofOf({
        kind: 'client_assertion',
        assertion,
        clientId: undefined,
        environment: 'production',
      })
      if (!proof) throw new Error('it is a good one')
      return proof
    }
    return { prove, calls }
  }

  test('uses its assertion up once, however often it is judged', async () => {
    const { prove, calls } = setUp([rows])
    const first = prove()
    expect(await first.recall()).toBeUndefined()
    expect((await first.authenticate())?.key.id).toBe(rows.key.id)
    const second = prove()
    const recalled = await second.recall()
    expect(recalled?.key.id).toBe(rows.key.id)
    for (let i = 0; i < 3; i++)
      if (recalled)
        expect((await second.authenticateAgain(recalled, { settle: true }))?.key.id).toBe(rows.key.id)
    expect(calls.uses).toBe(2)
  })

  test('that was used before is refused without another read', async () => {
    let isNew = true
    const { prove, calls } = setUp([rows], async () => isNew)
    await prove().authenticate()
    isNew = false
    const { reads } = calls
    const again = prove()
    expect(await again.recall()).toBeUndefined()
    expect(await again.authenticate()).toBeUndefined()
    expect(calls).toEqual({ reads, uses: 2 })
  })

  test('is judged again by the very key that proved it, not by another', async () => {
    const found = [rows]
    const { prove } = setUp(found)
    const proof = prove()
    const judged = await proof.authenticate()
    found[0] = rowsOf(pair)
    expect(judged && (await proof.authenticateAgain(judged, { settle: false }))).toBeUndefined()
  })

  test('F3 waits no longer than half a second for the database', async () => {
    const { prove } = setUp([rows], () => new Promise(() => {}))
    const began = performance.now()
    await expect(prove().authenticate()).rejects.toMatchObject({ code: 'unavailable' })
    expect(performance.now() - began).toBeLessThan(2_000)
  })

  test('whose jti cannot be written is not let in', async () => {
    const { prove } = setUp([rows], () => Promise.reject(new Error(randomUUID())))
    await expect(prove().authenticate()).rejects.toMatchObject({ code: 'unavailable' })
  })
})
