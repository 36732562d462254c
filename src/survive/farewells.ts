/**
 * A process that ends by itself is no crash: exit(), a loop that has run empty, or a signal that nobody listens for. `farewell` is called before, and may
 * block for a moment. What ends by an error of its own, or without a word, is one. Returns how to undo it.
 */
export function watchFarewells(farewell: () => void): () => void {
  let hasCrashed = false
  const processOnError = () => {
    hasCrashed ||= process.listenerCount('uncaughtException') === 0 // else the application goes on
  }
  const processOnExit = () => {
    if (!hasCrashed) farewell()
  }
  // Where the application listens as well, it is the one who decides; if it ends, that is an exit.
  const processOnSignal = (signal: NodeJS.Signals) => {
    if (process.listenerCount(signal) > 1) return
    farewell() // gives the signal back
    process.kill(process.pid, signal)
  }
  process.on('uncaughtExceptionMonitor', processOnError)
  process.on('exit', processOnExit)
  for (const signal of SIGNALS) process.on(signal, processOnSignal)
  return () => {
    process.off('uncaughtExceptionMonitor', processOnError)
    process.off('exit', processOnExit)
    for (const signal of SIGNALS) process.off(signal, processOnSignal)
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
