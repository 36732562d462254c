import type { Installation } from '../installation.js'
import type { Drain } from '../predecessor/drain.js'
import type { Lent } from '../successor/on-trial.js'

/** This process has given back what it was lent, and serves nobody: whoever has started it is told once what could not go back has ended. */
export function leaveAfterTrial({ env, grace, gate, servers }: Installation, { onLeft }: Lent, drain: Drain, sayLeft: () => void): void {
  const timer = setTimeout(end, grace)
  gate.leaveBy(end)
  for (const { server } of servers) server.once('drained', leave)

  function end(): void {
    if (drain.left > 0) env.log(`${drain.left} connections that could not be given back are ended`)
    drain.endAll()
    setTimeout(leave, LAST_WORDS_MS)
  }

  function leave(): void {
    clearTimeout(timer)
    sayLeft()
    onLeft()
  }
}

/** A moment for what end() has queued. */
const LAST_WORDS_MS = 250
