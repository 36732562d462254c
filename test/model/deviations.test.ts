import { describe, expect, test } from 'vitest'
import { explore, printed } from './checker.js'
import { handover } from './handover.js'
import { DEVIATIONS, type Run, WORLD } from './state.js'

/** What a deviation needs to show; without an entry one fault is enough. */
const NEEDS: Partial<Record<keyof typeof DEVIATIONS, Partial<Run>>> = {
  'time-out after commit': { faults: 0 },
  'prepared has a deadline': { faults: 0 },
  'telling times out': { faults: 0 },
  'abort within a frame': { faults: 0 },
  'commit without ack': { faults: 0 },
  'served before commit': { faults: 0 },
  'eof is taken for death': { faults: 0 },
  'two are welcomed': { faults: 0, third: true },
  'claim eats prepare': { faults: 0, claims: true },
  'liveness asked once': { pidfd: false },
  'nothing moved is nothing committed': { bytes: [], echoes: [] },
}

describe('the checker finds what goes wrong when', () => {
  test.for(Object.entries(DEVIATIONS) as [keyof typeof DEVIATIONS, string][])('%s: %s', { timeout: 300_000 }, ([deviation]) => {
    const { counterexample, states } = explore(handover({ ...WORLD, ...NEEDS[deviation], deviation }))
    console.log(`${deviation}, after ${states} states:\n${counterexample ? printed(counterexample) : 'nothing was found'}`)
    expect(counterexample?.what).toMatch(/P1|P2|P3|stuck|for ever|cannot find/)
  })
})
