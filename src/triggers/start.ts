import type { Env } from '../env.js'
import type { Drain } from '../predecessor/drain.js'
import type { SignalGate } from './signals.js'

/**
 * The new version was started by hand, by `npm start` or by a reload: this process leaves with exit code 0 when nothing is left to do. It ends by
 * itself once the loop is empty, what drains and late handlers included. At the end of the grace period, or at a signal, what is left is ended.
 */
export function leaveAfterStart({ env, grace, gate }: Leaving, drain: Drain, sayLeft: () => void): void {
  let leaving = false
  process.once('beforeExit', sayLeft)
  setTimeout(() => {
    if (drain.left > 0) env.log(`the grace period of ${grace / 1000} s is over: ${drain.left} connections are ended`)
    leave()
  }, grace).unref()
  gate.leaveBy(leave)

  function leave(): void {
    if (leaving) return
    leaving = true
    if (drain.serveWaiting()) setTimeout(end, LAST_ANSWERS_MS).unref()
    else end()
  }

  function end(): void {
    drain.endAll()
    // A moment for what end() has queued; a peer that does not read gets no more.
    setTimeout(() => {
      sayLeft()
      process.exit(0)
    }, LAST_WORDS_MS).unref()
  }
}

interface Leaving {
  readonly env: Pick<Env, 'log'>
  readonly grace: number
  readonly gate: SignalGate
}

/** For requests that have waited for a move that does not come. */
export const LAST_ANSWERS_MS = 1_000
const LAST_WORDS_MS = 250
