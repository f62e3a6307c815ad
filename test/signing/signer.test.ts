import { expect, test } from 'vitest'
import { atOnce } from '../../src/signing/rotation.ts'
import { createSealing } from '../../src/signing/sealing.ts'
import { createSigner } from '../../src/signing/signer.ts'
import { makeSigningKey } from '../../src/signing/signing-key.ts'
import type { SigningKeyRow } from '../../src/signing/store.ts'

const sealing = createSealing([new Uint8Array(32).fill(7)])
const now = Date.now()

async function createRow(): Promise<SigningKeyRow> {
  const key = await makeSigningKey('ES256', sealing)
  const ends = { retiresAt: null, removesAt: null, revokedAt: null }
  return { ...key, ...atOnce(now), ...ends, environment: 'sandbox', version: 1, createdAt: new Date(now) }
}

/** A signer on a store whose reads answer when they are told to, with what was there when they began. */
async function createSlowSigner(settle = async () => {}) {
  const stored = { rows: [await createRow()] }
  const reads: (() => void)[] = []
  const signer = createSigner({
    store: {
      findCurrent() {
        const { rows } = stored
        return new Promise((resolve) => reads.push(() => resolve(rows)))
      },
      settle,
      countIn: async () => 1,
      insert: async () => {},
    },
    sealing,
    now: () => now,
  })
  const nextRead = async () => {
    while (reads.length === 0) await new Promise((resolve) => setImmediate(resolve))
    reads.shift()?.()
  }
  return {
    stored,
    signer,
    reads,
    nextRead,
    kids: () => signer.jwks('sandbox')?.set.keys.map(({ kid }) => kid),
  }
}

test('many refreshes at once are one read; a reload is never answered by a read that began before it', async () => {
  const { stored, signer, reads, nextRead, kids } = await createSlowSigner()
  const refreshed = Promise.all([signer.refresh(), signer.refresh(), signer.refresh()])
  while (reads.length === 0) await new Promise((resolve) => setImmediate(resolve))
  expect(reads).toHaveLength(1)

  const [old] = stored.rows
  const successor = await createRow()
  stored.rows = [successor]
  const reloaded = signer.reload()
  await nextRead()
  await refreshed
  expect(kids()).toEqual([old?.kid])
  await nextRead()
  await reloaded
  expect(kids()).toEqual([successor.kid])
})

test('keys are read even where nobody can wait for those who change them', async () => {
  const { signer, nextRead, kids } = await createSlowSigner(() => Promise.reject(new Error('read only')))
  const refreshed = signer.refresh()
  await nextRead()
  await refreshed
  expect(kids()).toHaveLength(1)
})
