/** F10, often. */
import { test } from 'vitest'
import { INSTANCES, raceRotations } from '../rotation-race.ts'

const ROUNDS = 500

test(
  `F10 20 in parallel, on ${INSTANCES} instances, ${ROUNDS} times: one new key each time`,
  () => raceRotations(ROUNDS),
  400_000,
)
