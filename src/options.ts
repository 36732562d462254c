import type { Socket } from 'node:net'
import type { HandoverMode } from './channel/messages.js'
import { misuse } from './errors.js'

/** What to do with one connection at a handover. */
export type Decision = 'move' | 'drain' | 'close'

/** What becomes of connections when this process ends while no new version is there. */
export type OnExit = 'none' | 'hold' | 'snapshot'

/** Options of `attach` and `createServer`. */
export interface AttachOptions {
  /**
   * Decides for one connection; called for each while the server is frozen, so it must be quick and synchronous.
   * 'move': goes to the successor; 'drain': the predecessor serves it until it ends or the grace period does; 'close': ended politely at once.
   * @default () => 'move'
   */
  policy?: (socket: Socket) => Decision
  /**
   * What becomes of the listener and its connections when this process leaves, by SIGINT, SIGTERM, PM2's 'shutdown' or process.exit(), and no new version is
   * there. 'none': what happens without this library. 'hold': a holder keeps them for the next start, systemd's store or a keeper (for
   * `TSUNAGI_HOLD` seconds, 5 by default); where neither can, as 'snapshot'. 'snapshot': they are saved as data, which needs CAP_NET_ADMIN, and the next start restores
   * them; where that cannot be, they drain. A stop looks like a restart: clients of a server that is stopped for good wait until the hold is over, under PM2
   * until it is clear that no new process is started.
   * `TSUNAGI_ON_EXIT` goes before it. Under nodemon, `node --watch` and `tsx watch` a restart can be told from a stop: there it is 'hold' unless set.
   * @default 'none'
   */
  onExit?: OnExit
  /**
   * 'auto': with CAP_NET_ADMIN, and where no more than 100 connections move at once, what the kernel tells of each in repair mode goes along with its descriptor, and the next process
   * compares. 'off': it does not. `TSUNAGI_REPAIR=off` goes before it. Either way every connection is verified by what needs no privilege.
   * @default 'auto'
   */
  repair?: 'auto' | 'off'
  /**
   * Bytes of an HTTP/1.1 request, its head included, that may be read once more in the successor: one that was received in part while the successor booted, and to
   * which nothing has been answered, then moves with its connection, and its handler runs again from the start there. In the old process the request falls silent,
   * without 'aborted', 'close' or 'error', and what its handler still answers reaches nobody: it has to be of no harm to have begun twice. Up to this many bytes are
   * kept for each connection while a successor boots. Without it, and for what is larger, the old process answers. `TSUNAGI_REPLAY` goes before it.
   * @default 0
   */
  replay?: number
  /**
   * Whether connections outlive a crash of this process (SIGKILL, an OOM kill, an uncaught exception): the listener and a copy of each connection are given to a keeper,
   * which holds them for `TSUNAGI_HOLD` seconds (5 by default) after that, and the next start goes on with those that are provably at a boundary; the others end. An
   * HTTP/1.1 connection is between two requests. A raw one is when the last thing that happened to it was that the application wrote, everything that was
   * read was delivered, `defer` does not hold it, and nothing is carried: so an application that asks for this says that its connections have no other state. One
   * that can have half a message in its own hands holds the connection with `defer` meanwhile. The end of a hold is a boundary as well. WebSockets are closed with 1012.
   * `TSUNAGI_SURVIVE=1` asks for every server, `0` for none.
   * @default false
   */
  survive?: boolean
}

/** The default policy. */
export const moveAll = (): Decision => 'move'

const DEFAULTS: Required<AttachOptions> = { policy: moveAll, onExit: 'none', repair: 'auto', replay: 0, survive: false }

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
  if (options.onExit !== undefined && !isOnExit(options.onExit)) {
    throw misuse(
      'ERR_TSUNAGI_OPTION',
      `The option "onExit" of attach() is 'none', 'hold' or 'snapshot', not ${JSON.stringify(options.onExit)}.`,
    )
  }
  if (options.repair !== undefined && options.repair !== 'auto' && options.repair !== 'off') {
    throw misuse('ERR_TSUNAGI_OPTION', `The option "repair" of attach() is 'auto' or 'off', not ${JSON.stringify(options.repair)}.`)
  }
  const { replay = 0 } = options
  if (!Number.isSafeInteger(replay) || replay < 0) {
    throw misuse('ERR_TSUNAGI_OPTION', `The option "replay" of attach() is a number of bytes, 0 or more, not ${String(replay)}.`)
  }
  if (options.survive !== undefined && typeof options.survive !== 'boolean') {
    throw misuse('ERR_TSUNAGI_OPTION', `The option "survive" of attach() is true or false, not ${JSON.stringify(options.survive)}.`)
  }
  const survive = surviveSetting(process.env) ?? options.survive ?? false
  return { ...DEFAULTS, ...options, survive, replay: replaySetting(process.env) ?? replay }
}

