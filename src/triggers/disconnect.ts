import { halves } from '../halves.js'
import type { Installation } from '../installation.js'

/**
 * The primary disconnects a worker that nobody gave a slot: if it has forked younger ones since, that is how it replaces its workers. Then the youngest
 * that has taken over from nobody is asked to come and take the connections; it serves the same servers already, so that listeners and carried state
 * of servers stay out of it. The primary's word waits until that is decided. Returns how to undo it.
 *
 * @note lib/internal/cluster/child.js: `worker.disconnect()` of the primary arrives as an internal message of `process`, and closes the worker's servers.
 */
export function handOverWhenDisconnected(installation: Installation): () => void {
  const { emit } = process
  let isDeciding = false
  const gatedEmit = function gatedEmit(this: NodeJS.Process, event: string | symbol, ...args: unknown[]) {
    const pass = () => Reflect.apply(emit, this, [event, ...args])
    if (event !== 'internalMessage' || isDeciding || !isDisconnect(args[0]) || !halves().hasSomethingToGive(installation)) return pass()
    isDeciding = true
    void halves().findHeir(installation).then(pass)
    return true
  } as typeof process.emit
  process.emit = gatedEmit
  return () => {
    if (process.emit === gatedEmit) process.emit = emit // else somebody has wrapped it
  }
}

function isDisconnect(message: unknown): boolean {
  const { cmd, act } = (message ?? {}) as { cmd?: unknown; act?: unknown }
  return cmd === 'NODE_CLUSTER' && act === 'disconnect'
}
