/* Everything that the doors offer, in one bundle: see tsup.config.ts. */
import nodeNet from 'node:net'
import { attach, createServer, installation, participant } from './attach.js'
import { type ConnectionScope, socketOf } from './connection-scope.js'
import { TsunagiError } from './errors.js'
import type { HandoverReport } from './handover/report.js'
import type { ReloadOptions } from './triggers/spawn.js'

export type { CarryOptions } from './carry/carried-state.js'
export { carry, isResumed } from './carry.js'
export type { ConnectionScope, WebSocketLike } from './connection-scope.js'
export { ERROR_CODES, type ErrorCode } from './errors.js'
export { PHASES, type Phase } from './handover/phase.js'
export type { AttachOptions, Decision } from './options.js'
export { owned, ready, retiring } from './process-lifecycle.js'
export { register } from './register-all.js'
export { type FoundReport, restore, type SaveReport, snapshot } from './snapshots.js'
export type { HandoverReport, ReloadOptions }
export { attach, createServer, TsunagiError }

/** node:net with an attached `createServer` and `Server`: a drop-in for `import net from 'node:net'`. */
export const net = { ...nodeNet, createServer }

/** Starts the new version with the same arguments, waits until it serves, and resolves with the report; then this process leaves. */
export async function reload(options: ReloadOptions = {}): Promise<HandoverReport> {
  const here = participant()
  if (here === undefined) throw new TsunagiError('ERR_TSUNAGI_RELOAD', 'reload() works in the main thread only.', { serving: true })
  return here.reload(options)
}

/**
 * Keeps a connection here while its handler is in the middle of something: `using hold = defer(socket)`. It moves when the hold is disposed of,
 * and drains if that does not happen within the grace period.
 */
export function defer(connection: ConnectionScope): Disposable {
  const socket = socketOf(connection)
  return (socket && installation()?.holds.hold(socket)) ?? { [Symbol.dispose]() {} }
}
