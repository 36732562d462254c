import type { HandoverMode } from '../channel/messages.js'
import type { Installation } from '../installation.js'

/**
 * How many connections the first transaction takes. Atomic: all. Rolling: the listeners with a canary batch, the rest in batches with a commit
 * each; then no client waits for more than one batch, but for a while two processes serve. Server-wide state cannot be in two processes.
 */
export function plan({ finder, servers, carried }: Installation, mode: HandoverMode): number {
  if (mode === 'atomic' || carried.hasServerState([...servers].map(({ server }) => server))) return Number.POSITIVE_INFINITY
  if (mode === 'rolling') return CANARY
  let connections = 0
  let pending = 0
  for (const sockets of finder.find(servers).values()) {
    connections += sockets.length
    for (const socket of sockets) pending += socket.writableLength + socket.readableLength
  }
  return connections > ATOMIC_CONNECTIONS || pending > ATOMIC_BYTES ? CANARY : Number.POSITIVE_INFINITY
}

/** Connections in the first transaction of a rolling handover, and in each that follows. */
const CANARY = 64
export const BATCH = 128

/** Up to here one transaction is the better choice (DESIGN section 5). */
const ATOMIC_CONNECTIONS = 20_000
const ATOMIC_BYTES = 64 * 1024 * 1024
