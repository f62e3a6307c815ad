import { defineConfig } from 'vitest/config'

/** `npm run test:faults`: every fault, also those that take more than seconds (test/faults/long). */
export default defineConfig({
  test: {
    include: ['test/faults/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: 'forks',
    maxWorkers: 2,
    // With what each measured, and why it left something out.
    reporters: ['verbose'],
  },
})
