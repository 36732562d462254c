/**
 * Every message of the conversation, as one union. Fields are only ever appended; the version in `hello`/`welcome` says what may be used.
 *
 *   successor                         predecessor
 *   hello ──────────────────────────▶           who asks, for which address
 *         ◀────────────────────────── welcome   + the listener's fd   (or refused)
 *   claim ──────────────────────────▶           one more address of the same process
 *         ◀────────────────────────── listener  + its fd              (or listener without one)
 *   ready ──────────────────────────▶           booted; which state versions it can take
 *         ◀────────────────────────── prepare   how much is coming
 *   go ─────────────────────────────▶           "I sit in my receive loop"
 *         ◀────────────────────────── fds …     batches, in the order of the record, which is made meanwhile
 *         ◀────────────────────────── transfer  the record
 *   ack ────────────────────────────▶           checked, decoded, migrated; what was refused stays   (or nack)
 *         ◀────────────────────────── commit    from here the successor owns what it acked           (or abort)
 *   started … resumed ──────────────▶           how far it has come
 *         ◀────────────────────────── late …    writes of code that was still running
 *         ◀────────────────────────── prepare   again, as often as there are connections to follow
 *         ◀────────────────────────── left      the predecessor has drained
 *
 *   anybody of the same user          a process that serves
 *   inquiry ────────────────────────▶
 *         ◀────────────────────────── status    what it is, what would move, what would drain and why
 *   reload ─────────────────────────▶           asks it to start its new version
 *         ◀────────────────────────── reloaded  it serves   (or refused, with what the new version has printed as a segment)
 *   save ───────────────────────────▶           asks it to save its connections as data, and to end
 *         ◀────────────────────────── saved     where they are   (or refused: it serves on)
 *   come ───────────────────────────▶           a cluster worker that is disconnected asks a younger one, which says hello to it   (or refused)
 */

/** Versions of this conversation that this code speaks. */
export const PROTOCOL = { min: 1, max: 1 } as const

export type Message =
  | Hello
  | Welcome
  | Refused
  | Claim
  | Listener
  | Ready
  | Prepare
  | Go
  | Fds
  | Transfer
  | Ack
  | Nack
  | Commit
  | Abort
  | Started
  | Resumed
  | Late
  | Left
  | Inquiry
  | Status
  | Reload
  | Reloaded
  | Save
  | Saved
  | Bequest
  | Come

export type MessageType = Message['type']
export type MessageOf<T extends MessageType> = Extract<Message, { type: T }>

/** First message of a successor: nothing is sent to it before its uid and this were checked. */
export interface Hello {
  type: 'hello'
  protocolMin: number
  protocolMax: number
  pid: number
  /** Version of tsunagi and of Node, for messages to people. */
  version: string
  node: string
  /** Address key of the listener it wants (see rendezvous). */
  address: string
  /** What the process that asked for the reload gave this one, '' for a process that was started by itself. */
  token: string
}

export interface Welcome {
  type: 'welcome'
  protocol: number
  pid: number
  version: string
  node: string
  generation: number
}

/** The predecessor will not hand over; `code` is an error code, or `RELATED` for a process of the same family, which is answered as if nobody were there. */
export interface Refused {
  type: 'refused'
  code: string
  reason: string
}

export interface Claim {
  type: 'claim'
  address: string
}

/** Answer to `claim`; carries one fd when `found`. */
export interface Listener {
  type: 'listener'
  address: string
  found: boolean
}

/** What this code says about one carried name, so that versions are compared before anything is frozen. */
export interface StateDefinition {
  /** Address key of the server that carries it, or '' for what connections carry. */
  scope: string
  name: string
  version: number
  migrates: boolean
}

export interface Ready {
  type: 'ready'
  claimed: string[]
  states: StateDefinition[]
  mode: HandoverMode
}

/** One transaction for all connections, or the listeners with a few first and the rest in batches; 'auto': by number and bytes pending. */
export type HandoverMode = 'auto' | 'atomic' | 'rolling'

/** What the next transaction is about: the first has the listeners, each is answered by `go`. */
export interface Prepare {
  type: 'prepare'
  connections: number
  bytes: number
}

export interface Go {
  type: 'go'
}

/** One batch of descriptors, at most 252. */
export interface Fds {
  type: 'fds'
  count: number
}

/** Bytes of one connection: inline up to INLINE_BLOB, else the number of a raw segment of the same frame. */
export type BlobField = Uint8Array | number

/** The record; columns are little-endian arrays as bytes, one element a connection. */
export interface Transfer {
  type: 'transfer'
  count: number
  /** Number of this transaction's first connection among all that moved to this successor: late writes name connections by it. */
  base: number
  /** Connections that are to follow in further transactions. */
  more: number
  /** Address keys of the servers; `server` holds indexes into it. */
  servers: string[]
  /** Uint16: index into `servers`, NO_SERVER for a socket that came along with carried state. */
  server: Uint8Array
  /** Uint16: CONNECTION_FLAG bits. */
  flags: Uint8Array
  /** Float64 × 3: consumed, produced, identity. */
  verify: Uint8Array
  /** [connection, timeout ms, what remains of it ms] */
  timeouts: [number, number, number][]
  /** [connection, readable, writable] where they are not Node's default. */
  highWaterMarks: [number, number, number][]
  unread: [number, BlobField][]
  unsent: [number, BlobField][]
  /** The carried graph; empty where nothing is carried. */
  graph: Uint8Array
  /** [connection, feature] that the successor must know to take that connection. */
  required: [number, string][]
  /** [connection, name of its protocol, state] where that is not plain TCP; the state is plain data that only the protocol understands. */
  protocols: [number, string, unknown][]
  /** Of the first connections, as many as it has rows. Absent without CAP_NET_ADMIN and where there are many. */
  repair?: RepairFigures
}

