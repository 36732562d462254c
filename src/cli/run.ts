import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'
import { canaryWish } from '../canary.js'
import { loadBinding } from '../native/binding.js'
import type { Ending } from '../supervisor/generation.js'
import { reapOrphans } from '../supervisor/reap-orphans.js'
import { passSignals } from '../supervisor/signals.js'
import { Supervisor } from '../supervisor/supervisor.js'
import { watchFiles } from '../supervisor/watch-files.js'
import { shownWorkingDirectory } from '../triggers/start-command.js'
import { type Call, type Command, EXIT, milliseconds, text, UsageError } from './command.js'

export const run: Command = {
  summary: 'runs a server and replaces it with overlap, at SIGHUP or SIGUSR2, at `tsunagi reload` or when its files change',
  usage: '[options] <script> [argument…]',
  passesRest: true,
  options: {
    watch: { type: 'boolean', says: 'reloads when a source file below the working directory has changed' },
    restart: { type: 'boolean', says: 'starts the server again when it crashes, later each time (0.1 s to 30 s); else ends as it has' },
    timeout: { type: 'string', value: 'SECONDS', says: 'that a new version may take until it serves (60)' },
    health: {
      type: 'string',
      value: 'PATH',
      says: 'asks every new version for this path before it takes over, such as /healthz (TSUNAGI_HEALTH)',
    },
    canary: {
      type: 'string',
      value: 'K',
      says: 'lends every new version K connections first, and watches it before it gets the rest (TSUNAGI_CANARY)',
    },
    'canary-watch': { type: 'string', value: 'SECONDS', says: 'that it is watched with them (TSUNAGI_WATCH, 10)' },
    name: { type: 'string', value: 'NAME', says: 'sets TSUNAGI_NAME: versions on other ports are found by it' },
  },
  async run(call) {
    const [script] = call.arguments
    if (script === undefined) throw new UsageError('A script to run is missing.')
    const log = (line: string) => call.output.err(`tsunagi: ${line}\n`)
    const { native, missing } = loadBinding()
    if (missing) log(`${missing.message}. A reload stops the server before it starts the new version.`)
    const supervisor = new Supervisor(
      {
        args: ['--require', fileURLToPath(new URL('register.cjs', import.meta.url)), ...call.arguments],
        cwd: shownWorkingDirectory(),
        environment: { ...process.env, ...settings(call) },
      },
      {
        restart: call.options['restart'] === true,
        isWatching: call.options['watch'] === true,
        timeout: milliseconds(call, 'timeout', 60_000),
        overlap: native !== undefined,
        log,
      },
    )
    passSignals(supervisor)
    if (native && process.pid === 1) reapOrphans(native, () => supervisor.pids)
    if (call.options['watch']) {
      watchFiles(process.cwd(), (path) => {
        log(`${path} has changed`)
        supervisor.reload()
      })
    }
    return endAs(await supervisor.finished)
  },
}

/** What every new version finds in its environment. */
function settings(call: Call): NodeJS.ProcessEnv {
  const all = {
    ...setting('TSUNAGI_NAME', text(call, 'name')),
    ...setting('TSUNAGI_HEALTH', health(call)),
    ...setting('TSUNAGI_CANARY', text(call, 'canary')),
    ...setting('TSUNAGI_WATCH', text(call, 'canary-watch')),
  }
  try {
    canaryWish(all)
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
  return all
}

function health(call: Call): string | undefined {
  const path = text(call, 'health')
  if (path !== undefined && !path.startsWith('/')) throw new UsageError(`--health is a path that begins with "/", not "${path}".`)
  return path
}

function setting(name: string, value: string | undefined): NodeJS.ProcessEnv {
  return value === undefined ? {} : { [name]: value }
}

/** This process ends as the program has: with its exit code, or by its signal where that is possible. */
async function endAs({ code, signal }: Ending): Promise<never> {
  if (signal === null) process.exit(code ?? EXIT.failed)
  if (process.pid !== 1) {
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
    await new Promise((resolve) => setTimeout(resolve, DYING_MS))
  }
  process.exit(EXIT_BY_SIGNAL + constants.signals[signal])
}

/** @note what a shell says of a command that a signal has ended (POSIX, 2.8.2). */
const EXIT_BY_SIGNAL = 128
/** A signal that this process has sent to itself is delivered at once, unless it is one that Node keeps to itself. */
const DYING_MS = 100
