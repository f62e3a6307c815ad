import { defineConfig } from 'vitest/config'

/** The tests that only read the source: no database is started for them. */
export default defineConfig({ test: { include: ['test/boundaries.test.ts'] } })
