/** F8: the instance's clock against the database's. */
import { expect, test } from 'vitest'
import { createClockWatch } from '../../src/database/clock-watch.ts'

/** A world with a clock of ours, one of the database's, and one that nobody can set. */
function createWorld() {
  const world = { ours: 1_000_000, theirs: 1_000_000, elapsed: 0, asked: 0, roundTrip: 0 }
  function pass(milliseconds: number) {
    world.ours += milliseconds
    world.theirs += milliseconds
    world.elapsed += milliseconds
  }
  const changes: [boolean, number][] = []
  const watch = createClockWatch({
    database: {
      async execute() {
        world.asked++
        pass(world.roundTrip / 2)
        const milliseconds = world.theirs
        pass(world.roundTrip / 2)
        return [{ milliseconds }]
      },
    } as never,
    now: () => world.ours,
    elapsed: () => world.elapsed,
    onChange: (...change) => changes.push(change),
  })
  return { world, pass, watch, changes }
}

test('F8 not before they were compared', async () => {
  const { watch } = createWorld()
  expect([watch.isRight(), watch.aheadMilliseconds()]).toEqual([false, undefined])
  await watch.measure()
  expect(watch.isRight()).toBe(true)
})

test.each([
  [5_000, true],
  [5_001, false],
  [-5_000, true],
  [-5_001, false],
  [3_600_000, false],
  [-3_600_000, false],
])('F8 a jump of ours by %i ms: right is %s, at once and without a question', async (jump, right) => {
  const { world, watch, changes } = createWorld()
  await watch.measure()
  world.ours += jump
  expect(watch.isRight()).toBe(right)
  expect(watch.isRight()).toBe(right)
  expect(world.asked).toBe(1)
  expect(changes).toEqual(right ? [] : [[false, jump]])
  world.ours -= jump
  expect(watch.isRight()).toBe(true)
  expect(changes).toEqual(
    right
      ? []
      : [
          [false, jump],
          [true, 0],
        ],
  )
})

test('F8 a jump of the database’s is seen at the next question; half of the way there and back is not counted', async () => {
  const { world, watch } = createWorld()
  world.roundTrip = 400
  await watch.measure()
  expect(watch.aheadMilliseconds()).toBe(0)
  world.theirs += 10_000
  expect(watch.isRight()).toBe(true)
  await watch.measure()
  expect([watch.isRight(), watch.aheadMilliseconds()]).toEqual([false, -10_000])
})

test('F8 a machine that slept, monotonic clock and all, asks again by itself', async () => {
  const { world, pass, watch } = createWorld()
  await watch.measure()
  pass(1_000)
  world.ours += 600_000
  world.theirs += 600_000
  expect(watch.isRight()).toBe(false)
  await watch.measure()
  expect(watch.isRight()).toBe(true)
  expect(world.asked).toBe(2)
})
