import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

/** .ci/run names a file here and reads the counts from it. */
const report = process.env.TSUNAGI_TEST_REPORT

/** The same pure-JavaScript msgpackr that tsup.config.ts bundles. */
const msgpackr = fileURLToPath(new URL('node_modules/msgpackr/index.js', import.meta.url))

const shared = {
  pool: 'forks',
  testTimeout: 60_000,
  hookTimeout: 60_000,
  // Whole processes with deadlines of 250 ms run in these tests: more files at once than cores would starve them.
  maxWorkers: 2,
} as const

export default defineConfig({
  test: {
    reporters: report ? ['default', ['json', { outputFile: report }]] : ['default'],
    projects: [
      {
        resolve: { alias: { msgpackr } },
        test: {
          ...shared,
          name: 'source',
          include: ['test/{unit,native,model}/**/*.test.ts'],
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...shared,
          name: 'built',
          include: ['test/{e2e,packaging}/**/*.test.ts'],
          globalSetup: 'test/helpers/require-fresh-build.ts',
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
