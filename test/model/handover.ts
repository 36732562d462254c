import type { Model, Step } from './checker.js'
import { predecessorSteps, predecessorTurns } from './predecessor.js'
import { bit, has, initialState, isReferenced, kill, LISTENER, type Run, SECOND_LISTENER, type Side, type State, step } from './state.js'
import { successorSteps } from './successor.js'
import { pieceOf } from './wire.js'

/**
 * The whole: both processes, a third that asks in the middle, what may befall them, and what must hold whatever does.
 *
 * A process may be killed or stopped before every step, killed within every send, and fail at every fault point of src/env.ts. Time-outs fire whenever
 * they are armed. A pidfd becomes readable some time after the end of file. Not modelled: late writes, carried state, more than two connections.
 */
export function handover(run: Run): Model<State> {
  return {
    initial: initialState(run),
    key,
    steps: (state) => [...processSteps(run, state, 'predecessor'), ...processSteps(run, state, 'successor'), ...thirdSteps(state)],
    violation: (state) => violation(run, state),
    unfinished: (state) => unfinished(run, state),
  }
}

/** Values without their names: half the length. */
function key({ predecessor, successor, third, ...world }: State): string {
  return JSON.stringify([...Object.values(predecessor), ...Object.values(successor), ...Object.values(third), ...Object.values(world)])
}

function processSteps(run: Run, state: State, side: Side): Step<State>[] {
  const process = state[side]
  if (!process.alive) {
    if (process.provenDead) return []
    return [step(state, `kernel: the pidfd of the ${side} becomes readable`, (next) => prove(next, side))]
  }
  const steps = process.stopped ? [] : (side === 'predecessor' ? predecessorSteps : successorSteps)(run, state)
  if (process.stopped) steps.push(step(state, `${side} is continued`, (next) => setStopped(next, side, false)))
  if (state.faults === 0) return steps
  steps.push(
    step(state, `kill at ${side}-${process.at}`, (next) => {
      next.faults--
      kill(next, side)
    }),
  )
  if (!process.stopped) {
    steps.push(
      step(state, `stop at ${side}-${process.at}`, (next) => {
        next.faults--
        setStopped(next, side, true)
      }),
    )
  }
  return steps
}

function prove(next: State, side: Side): void {
  next[side].provenDead = true
}

function setStopped(next: State, side: Side, stopped: boolean): void {
  next[side].stopped = stopped
}

/** A third process, started at any moment: it asks whoever the address's file names, and if it is welcome changes its mind. */
function thirdSteps(state: State): Step<State>[] {
  const { third } = state
  if (third.at === 'idle') {
    return [
      step(state, 'third: sends hello', (next) => {
        next.third.peer = state.path
        next.third.at = state[state.path].alive ? 'asked' : 'done'
        if (next.third.at === 'asked') next.third.toPeer = [pieceOf(HELLO)]
      }),
    ]
  }
  if (third.at === 'welcomed') {
    return [
      step(state, 'third: closes', (next) => {
        next.third.at = 'closed'
      }),
    ]
  }
  if ((third.at === 'asked' || third.at === 'closed') && !state[third.peer].alive) {
    return [
      step(state, 'third: its peer is gone', (next) => {
        next.third.at = 'done'
      }),
    ]
  }
  return []
}

const HELLO = { type: 'hello', protocolMin: 1, protocolMax: 1, pid: 3, version: '1', node: 'v1', address: 'first', token: '' } as const

function violation(run: Run, state: State): string | undefined {
  if (state.broken) return state.broken
  const { predecessor, successor } = state
  if (!predecessor.alive && !successor.alive) return undefined
  for (let index = 0; index < run.bytes.length; index++) {
    const byPredecessor = predecessorTurns(state) && has(predecessor.serves, index)
    if (byPredecessor && has(successor.serves, index)) return `P2: both processes serve connection ${index}`
    if (byPredecessor && has(successor.touched, index)) return `P3: connection ${index} is served on, which the dead successor had touched`
    if (!isReferenced(state, index) && !has(state.excused, index))
      return `P1: connection ${index} is closed, and nobody who owned it has died`
  }
  if (predecessorTurns(state) && (predecessor.accepts & successor.accepts) !== 0) return 'P2: both processes accept on one listener'
  return undefined
}

function unfinished(run: Run, state: State): string | undefined {
  const { predecessor, successor, third } = state
  if (!predecessor.alive && !successor.alive) return undefined
  if (predecessor.alive && !PREDECESSOR_RESTS.has(predecessor.at)) return `the predecessor is stuck at ${predecessor.at}`
  if (predecessor.alive && predecessor.at === 'draining' && predecessor.serves === 0) return 'the predecessor does not leave'
  if (successor.alive && !SUCCESSOR_RESTS.has(successor.at)) return `the successor is stuck at ${successor.at}`
  if (predecessor.alive && !predecessor.retired && predecessor.busyWith !== '') return 'the predecessor is busy for ever'
  if (third.at !== 'done') return `the third process is stuck, ${third.at}`
  for (const [index, total] of run.bytes.entries()) {
    const isServed = has(predecessor.serves | successor.serves, index)
    if (!isServed && isReferenced(state, index)) return `P1: connection ${index} is held and nobody serves it`
    if (!isServed && !has(state.excused, index)) return `P1: connection ${index} is lost`
    if (isServed && state.seen[index] !== total)
      return `P1: the application got ${state.seen[index]} of ${total} bytes of connection ${index}`
    if (isServed && run.echoes[index] && state.answered[index] !== total)
      return `P1: the client got ${state.answered[index]} of ${total} answers on connection ${index}`
  }
  return unfinishedListeners(run, state)
}

const PREDECESSOR_RESTS = new Set(['loop', 'draining'])
const SUCCESSOR_RESTS = new Set(['serving', 'failed'])

function unfinishedListeners(run: Run, { predecessor, successor, path }: State): string | undefined {
  if (predecessor.alive && !predecessor.retired) {
    const listeners = bit(LISTENER) | (run.claims ? bit(SECOND_LISTENER) : 0)
    if (predecessor.accepts !== listeners) return 'P3: the predecessor serves on, and does not accept'
    if (path !== 'predecessor') return 'the next version cannot find the predecessor, which serves on'
  }
  if (successor.alive && successor.at === 'serving') {
    if (!has(successor.accepts, LISTENER)) return 'P1: the successor serves, and does not accept'
    if (path !== 'successor') return 'the next version cannot find the successor, which serves'
  }
  if (successor.gaveUpOnTheDead) return 'P1: the successor gave up a listener that nobody else held'
  return undefined
}