/** `TSUNAGI_REPLAY`, bytes, as 65536, 64kb or 1mb (of 1024); it goes before what servers ask for; `undefined`: not set. */
export function replaySetting(environment: NodeJS.ProcessEnv): number | undefined {
  const given = environment['TSUNAGI_REPLAY']
  if (given === undefined || given === '') return undefined
  const [, number, unit = ''] = /^(\d+)(kb|mb|gb)?$/i.exec(given) ?? []
  const bytes = Number(number) * 1024 ** ['', 'kb', 'mb', 'gb'].indexOf(unit.toLowerCase())
  if (!Number.isSafeInteger(bytes))
    throw misuse('ERR_TSUNAGI_OPTION', `TSUNAGI_REPLAY is a number of bytes, such as 65536 or 1mb, not "${given}".`)
  return bytes
}

/** `TSUNAGI_SURVIVE`, which goes before what servers ask for; `undefined`: not set. */
export function surviveSetting(environment: NodeJS.ProcessEnv): boolean | undefined {
  const given = environment['TSUNAGI_SURVIVE']
  if (given === undefined || given === '') return undefined
  if (given !== '0' && given !== '1') throw misuse('ERR_TSUNAGI_OPTION', `TSUNAGI_SURVIVE is 0 or 1, not "${given}".`)
  return given === '1'
}

/** `TSUNAGI_ON_EXIT`, which goes before what servers ask for; `undefined`: not set. */
export function onExitSetting(environment: NodeJS.ProcessEnv): OnExit | undefined {
  const given = environment['TSUNAGI_ON_EXIT']
  if (given === undefined || given === '') return undefined
  if (!isOnExit(given)) throw misuse('ERR_TSUNAGI_OPTION', `TSUNAGI_ON_EXIT is none, hold or snapshot, not "${given}".`)
  return given
}

/**
 * Milliseconds for which packets are held while connections are data, and for which a snapshot may be restored: one number, since a connection whose
 * packets were let through without a socket is reset. `TSUNAGI_HOLD`, in seconds. @default 60 s
 */
export function packetHoldTime(environment: NodeJS.ProcessEnv): number {
  return Math.max(1_000, seconds(environment, 'TSUNAGI_HOLD', 60_000))
}

/** Whether connections are looked at in repair mode before they move, whatever their servers say. `TSUNAGI_REPAIR`. @default 'auto' */
export function repairWish(environment: NodeJS.ProcessEnv): 'auto' | 'off' {
  const given = environment['TSUNAGI_REPAIR'] || 'auto'
  if (given !== 'auto' && given !== 'off') throw misuse('ERR_TSUNAGI_OPTION', `TSUNAGI_REPAIR is auto or off, not "${given}".`)
  return given
}

/** How connections move: `TSUNAGI_MODE`, as the new version was started with. @default 'auto' */
export function handoverMode(environment: NodeJS.ProcessEnv): HandoverMode {
  const given = environment['TSUNAGI_MODE'] || 'auto'
  if (given !== 'auto' && given !== 'atomic' && given !== 'rolling') {
    throw misuse('ERR_TSUNAGI_OPTION', `TSUNAGI_MODE is atomic, rolling or auto, not "${given}".`)
  }
  return given
}

/**
 * Milliseconds for which a keeper holds what nobody comes for. `TSUNAGI_HOLD`, in seconds.
 * @default 5 s; under PM2, where it is seen whether a new process is started at all, 30 s if one is, and about 1.5 s if not
 */
export function holdTime(environment: NodeJS.ProcessEnv, isRestartSeen: boolean): number {
  return seconds(environment, 'TSUNAGI_HOLD', isRestartSeen ? 30_000 : 5_000)
}

/** What a new version is asked before it takes over: `TSUNAGI_HEALTH`, a path such as /healthz, within `TSUNAGI_HEALTH_TIMEOUT` seconds. @default none, 10 s */
export function healthCheck(environment: NodeJS.ProcessEnv): { path: string; timeout: number } | undefined {
  const { TSUNAGI_HEALTH: path, TSUNAGI_HEALTH_TIMEOUT: given } = environment
  if (!path) return undefined
  if (!path.startsWith('/')) throw misuse('ERR_TSUNAGI_OPTION', `TSUNAGI_HEALTH is a path that begins with "/", not "${path}".`)
  const seconds = Number(given || 10)
  if (!Number.isFinite(seconds) || seconds < 0)
    throw misuse('ERR_TSUNAGI_OPTION', `TSUNAGI_HEALTH_TIMEOUT is a number of seconds, 0 or more, not "${given}".`)
  return { path, timeout: seconds * 1000 }
}

/** Milliseconds that what stays behind may take to end by itself. `TSUNAGI_GRACE`, in seconds. @default 30 s */
export function gracePeriod(environment: NodeJS.ProcessEnv): number {
  return seconds(environment, 'TSUNAGI_GRACE', 30_000)
}

export function seconds(environment: NodeJS.ProcessEnv, name: string, ms: number): number {
  const given = environment[name]
  if (given === undefined || given === '') return ms
  const number = Number(given)
  if (!Number.isFinite(number) || number < 0) {
    throw misuse('ERR_TSUNAGI_OPTION', `${name} is a number of seconds, 0 or more, not "${given}".`)
  }
  return number * 1000
}

function isOnExit(value: unknown): value is OnExit {
  return value === 'none' || value === 'hold' || value === 'snapshot'
}