/** What `glimpseConnections` told of connections, one row each; a row with a refusal says nothing. */
export interface RepairFigures {
  /** Float64, CONNECTION_COLUMNS or more for each: newer code may know more. */
  figures: Uint8Array
  tuples: Uint8Array
  names: string[]
}

export interface Ack {
  type: 'ack'
  /** Connections the successor did not take, with the reason. */
  refused: [number, string][]
}

export interface Nack {
  type: 'nack'
  code: string
  reason: string
}

export interface Commit {
  type: 'commit'
}

export interface Abort {
  type: 'abort'
  code: string
  reason: string
  /** Whether the predecessor will try again by itself after `ready`. */
  again: boolean
}

/** Every connection before this index (in resume order) may have been touched by the successor's application. */
export interface Started {
  type: 'started'
  connections: number[]
}

export interface Resumed {
  type: 'resumed'
}

/** A write, end or destroy by code of the predecessor that was still running at the freeze. The bytes are the frame's only segment. */
export interface Late {
  type: 'late'
  connection: number
  kind: 'write' | 'end' | 'destroy'
  /** What only the connection's protocol understands, plain data; null for none. */
  detail: unknown
}

export interface Left {
  type: 'left'
}

/** From `tsunagi status`: a process that wants to know, and takes nothing over. */
export interface Inquiry {
  type: 'inquiry'
}

/** How things stand in a process, as it would be frozen now. */
export interface Status {
  type: 'status'
  pid: number
  version: string
  node: string
  /** Its main module. */
  program: string
  /** TSUNAGI_NAME, '' without one. */
  name: string
  /** Seconds since it was started. */
  uptime: number
  generation: number
  state: 'serving' | 'taking over' | 'handing over' | 'retired'
  listeners: string[]
  /** Connections that would move now, by the rule that asks for it. */
  moving: [string, number][]
  /** Those that would not, by reason. */
  staying: [string, number][]
}

/** From a cluster worker that is disconnected: where it is to be found. */
export interface Come {
  type: 'come'
  address: string
}

/** From `tsunagi reload`. */
export interface Reload {
  type: 'reload'
  /** Milliseconds that the new version may take until it serves. */
  timeout: number
  /** Its environment: as the process has it now, or as it was started with. */
  env: 'current' | 'fresh'
}

export interface Reloaded {
  type: 'reloaded'
  successor: number
  generation: number
  /** Connections that have moved so far, and those that stay, by reason. */
  moved: number
  staying: [string, number][]
}

/** From `tsunagi snapshot`. */
export interface Save {
  type: 'save'
}

export interface Saved {
  type: 'saved'
  /** The snapshot, which the next start of the address on this machine would restore. */
  file: string
  connections: number
  /** Those that could not be saved and end with the process, by reason. */
  ending: [string, number][]
}

/**
 * First of what a process leaves with a holder where no successor is there yet (see holders/holder.ts); in a keeper's tape it carries the listeners'
 * descriptors, in order. `fds` and `transfer` follow it.
 */
export interface Bequest {
  type: 'bequest'
  pid: number
  generation: number
  /** Version of tsunagi and of Node, for messages to people. */
  version: string
  node: string
  /** When it was made, ms since 1970. */
  leftAt: number
  /** Connections in the record that follows. */
  connections: number
  listeners: { key: string; path: string; backlog: number }[]
}

/** Bits of the `flags` column. */
export const CONNECTION_FLAG = {
  allowHalfOpen: 1,
  /** end() was called: after the unsent bytes the successor ends. */
  writableEnded: 2,
  /** The application has seen 'end': it is not told again. */
  endEmitted: 4,
  noDelay: 8,
  keepAlive: 16,
  /** The application is waiting for 'drain'. */
  needDrain: 32,
  unreferenced: 64,
  /** Its descriptor was sent before it turned out that it cannot move: the predecessor keeps it. */
  stays: 128,
  /** The peer has ended its stream, and the kernel's socket, which was made again, does not know it: after the unread bytes the stream ends. */
  peerEnded: 256,
} as const

/** Reference in the carried graph to a socket that did not come along. */
export const ABSENT_SOCKET = 0xffffffff
export const NO_SERVER = 0xffff
/** Blobs up to this many bytes travel inside the record, larger ones as raw segments (measured: 8 ms/MB through msgpack, 0.8 ms/MB raw). */
export const INLINE_BLOB = 16 * 1024
/** Descriptors in one message. @note SCM_MAX_FD is 253 (linux/net/scm.h); HAProxy uses 252 as well. */
export const MAX_FDS_PER_MESSAGE = 252
