import { describe, expect, test } from 'vitest'
import { FAULT_POINTS } from '../../src/env.js'
import { type Exploration, explore, printed } from './checker.js'
import { handover } from './handover.js'
import { predecessorLines } from './predecessor.js'
import { type Run, WORLD } from './state.js'
import { successorLines } from './successor.js'

function explored(run: Run): Exploration {
  const start = performance.now()
  const exploration = explore(handover(run))
  const { states, transitions, terminals, depth, counterexample } = exploration
  console.log(
    `${states} states, ${transitions} steps, ${terminals} ends, depth ${depth}, ${Math.round(performance.now() - start)} ms: ${JSON.stringify(run)}`,
  )
  expect(counterexample && printed(counterexample)).toBeUndefined()
  return exploration
}

describe('P1, P2 and P3 hold in every state', () => {
  test('of a handover in one transaction, with any one fault at any step', { timeout: 300_000 }, () => {
    const { taken, states } = explored({ ...WORLD, bytes: [2, 1] })
    expectEveryFault(taken)
    // Each fault of each kind leaves at least the progress of the connections to differ: 6 states of one, 4 of the other.
    expect(states).toBeGreaterThan(FAULT_POINTS.length * 3 * 6 * 4)
  })

  test('of a handover in two transactions', { timeout: 300_000 }, () => {
    const { taken } = explored({ ...WORLD, rolling: true })
    explored({ ...WORLD, bytes: [1, 0], echoes: [true, false], faults: 2, rolling: true })
    expect(taken).toContain('predecessor: #continue sends prepare')
    expect([...taken].filter((name) => /(kill|stop|throw) at/.test(name)).length).toBeGreaterThan(3 * FAULT_POINTS.length - 3)
  })

  test('with any two faults', { timeout: 300_000 }, () => {
    const { taken } = explored({ ...WORLD, faults: 2 })
    expectEveryFault(taken)
    expectEveryLine(taken)
    expect(taken).toContain('predecessor: successorOnDeath')
    expect(taken).toContain('successor: provesDeath: it is, and we hold all it had')
  })

  test('with a third process that says hello at any moment', { timeout: 300_000 }, () => {
    const { taken } = explored({ ...WORLD, bytes: [1], echoes: [true], third: true })
    for (const name of ['predecessor: refuses the third', 'predecessor: welcomes the third', 'successor: welcomes the third']) {
      expect(taken).toContain(name)
    }
  })

  test('with a second listener claimed at any moment of the boot', { timeout: 300_000 }, () => {
    const { taken } = explored({ ...WORLD, bytes: [1], echoes: [true], claims: true })
    expect(taken).toContain('successor: claim receives prepare')
    expect(taken).toContain('successor: claim receives listener')
  })

  test('where there is no connection and only the listener moves', () => {
    const { taken } = explored({ ...WORLD, bytes: [], echoes: [], faults: 2 })
    expect(taken).toContain('predecessor: successorOnDeath')
  })

  test('where the kernel has no pidfds', { timeout: 300_000 }, () => {
    const { taken } = explored({ ...WORLD, bytes: [1], echoes: [true], pidfd: false })
    expect(taken).toContain('predecessor: successorOnDeath')
  })
})

/** Every fault point of the code is a line of the model, where both sides were killed, stopped and made to fail. */
function expectEveryFault(taken: ReadonlySet<string>): void {
  for (const point of FAULT_POINTS) {
    for (const fault of ['kill', 'stop', 'throw']) expect(taken).toContain(`${fault} at ${point}`)
  }
}

function expectEveryLine(taken: ReadonlySet<string>): void {
  const elsewhere = new Set(['claim', 'leavesVerdict', 'told 0', 'told 1']) // in other explorations, or only where the protocol is broken
  const lines = [...predecessorLines().map((at) => `predecessor-${at}`), ...successorLines().map((at) => `successor-${at}`)]
  for (const line of lines) {
    if (elsewhere.has(line.replace('successor-', ''))) continue
    expect(taken).toContain(`kill at ${line}`)
    expect(taken).toContain(`stop at ${line}`)
  }
}
