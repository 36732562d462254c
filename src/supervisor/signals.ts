import { closeSync, openSync } from 'node:fs'
import type { Supervisor } from './supervisor.js'

/**
 * What signals mean to `tsunagi run`. SIGHUP and SIGUSR2 reload, except for the SIGHUP of a terminal that was closed; what means "leave" is passed on.
 * A terminal sends its Ctrl-C to every process in front of it: there the program has it already, and a second one would mean "at once".
 */
export function passSignals(supervisor: Supervisor): void {
  const hasTerminal = process.stdin.isTTY === true
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) process.on(signal, () => supervisor.stop(signal, hasTerminal))
  process.on('SIGTERM', () => supervisor.stop('SIGTERM', false))
  process.on('SIGUSR1', () => supervisor.signal('SIGUSR1'))
  process.on('SIGUSR2', () => supervisor.reload())
  process.on('SIGHUP', () => {
    if (hasTerminal && hasHungUp()) supervisor.stop('SIGHUP', false)
    else supervisor.reload()
  })
}

/** @note tty(4): /dev/tty cannot be opened any more once the terminal has gone. */
function hasHungUp(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'))
    return false
  } catch {
    return true
  }
}
