import { expect, test } from 'vitest'
import type { AdmissionRequest, Verdict } from '../../src/ledger/admission.ts'
import { createLedger } from '../../src/ledger/ledger.ts'

const request = (n: number): AdmissionRequest => {
  const judged = { id: `row_${n}`, version: 1 }
  return {
    jti: `tok_${n}`,
    issuedAt: 0,
    expiresAt: 300,
    environment: 'sandbox',
    scopes: [],
    audience: 'urn:api',
    clientIp: '192.0.2.1',
    subjectJtis: undefined,
    requestId: 'r',
    key: judged,
    client: judged,
    owner: judged,
    organization: judged,
    delegation: undefined,
    signingKey: judged,
  }
}
const admitted: Verdict = { outcome: 'admitted', window: { limit: 9, remaining: 8, resetSeconds: 1 } }

/** Batches as they come, each answered when the test says so. */
function heldBatches() {
  const batches: { tokens: string[]; answer: (verdicts?: Verdict[]) => void; fail: () => void }[] = []
  const admitBatch = (requests: readonly AdmissionRequest[]) =>
    new Promise<Verdict[]>((resolve, reject) => {
      batches.push({
        tokens: requests.map(({ jti }) => jti),
        answer: (verdicts) => resolve(verdicts ?? requests.map(() => admitted)),
        fail: () => reject(new Error('down')),
      })
    })
  return { batches, admitBatch }
}

const turn = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))

test('what arrives together shares a batch, and what arrives meanwhile gathers for the next', async () => {
  const { batches, admitBatch } = heldBatches()
  const ledger = createLedger({ admitBatch, concurrency: 1 })
  const first = [ledger.admit(request(1)), ledger.admit(request(2))]
  await turn()
  const second = [ledger.admit(request(3)), ledger.admit(request(4))]
  await turn()
  expect(batches.map(({ tokens }) => tokens)).toEqual([['tok_1', 'tok_2']])
  batches[0]?.answer()
  expect(await Promise.all(first)).toEqual([admitted, admitted])
  await turn()
  expect(batches[1]?.tokens).toEqual(['tok_3', 'tok_4'])
  batches[1]?.answer()
  await Promise.all(second)
})

test('no more batches are in flight than it may have, and none is larger', async () => {
  const { batches, admitBatch } = heldBatches()
  const ledger = createLedger({ admitBatch, concurrency: 2, batchSize: 3, quorum: 3 })
  const answers = Array.from({ length: 8 }, (_, n) => ledger.admit(request(n)))
  await turn()
  expect(batches.map(({ tokens }) => tokens.length)).toEqual([3, 3])
  for (const batch of batches) batch.answer()
  await turn()
  batches[2]?.answer()
  expect((await Promise.all(answers)).every(({ outcome }) => outcome === 'admitted')).toBe(true)
})

test('while a batch is in flight, the next one begins once it is worth its cost', async () => {
  const { batches, admitBatch } = heldBatches()
  const ledger = createLedger({ admitBatch, concurrency: 3, quorum: 2, quorumMilliseconds: 60_000 })
  const answers = [ledger.admit(request(1))]
  await turn()
  answers.push(ledger.admit(request(2)))
  await turn()
  expect(batches).toHaveLength(1)
  answers.push(ledger.admit(request(3)))
  expect(batches.map(({ tokens }) => tokens)).toEqual([['tok_1'], ['tok_2', 'tok_3']])
  for (const batch of batches) batch.answer()
  expect(await Promise.all(answers)).toEqual([admitted, admitted, admitted])
})

test('no token waits long behind a batch that hangs', async () => {
  const { batches, admitBatch } = heldBatches()
  const ledger = createLedger({ admitBatch, quorum: 100, quorumMilliseconds: 1 })
  const hanging = ledger.admit(request(1))
  await turn()
  const next = ledger.admit(request(2))
  await expect.poll(() => batches.length).toBe(2)
  batches[1]?.answer()
  expect(await next).toEqual(admitted)
  batches[0]?.answer()
  await hanging
})

test('past the buffer, a token is refused at once', async () => {
  const { batches, admitBatch } = heldBatches()
  const ledger = createLedger({ admitBatch, concurrency: 1, bufferSize: 2 })
  const running = ledger.admit(request(1))
  await turn()
  const waiting = [ledger.admit(request(2)), ledger.admit(request(3))]
  expect(await ledger.admit(request(4))).toEqual({ outcome: 'unavailable' })
  batches[0]?.answer()
  await turn()
  batches[1]?.answer()
  expect(await Promise.all([running, ...waiting])).toEqual([admitted, admitted, admitted])
})

test('a batch that fails lets none of its tokens out, and the next one runs', async () => {
  const { batches, admitBatch } = heldBatches()
  const failures: number[] = []
  const ledger = createLedger({ admitBatch, onFailure: (_, tokens) => failures.push(tokens) })
  const lost = [ledger.admit(request(1)), ledger.admit(request(2))]
  await turn()
  batches[0]?.fail()
  expect(await Promise.all(lost)).toEqual([{ outcome: 'unavailable' }, { outcome: 'unavailable' }])
  expect(failures).toEqual([2])
  const next = ledger.admit(request(3))
  await turn()
  batches[1]?.answer()
  expect(await next).toEqual(admitted)
})

test('what has waited too long for its batch is refused, and never asked for', async () => {
  const { batches, admitBatch } = heldBatches()
  const ledger = createLedger({ admitBatch, concurrency: 1, patienceMilliseconds: 20 })
  const running = ledger.admit(request(1))
  await turn()
  const late = ledger.admit(request(2))
  await new Promise((resolve) => setTimeout(resolve, 40))
  batches[0]?.answer()
  expect(await running).toEqual(admitted)
  expect(await late).toEqual({ outcome: 'unavailable' })
  expect(batches).toHaveLength(1)
})

test('closing waits for what was asked, and refuses what is asked then', async () => {
  const { batches, admitBatch } = heldBatches()
  const ledger = createLedger({ admitBatch })
  const answer = ledger.admit(request(1))
  let isClosed = false
  const closing = ledger.close().then(() => {
    isClosed = true
  })
  expect(await ledger.admit(request(2))).toEqual({ outcome: 'unavailable' })
  await turn()
  expect(isClosed).toBe(false)
  batches[0]?.answer()
  expect(await answer).toEqual(admitted)
  await closing
})
