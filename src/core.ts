/* Everything that the doors offer, in one bundle: see tsup.config.ts. */
import nodeNet from 'node:net'
import { attach, createServer, installation } from './attach.js'

export type { CarryOptions } from './carry/carried-state.js'
export { carry, isResumed } from './carry.js'
export { ERROR_CODES, type ErrorCode, TsunagiError } from './errors.js'
export { PHASES, type Phase } from './handover/phase.js'
export type { HandoverReport } from './handover/report.js'
export type { AttachOptions, Decision } from './options.js'
export { owned, ready, retiring } from './process-lifecycle.js'
export { attach, createServer }

/** node:net with an attached `createServer` and `Server`: a drop-in for `import net from 'node:net'`. */
export const net = { ...nodeNet, createServer }

/** What `tsunagi/register` runs: idempotent. */
export function register(): void {
  installation()
}
