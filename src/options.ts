import type { Socket } from 'node:net'
import type { HandoverMode } from './channel/messages.js'
import { misuse } from './errors.js'

/** What to do with one connection at a handover. */
export type Decision = 'move' | 'drain' | 'close'

/** Options of `attach` and `createServer`. */
export interface AttachOptions {
  /**
   * Decides for one connection; called for each while the server is frozen, so it must be quick and synchronous.
   * 'move': goes to the successor; 'drain': the predecessor serves it until it ends or the grace period does; 'close': ended politely at once.
   * @default () => 'move'
   */
  policy?: (socket: Socket) => Decision
}

const DEFAULTS: Required<AttachOptions> = { policy: () => 'move' }

/** Applies defaults and rejects what is not an option, naming the nearest one that is. Throws a TypeError ERR_TSUNAGI_OPTION. */
export function resolveOptions(options: AttachOptions = {}): Required<AttachOptions> {
  for (const name of Object.keys(options)) {
    if (!Object.hasOwn(DEFAULTS, name)) {
      throw misuse('ERR_TSUNAGI_OPTION', `attach() has no option "${name}"; it knows: ${Object.keys(DEFAULTS).join(', ')}.`)
    }
  }
  if (options.policy !== undefined && typeof options.policy !== 'function') {
    throw misuse(
      'ERR_TSUNAGI_OPTION',
      `The option "policy" of attach() is a function (socket) => 'move' | 'drain' | 'close', not ${typeof options.policy}.`,
    )
  }
  return { ...DEFAULTS, ...options }
}

/** How connections move: `TSUNAGI_MODE`, as the new version was started with. @default 'auto' */
export function handoverMode(environment: NodeJS.ProcessEnv): HandoverMode {
  const given = environment['TSUNAGI_MODE'] || 'auto'
  if (given !== 'auto' && given !== 'atomic' && given !== 'rolling') {
    throw misuse('ERR_TSUNAGI_OPTION', `TSUNAGI_MODE is atomic, rolling or auto, not "${given}".`)
  }
  return given
}

/** Milliseconds that what stays behind may take to end by itself. `TSUNAGI_GRACE`, in seconds. @default 30 s */
export function gracePeriod(environment: NodeJS.ProcessEnv): number {
  const given = environment['TSUNAGI_GRACE']
  if (given === undefined || given === '') return 30_000
  const seconds = Number(given)
  if (!Number.isFinite(seconds) || seconds < 0) {
    throw misuse('ERR_TSUNAGI_OPTION', `TSUNAGI_GRACE is a number of seconds, 0 or more, not "${given}".`)
  }
  return seconds * 1000
}
