import type { Installation } from '../installation.js'
import type { Drain } from '../predecessor/drain.js'

/**
 * The new version was started by hand or by `npm start`: this process leaves with exit code 0 when nothing is left to do. It ends by itself
 * once the loop is empty, what drains and late handlers included; at the end of the grace period what is left is ended.
 */
export function leaveAfterStart(installation: Installation, drain: Drain, sayLeft: () => void): void {
  const { env, grace } = installation
  process.once('beforeExit', processOnBeforeExit)
  const timer = setTimeout(() => {
    if (drain.left > 0) env.log(`the grace period of ${grace / 1000} s is over: ${drain.left} connections are ended`)
    drain.endAll()
    // A moment for what end() has queued; a peer that does not read gets no more.
    setTimeout(() => {
      sayLeft()
      process.exit(0)
    }, LAST_WORDS_MS).unref()
  }, grace)
  timer.unref()

  function processOnBeforeExit(): void {
    clearTimeout(timer)
    sayLeft()
  }
}

const LAST_WORDS_MS = 250
