import { readFileSync } from 'node:fs'
import { parentOf } from '../channel/rendezvous.js'

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
  const [parent = [], ...others] = ancestors()
  if (parent.includes('watch') && parent.some((argument) => /(^|\/)tsx(\/dist\/cli\.[cm]?js)?$/.test(argument)))
    return { name: 'tsx watch', restartSignal: 'SIGTERM' }
  // It signals everything below it, and mostly there are a shell or npm in between.
  if ([parent, ...others].some((line) => line.some((argument) => /(^|\/)nodemon(\.js)?$/.test(argument))))
    return { name: 'nodemon', restartSignal: 'SIGUSR2' }
  return undefined
}

/** Command lines of the process that has started this one, of the one that has started that, and so on. */
function ancestors(): string[][] {
  const lines: string[][] = []
  try {
    for (let pid = process.ppid; pid > 1 && lines.length < MOST_ANCESTORS; pid = parentOf(pid) ?? 0)
      lines.push(readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0'))
  } catch {
    // no /proc, or one of them has ended: it restarts nothing
  }
  return lines
}

/** nodemon, npm, a shell each, and a process or two that nobody thinks of. */
const MOST_ANCESTORS = 8
