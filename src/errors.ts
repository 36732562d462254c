import type { Phase } from './handover/phase.js'

/**
 * Every code this library can put on an error, with what it means in one line. Codes are permanent.
 * docs/errors.md has a heading for each: what was tried, what happened, the next step.
 */
export const ERROR_CODES = {
  ERR_TSUNAGI_OPTION: 'an option is unknown or has a wrong value',
  ERR_TSUNAGI_ATTACH: 'this value is not a server that can be attached',
  ERR_TSUNAGI_CARRY: 'carry() was called with wrong arguments',
  ERR_TSUNAGI_CARRY_VALUE: 'a carried value holds something that cannot be carried',
  ERR_TSUNAGI_CARRY_SIZE: 'the carried state is larger than its cap',
  ERR_TSUNAGI_STATE_VERSION: 'the predecessor carries a state version that this code cannot take',
  ERR_TSUNAGI_STATE_SHAPE: 'carried state and the container waiting for it are of different kinds',
  ERR_TSUNAGI_MIGRATE: 'a migrate function threw',
  ERR_TSUNAGI_DIRECTORY: 'the directory for control sockets is not safe to use',
  ERR_TSUNAGI_PEER: 'the process at the other end is not of the same user',
  ERR_TSUNAGI_LOOKUP: 'the process that holds the address did not answer',
  ERR_TSUNAGI_BUSY: 'another handover of the same predecessor is under way',
  ERR_TSUNAGI_ROLLING_STATE: 'a rolling handover was asked for, and server-wide state is carried',
  ERR_TSUNAGI_CANARY: 'the new version was not well while it was watched with a few connections',
  ERR_TSUNAGI_HEALTH: 'the new version did not answer its health check',
  ERR_TSUNAGI_RELOAD: 'the new version that a reload started did not take over',
  ERR_TSUNAGI_REFUSED: 'the predecessor refused the handover',
  ERR_TSUNAGI_PROTOCOL: 'the peer speaks no protocol version in common, or broke the protocol',
  ERR_TSUNAGI_MESSAGE: 'a message is malformed or beyond a cap',
  ERR_TSUNAGI_CHANNEL_CLOSED: 'the peer closed the channel',
  ERR_TSUNAGI_ABORTED: 'the handover was given up before its commit; the predecessor still serves',
  ERR_TSUNAGI_VERIFY: 'a received connection is not the one its record describes',
  ERR_TSUNAGI_FD_LIMIT: 'this process may not open as many descriptors as the handover needs',
  ERR_TSUNAGI_OWNERSHIP: 'it cannot be proven who owns the connections; they were left to the predecessor',
  ERR_TSUNAGI_REPAIR: 'connections cannot be saved as data, or not be restored, on this machine',
  ERR_TSUNAGI_SNAPSHOT: 'a snapshot is damaged or incomplete',
  ERR_TSUNAGI_SNAPSHOT_VERSION: 'a snapshot was written by another version of tsunagi',
  ERR_TSUNAGI_SNAPSHOT_OWNER: 'a snapshot was written by another user',
  ERR_TSUNAGI_SNAPSHOT_AGE: 'a snapshot is older than its packets were held',
  ERR_TSUNAGI_SNAPSHOT_CLAIMED: 'another process restores from the same snapshot',
  ERR_TSUNAGI_HELPER: 'the helper process that has the capability cannot be used',
  ERR_TSUNAGI_SURVIVE: 'crash survival was asked for and is not possible here, or not any more',
  ERR_TSUNAGI_ADDON: 'the native addon is missing or does not fit this Node',
} as const

export type ErrorCode = keyof typeof ERROR_CODES

export interface TsunagiErrorOptions {
  /** Phase of the handover in which it happened. */
  phase?: Phase
  /** Whether the predecessor still serves every connection as before. */
  serving?: boolean
  cause?: unknown
}

/** The one class of run-time errors; `code` tells them apart. Misuse of the API throws `TypeError` or `RangeError` with a code instead. */
export class TsunagiError extends Error {
  override readonly name = 'TsunagiError'
  readonly code: ErrorCode
  readonly phase: Phase | undefined
  readonly serving: boolean | undefined

  constructor(code: ErrorCode, message: string, options: TsunagiErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.phase = options.phase
    this.serving = options.serving
  }
}

/** A `TypeError` that carries a permanent code: the caller passed something wrong. */
export function misuse(code: ErrorCode, message: string): TypeError {
  return Object.assign(new TypeError(message), { code })
}
