import type { Socket } from 'node:net'
import type { Installation } from '../installation.js'
import {
  adoptListener,
  type Detached,
  deadSocket,
  detach,
  learnOwnerSymbol,
  pendingWriteCallbacks,
  reattach,
  serverHandleOf,
  setServerHandle,
  type TcpConstructor,
  type TcpHandle,
} from '../native/net-internals.js'
import type { Frozen } from './freeze.js'
import { becomeMoved, type LateSink, unbecomeMoved } from './moved-socket.js'
import type { Snapshot } from './snapshot.js'

/** What was sent and acked. */
export interface Handed {
  readonly frozen: Frozen
  readonly snapshot: Snapshot
  /** Connections, by index, that did not move after all: this side or the successor found a reason. */
  readonly kept: ReadonlyMap<number, string>
}

/** What the predecessor still holds of what it has handed over, until the successor has resumed: one reference to each, and how to put it together again. */
export interface Released extends Handed {
  readonly connections: Map<number, ReleasedConnection>
  readonly listeners: { fd: number; tcp: TcpConstructor; onconnection: unknown }[]
}

interface ReleasedConnection {
  readonly socket: Socket
  readonly detached: Detached
  /** Where the handle had to be closed at once. */
  readonly again: { fd: number; unsent: Uint8Array } | undefined
}

/**
 * Right after commit, in the same block: makes every moved connection silent, and stops this process from reading, writing or accepting on it.
 * Its inverse is `takeBack`; `letGo` ends the possibility of that.
 */
export function release(installation: Installation, handed: Handed, sinkFor: (index: number) => LateSink): Released {
  const { frozen, snapshot, kept } = handed
  const { native } = installation.env
  native.stopReading(snapshot.fds.filter((_, index) => !kept.has(index)))
  const standIn = deadSocket()
  const connections = new Map<number, ReleasedConnection>()
  frozen.moving.forEach(({ socket, fd }, index) => {
    if (kept.has(index)) return
    if (socket.timeout) socket.setTimeout(0)
    const unsent = snapshot.queued.get(index)
    const detached = detach(socket, standIn)
    becomeMoved(socket, sinkFor(index), detached)
    const again = unsent && { fd: native.duplicateFd(fd), unsent }
    if (again) detached.handle.close() // else libuv would go on writing what has moved
    connections.set(index, { socket, detached, again })
  })
  const listeners = frozen.listeners.map(({ server, path }) => {
    const handle = serverHandleOf(server) as TcpHandle & { onconnection: unknown }
    if (path) native.disclaimPipePath(handle.fd) // or closing it would unlink the path under the successor
    learnOwnerSymbol(handle)
    const listener = { fd: native.duplicateFd(handle.fd), tcp: handle.constructor, onconnection: handle.onconnection }
    handle.close()
    setServerHandle(server, null)
    return listener
  })
  return { ...handed, connections, listeners }
}

/** The successor has resumed: drops the last references, and tells those who waited that their bytes are on their way. */
export function letGo(installation: Installation, { connections, listeners }: Released): void {
  const callbacks: ((error?: Error | null) => void)[] = []
  const bare = listeners.map(({ fd }) => fd)
  for (const { detached, again } of connections.values()) {
    callbacks.push(...pendingWriteCallbacks(detached))
    if (again) bare.push(again.fd)
    else detached.handle.close()
  }
  installation.env.native.closeFds(Int32Array.from(bare))
  for (const callback of callbacks) callback(null)
}

/**
 * The successor is dead and had not resumed. What it had not started is served on here as if nothing had happened; what it may have
 * touched cannot be vouched for and is destroyed, with the events that the application expects of a lost connection.
 */
export function takeBack(installation: Installation, released: Released, started: ReadonlySet<number>): void {
  // Order matters: a server without a listener takes the end of its last connection for its own, and says 'close'.
  released.frozen.listeners.forEach(({ server, backlog, path }, i) => {
    const { fd, tcp, onconnection } = released.listeners[i] as Released['listeners'][number]
    const handle = adoptListener(tcp, fd, server, onconnection)
    setServerHandle(server, handle)
    handle.listen(backlog)
    if (path) installation.env.native.claimPipePath(handle.fd, path)
  })
  for (const [index, { socket, detached, again }] of released.connections) {
    unbecomeMoved(socket)
    const isLost = started.has(index)
    // What libuv still held was the dead process's to send: of a connection that it has touched nobody knows how far it came.
    reattach(socket, detached, again && isLost ? { ...again, unsent: new Uint8Array() } : again)
    if (isLost) socket.destroy()
  }
}
