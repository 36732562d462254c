import type { Server, Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import type { MoveKind } from '../move-rule.js'
import { resumeTimeout } from '../native/net-internals.js'

/**
 * What one protocol knows about moving its connections. One object per protocol and process; it never talks to the channel and never sees a descriptor.
 *
 *   predecessor                                    successor
 *   knows · obstacleOf · watch · drain             refuse       before the commit
 *   snapshot                                       adopt        after it, in place of 'connection'
 *   leave → takeBack | letGo                       late         what the application of the predecessor still does
 *
 * Its one rule: up to `leave` it only looks. Everything that `snapshot` says is plain data (what msgpack knows), since the other process may be newer or older.
 */
export interface Protocol {
  /** Its name in the record: permanent. */
  readonly name: string
  /** What `TSUNAGI_MOVE` calls its connections; `undefined`: they hold nothing of the application and move without being asked for. */
  readonly kind: MoveKind | undefined

  /** A library that it has to know of is loaded: gets ready to learn of its objects. What else has to be seen from the begin is in attend.ts. */
  prepare?(): void

  /** A successor boots: what has to be looked at until its freeze. Returns how to undo it, if it does not come to that. */
  arm?(attached: AttachedServer): () => void

  // ---- in the predecessor

  /** Whether this connection is of this protocol now. The first protocol that says so has it. */
  knows(socket: Socket, attached: AttachedServer | undefined): boolean
  /** `undefined`: it is at a boundary and can move now. */
  obstacleOf(socket: Socket): Obstacle | undefined
  /**
   * Its obstacle was one that passes: calls back, perhaps more than once, when it may have done so; not from within the application's code.
   * Returns how to stop that.
   */
  watch(socket: Socket, onPassed: () => void): () => void
  /** It stays for good: ends by itself as soon as that is polite, as in the best graceful shutdown. */
  drain(socket: Socket): void
  /** Whether the application has shown that it knows of handovers, by other means than `carry` and `isResumed` on the socket. */
  hasAsked?(socket: Socket): boolean
  /** What its connections pass on to each other within this process, which has to arrive before any of them moves. */
  readonly together?: Together
  /** What goes along besides what every socket has. Nothing is changed. */
  snapshot(socket: Socket): ProtocolSnapshot | undefined
  /** After the commit, when the socket is silent already: `late` takes what the application goes on doing to this connection, in this protocol's terms. */
  leave(socket: Socket, late: LateSink): Left

  // ---- in the successor

  /** Why a connection with this state cannot go on at this server, which leaves it with the predecessor; `undefined`: it can. `state` is not to be trusted. */
  refuse(state: unknown, attached: AttachedServer | undefined): string | undefined
  /** Puts a connection into the application's server. What it throws closes that connection alone. */
  adopt(arrival: Arrival, state: unknown): void
  /** Applies what the predecessor's application still did, in order. */
  late(socket: Socket, late: LateAct): void
}

export interface Together {
  isInUse(): boolean
  /** Reading has been stopped. Calls back from a fresh macrotask, once all has arrived or it takes too long. */
  rest(onRest: () => void): void
}

/** Why a connection cannot move; `passes` where that ends by itself, and `watch` says so. */
export interface Obstacle {
  readonly reason: string
  readonly passes: boolean
}

export interface ProtocolSnapshot {
  /** Plain data for `refuse` and `adopt`. */
  readonly state: unknown
  /** Bytes that were read and that something other than the stream still holds: they precede what the socket has unread. */
  readonly held?: readonly Uint8Array[]
}

export type LateKind = 'write' | 'end' | 'destroy'

/** Something that the application of the predecessor did to a connection after it had moved. */
export interface LateAct {
  readonly kind: LateKind
  readonly data: Uint8Array
  /** What only the protocol understands, plain data: whether a message is text, a close code. */
  readonly detail?: unknown
}

/** Takes what the application of this process still does to a moved connection. */
export interface LateSink {
  late(kind: LateKind, data: Uint8Array, detail?: unknown): void
}

/** What a protocol has done to the objects that the application still holds. */
export interface Left {
  /** Gets what is written to the socket itself. */
  readonly socketSink: LateSink
  /** The successor has died: the connection is this process's again. Called once the socket is whole. */
  takeBack(): void
  /** The successor has resumed: what was kept for `takeBack` is let go. */
  letGo(): void
}

/** A connection in the successor that has not met the application yet: its unread bytes are in the stream, its unsent ones are being written. */
export interface Arrival {
  readonly socket: Socket
  readonly server: Server | undefined
  /** Milliseconds of `socket.setTimeout`, and what was left of them. */
  readonly timeout: { readonly full: number; readonly remaining: number } | undefined
  /** Runs the 'connection' handlers. What they write before they ask is discarded. */
  connect(): void
}

/** Of a protocol whose application objects need nothing but the socket. */
export function leaveNothing(socketSink: LateSink): Left {
  return { socketSink, takeBack() {}, letGo() {} }
}

/** Nobody may write there in this protocol: what still comes is of this process's own machinery, not of the application. */
export const DISCARD: LateSink = { late() {} }

/** A handler that sets the same timeout, as it did when the connection was new, does not mean to start it again. */
export function restoreTimeout({ socket, timeout }: Arrival): void {
  if (timeout && (!socket.timeout || socket.timeout === timeout.full)) resumeTimeout(socket, timeout.full, timeout.remaining)
}
