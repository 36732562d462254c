import type { Env } from '../env.js'
import type { Drain } from '../predecessor/drain.js'
import type { Slot } from '../slot.js'
import type { SignalGate } from './signals.js'
import { LAST_ANSWERS_MS } from './start.js'

/**
 * A cluster worker has handed over to the one in its slot: it waits for its supervisor's signal or message, since one that exits by itself is
 * taken for crashed, and started again. Asked, it ends once nothing is left to do, and before the supervisor would kill it. A primary that disconnects
 * it asks as well: Node then lets it end by itself.
 */
export function leaveAsWorker({ env, grace, gate, slot }: Leaving, drain: Drain, sayLeft: () => void): void {
  process.once('beforeExit', sayLeft)
  const graceMs = setTimeout(() => {
    if (drain.left > 0) env.log(`the grace period of ${grace / 1000} s is over: ${drain.left} connections are ended`)
    if (drain.serveWaiting()) setTimeout(end, LAST_ANSWERS_MS).unref()
    else end()
  }, grace).unref()
  gate.leaveBy(() => {
    process.channel?.unref() // else the connection to the supervisor would keep this process alive
    clearTimeout(graceMs)
    setTimeout(exit, slot?.killTimeout === undefined ? grace : endBefore(slot.killTimeout)).unref()
  })

  function end(): void {
    drain.endAll()
    if (!process.connected) exit()
  }

  function exit(): void {
    drain.serveWaiting()
    drain.endAll()
    // A moment for what end() has queued; a peer that does not read gets no more.
    setTimeout(() => {
      sayLeft()
      process.exit(0)
    }, LAST_WORDS_MS).unref()
  }
}

/** Milliseconds after a supervisor's signal at which this process begins to end, so that it has ended when it would be killed. */
export function endBefore(killTimeout: number): number {
  return Math.max(0, killTimeout - KILL_MARGIN_MS)
}

/** The same where a holder waits for the connections: the worker that boots finds them there as well, and putting them there must not be cut off. */
export function leaveBefore(killTimeout: number): number {
  return killTimeout / 4
}

interface Leaving {
  readonly env: Pick<Env, 'log'>
  readonly grace: number
  readonly gate: SignalGate
  readonly slot: Slot | undefined
}

const LAST_WORDS_MS = 250
/** What the end takes after it has begun, on a busy machine. */
const KILL_MARGIN_MS = 600
