import type { Socket } from 'node:net'
import { TsunagiError } from '../errors.js'
import { type Account, accountOf, openAccount } from '../handover/account.js'
import type { Installation } from '../installation.js'
import {
  acceptConnections,
  adoptListener,
  type Detached,
  deadSocket,
  declineConnections,
  detach,
  learnOwnerSymbol,
  pendingWriteCallbacks,
  reattach,
  resumeTimeout,
  serverFdOf,
  serverHandleOf,
  setServerHandle,
  stopReceiving,
  type TcpConstructor,
  type TcpHandle,
} from '../native/net-internals.js'
import type { LateSink, Left } from '../protocols/protocol.js'
import { stopListening } from './drain.js'
import type { Frozen } from './freeze.js'
import { becomeMoved, unbecomeMoved } from './moved-socket.js'
import type { Snapshot } from './snapshot.js'

/** What was sent and acked. */
export interface Handed {
  readonly frozen: Frozen
  readonly snapshot: Snapshot
  /** Connections, by index, that did not move after all: this side or the successor found a reason. */
  readonly kept: ReadonlyMap<number, string>
  readonly copies: Copies
}

/** Descriptors of what has to be closed at commit and may have to be taken back: of the listeners in order, and of connections with a write in flight, by index. */
export interface Copies {
  readonly listeners: readonly number[]
  readonly connections: ReadonlyMap<number, number>
}

/** What the predecessor still holds of what it has handed over, until the successor has resumed: one reference to each, and how to put it together again. */
export interface Released extends Handed {
  readonly connections: Map<number, ReleasedConnection>
  /** How its UDP sockets receive again. */
  readonly datagrams: (() => void)[]
  readonly listeners: { fd: number; tcp: TcpConstructor; onconnection: unknown }[]
}

export interface ReleasedConnection {
  readonly socket: Socket
  readonly detached: Detached
  /** What its protocol has done to the objects that the application holds. */
  readonly left: Left
  /** Where the handle had to be closed at once. */
  readonly again: { fd: number; unsent: Uint8Array; before: Account } | undefined
}

/** Before the commit, after which nothing may fail. Its inverse is `closeCopies`. */
export function copyDescriptors({ env: { native }, desk }: Installation, frozen: Frozen, snapshot: Snapshot, kept: Handed['kept']): Copies {
  const inFlight = [...snapshot.queued.keys()].filter((index) => !kept.has(index))
  const originals = [
    ...frozen.listeners.map(({ server }) => serverFdOf(server)),
    ...inFlight.map((index) => frozen.moving[index]?.fd as number),
  ]
  const copies: number[] = []
  try {
    desk.reserve.lend(originals.length, () => {
      for (const fd of originals) copies.push(native.duplicateFd(fd))
    })
  } catch (cause) {
    native.closeFds(Int32Array.from(copies))
    throw new TsunagiError(
      'ERR_TSUNAGI_FD_LIMIT',
      `The handover needs ${originals.length} more descriptors, and this process may open no more (RLIMIT_NOFILE): let some connections end first.`,
      { phase: 'commit', serving: true, cause },
    )
  }
  const listeners = copies.splice(0, frozen.listeners.length)
  return { listeners, connections: new Map(inFlight.map((index, i) => [index, copies[i] as number])) }
}

export function closeCopies({ env }: Installation, { listeners, connections }: Copies): void {
  env.native.closeFds(Int32Array.from([...listeners, ...connections.values()]))
}

/**
 * Right after commit, in the same block: makes every moved connection silent, and stops this process from reading, writing or accepting on it.
 * Its inverse is `takeBack`; `letGo` ends the possibility of that.
 */
export function release(installation: Installation, handed: Handed, sinkFor: (index: number) => LateSink): Released {
  const { frozen, snapshot, kept, copies } = handed
  const { native } = installation.env
  native.stopReading(snapshot.fds.filter((_, index) => !kept.has(index)))
  const standIn = deadSocket()
  const connections = new Map<number, ReleasedConnection>()
  frozen.moving.forEach(({ socket, protocol }, index) => {
    if (kept.has(index)) return
    if (socket.timeout) socket.setTimeout(0)
    const unsent = snapshot.queued.get(index)
    const before = unsent ? accountOf(socket) : NOTHING
    const detached = detach(socket, standIn)
    const left = protocol.leave(socket, sinkFor(index))
    becomeMoved(socket, left.socketSink, detached)
    const again = unsent && { fd: copies.connections.get(index) as number, unsent, before }
    if (again) detached.handle.close() // else libuv would go on writing what has moved
    connections.set(index, { socket, detached, left, again })
  })
  const listeners = frozen.listeners.map(({ server, path }, i) => {
    const handle = serverHandleOf(server) as TcpHandle & { onconnection: unknown }
    if (path) native.disclaimPipePath(handle.fd) // or closing it would unlink the path under the successor
    learnOwnerSymbol(handle)
    const listener = { fd: copies.listeners[i] as number, tcp: handle.constructor, onconnection: handle.onconnection }
    handle.close()
    setServerHandle(server, null)
    return listener
  })
  for (const { server } of frozen.shared) declineConnections(server)
  return { ...handed, connections, listeners, datagrams: [...frozen.datagrams.values()].map(stopReceiving) }
}

/** The successor has resumed: drops the last references, and tells those who waited that their bytes are on their way. */
export function letGo(installation: Installation, { frozen, connections, listeners }: Released): void {
  stopListening(frozen.shared)
  const callbacks: ((error?: Error | null) => void)[] = []
  const bare = listeners.map(({ fd }) => fd)
  for (const { detached, left, again } of connections.values()) {
    for (const callback of pendingWriteCallbacks(detached)) callbacks.push(callback) // there may be more than a call has arguments
    left.letGo()
    if (again) bare.push(again.fd)
    else detached.handle.close()
  }
  installation.env.native.closeFds(Int32Array.from(bare))
  // As Node would, from a tick of their own: what one of them throws is the application's.
  for (const callback of callbacks) process.nextTick(callback, null)
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
  for (const { server } of released.frozen.shared) acceptConnections(server)
  for (const receive of released.datagrams) receive()
  for (const [index, { socket, detached, left, again }] of released.connections) {
    unbecomeMoved(socket)
    const isLost = started.has(index)
    // What libuv still held was the dead process's to send: of a connection that it has touched nobody knows how far it came.
    if (again) openAccount(socket, again.before)
    reattach(socket, detached, again && isLost ? { ...again, unsent: new Uint8Array() } : again)
    left.takeBack()
    if (isLost) socket.destroy()
  }
  for (const [index, full, remaining] of released.snapshot.record.timeouts) {
    const socket = released.connections.get(index)?.socket
    if (socket && !started.has(index)) resumeTimeout(socket, full, remaining)
  }
  installation.survival?.begin()
}

const NOTHING: Account = { consumed: 0, produced: 0 }
