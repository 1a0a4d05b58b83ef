import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['{protocol,server,agent,sdk,cli,web,dev,simulation,bench,e2e,scripts,docs,examples}/**/*.test.ts'],
    exclude: ['**/node_modules/**', '**/dist/**'],
    // Forks, because native modules and child processes live in the tests. Two, so that a machine with two cores is enough.
    pool: 'forks',
    maxWorkers: 2,
    // Generous: whole markets run in some tests, on machines that do other things too. It only ends what hangs.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
    expect: { poll: { timeout: 60_000 } },
  },
})
