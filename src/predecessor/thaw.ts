import type { Frozen } from './freeze.js'

/**
 * The inverse of `freeze`. For plain sockets there is nothing to undo: nothing was changed, and the event loop goes on where it stood.
 * It exists so that the order of the pairs can be read in `handOver`, and for protocols that have something to undo.
 */
export function thaw(_frozen: Frozen): void {}
