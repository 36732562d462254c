import { readFileSync } from 'node:fs'

/** Something that starts this process again and again, and says by a signal of its own that it is about to. */
export interface Supervisor {
  readonly name: 'nodemon' | 'node --watch' | 'tsx watch' | 'systemd'
  /** Means: leave, you are started again as soon as you have. Other signals mean: leave. */
  readonly restartSignal: NodeJS.Signals
}

/**
 * Under whom this process runs, where that proves what a signal means; looked at once, at start. PM2 is not among them: its `stop` and its `restart` look the
 * same from inside.
 *
 * @note nodemon 3 lib/config/defaults.js: SIGUSR2. node lib/internal/main/watch_mode.js, since 18.11: SIGTERM, and WATCH_REPORT_DEPENDENCIES in the
 * environment; at Ctrl-C the terminal sends SIGINT. tsx 4 src/watch: SIGTERM.
 */
export function findSupervisor(environment: NodeJS.ProcessEnv): Supervisor | undefined {
  if (environment['WATCH_REPORT_DEPENDENCIES'] !== undefined) return { name: 'node --watch', restartSignal: 'SIGTERM' }
  const parent = argumentsOfParent()
  if (parent.some((argument) => /(^|\/)nodemon(\.js)?$/.test(argument))) return { name: 'nodemon', restartSignal: 'SIGUSR2' }
  if (parent.includes('watch') && parent.some((argument) => /(^|\/)tsx(\/dist\/cli\.[cm]?js)?$/.test(argument)))
    return { name: 'tsx watch', restartSignal: 'SIGTERM' }
  return undefined
}

function argumentsOfParent(): string[] {
  try {
    return readFileSync(`/proc/${process.ppid}/cmdline`, 'utf8').split('\0')
  } catch {
    return [] // no /proc, or it has ended
  }
}
