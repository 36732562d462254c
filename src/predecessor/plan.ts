import type { Socket } from 'node:net'
import type { Canary, HandoverMode } from '../channel/messages.js'
import type { Installation } from '../installation.js'
import { freeze, type Scope } from './freeze.js'

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

/** Which connections are a canary: such as could move now and have nothing under way, so that those that nothing is done to can be told later. */
export function chooseCanaries(installation: Installation, claimed: Scope['claimed'], { connections }: Canary): Set<Socket> {
  const everything = { whyUnmigratable: () => undefined, only: undefined, limit: Number.POSITIVE_INFINITY, more: 0, isRehearsal: true }
  const quiet = freeze(installation, { ...everything, claimed }).moving.filter(
    ({ socket }) => socket.writableLength === 0 && socket.readableLength === 0,
  )
  return new Set(quiet.slice(0, connections).map(({ socket }) => socket))
}

/** Connections in the first transaction of a rolling handover, and in each that follows. */
const CANARY = 64
export const BATCH = 128

/** Up to here one transaction is the better choice (DESIGN section 5). */
const ATOMIC_CONNECTIONS = 20_000
const ATOMIC_BYTES = 64 * 1024 * 1024
