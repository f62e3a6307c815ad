/** Who goes next: by turns of the shares, whatever one of them asks for. */
import { expect, test } from 'vitest'
import { createShares, type Place, type SharesOptions } from '../../src/database/shares.ts'

/** Names in the order in which they went, and what ends them. */
function setUp(options: Partial<SharesOptions> = {}) {
  const shares = createShares({ max: 1, maxPending: 100, maxPendingPerShare: 100, ...options })
  const went: string[] = []
  const going = new Map<string, Place>()
  const settled = () => new Promise((resolve) => setImmediate(resolve))
  async function end(id: string) {
    await settled()
    const place = going.get(id)
    if (!place) throw new Error(`${id} does not go`)
    going.delete(id)
    place.leave()
    await settled()
  }
  return {
    went,
    settled,
    end,
    /** `a1` is the first of share a. */
    join(id: string): Place | undefined {
      const place = shares.join(id.slice(0, 1))
      place?.admitted.then(() => {
        went.push(id)
        going.set(id, place)
      })
      return place
    },
    /** Ends whatever goes until nothing does. */
    async endAll() {
      await settled()
      while (going.size > 0) for (const id of [...going.keys()]) await end(id)
    },
  }
}

test('by turns, one of each share; within a share as they came', async () => {
  const { join, endAll, went } = setUp()
  for (const id of ['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'c1']) join(id)
  await endAll()
  expect(went).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4'])
})

test('who comes late waits for one of each other share at most, however many wait', async () => {
  const { join, end, went } = setUp()
  for (let n = 0; n < 50; n++) for (const share of ['a', 'b', 'c']) join(`${share}${n}`)
  await end('a0')
  join('z0')
  const before = went.length
  for (let n = 0; n < 4; n++) await end(went.at(-1) ?? '')
  const since = went.slice(before)
  expect(since).toContain('z0')
  // Not even if it comes again and again.
  for (let n = 1; n < 10; n++) {
    join(`z${n}`)
    for (let turns = 0; turns < 4; turns++) await end(went.at(-1) ?? '')
    expect(went).toContain(`z${n}`)
  }
})

test('one share never has all of it: what hangs there leaves one for the others', async () => {
  const { join, end, went, settled } = setUp({ max: 4 })
  for (let n = 0; n < 9; n++) join(`a${n}`)
  await settled()
  expect(went).toEqual(['a0', 'a1', 'a2'])
  join('b0')
  await settled()
  expect(went.at(-1)).toBe('b0')
  // Two of them may.
  join('b1')
  await settled()
  expect(went).toHaveLength(4)
  await end('b0')
  expect(went.at(-1)).toBe('b1')
  await end('a1')
  expect(went.at(-1)).toBe('a3')
})

test('never more at once than there may be, and none is forgotten', async () => {
  const { join, endAll, went, settled } = setUp({ max: 3, maxPendingPerShare: 1000, maxPending: 1000 })
  const ids = Array.from({ length: 200 }, (_, n) => `${'abcde'[n % 5]}${n}`)
  for (const id of ids) join(id)
  await settled()
  expect(went).toHaveLength(3)
  await endAll()
  expect(went.toSorted()).toEqual(ids.toSorted())
})

test('a full share is refused, the others are not; there is a place again once one has left', async () => {
  const { join, end } = setUp({ maxPendingPerShare: 2 })
  expect([join('a1'), join('a2'), join('a3')].map(Boolean)).toEqual([true, true, false])
  expect([join('b1'), join('b2'), join('b3')].map(Boolean)).toEqual([true, true, false])
  await end('a1')
  expect([join('a4'), join('a5')].map(Boolean)).toEqual([true, false])
})

test('when there are too many of all together, only who has none there finds a place', () => {
  const { join } = setUp({ maxPending: 4 })
  expect(['a1', 'a2', 'a3', 'a4', 'a5'].map((id) => Boolean(join(id)))).toEqual([
    ...[true, true, true, true],
    false,
  ])
  expect([join('b1'), join('b2'), join('c1'), join('c2')].map(Boolean)).toEqual([true, false, true, false])
})

test('who leaves while waiting never goes, and makes place', async () => {
  const { join, end, went } = setUp({ maxPendingPerShare: 2 })
  join('a1')
  const tired = join('a2')
  expect([tired?.isWaiting(), join('a3')]).toEqual([true, undefined])
  tired?.leave()
  expect(tired?.isWaiting()).toBe(false)
  expect(join('a4')?.isWaiting()).toBe(true)
  await end('a1')
  expect(went).toEqual(['a1', 'a4'])
  await end('a4')
  expect(join('a5')?.isWaiting()).toBe(false)
})

test('who steps aside lets the next go, and counts until it has left', async () => {
  const { join, went, settled } = setUp({ maxPendingPerShare: 2 })
  const slow = join('a1')
  join('a2')
  await settled()
  slow?.stepAside()
  slow?.stepAside()
  await settled()
  expect([went, join('a3'), join('b1')?.isWaiting()]).toEqual([['a1', 'a2'], undefined, true])
  slow?.leave()
  expect(join('a4')?.isWaiting()).toBe(true)
  await settled()
  expect(went).toEqual(['a1', 'a2'])
  slow?.stepAside()
  await settled()
  expect(went).toEqual(['a1', 'a2'])
})
