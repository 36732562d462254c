import type { Peer } from '../channel/peer.js'
import { isAlive } from '../handover/is-alive.js'
import type { Native } from '../native/native.js'

/** Calls back on the event loop, which it does not hold, when the process at the other end is proven dead. Returns how to stop; that closes the peer's pidfd. */
export function watchDeath(native: Native, peer: Peer, onDeath: () => void): () => void {
  if (peer.pidfd < 0) return pollDeath(peer, onDeath)
  const watcher = native.watch(peer.pidfd, onDeath)
  watcher.unref()
  return () => {
    watcher.close()
    peer.closePidfd()
  }
}

/** Without pidfds (before Linux 5.3). */
function pollDeath({ credentials }: Peer, onDeath: () => void): () => void {
  const timer = setInterval(() => isAlive(credentials.pid) || onDeath(), POLL_MS).unref()
  return () => clearInterval(timer)
}

const POLL_MS = 100
