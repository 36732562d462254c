import type { Transfer } from './record.js'
import type { Come, Inquiry, Reload, Reloaded, Save, Saved, Status } from './tool-messages.js'

/**
 * Every message of the conversation, as one union. Fields are only ever appended; the version in `hello`/`welcome` says what may be used.
 *
 *   successor                         predecessor
 *   hello ──────────────────────────▶           who asks, for which address
 *         ◀────────────────────────── welcome   + the listener's fd   (or refused)
 *   claim ──────────────────────────▶           one more address of the same process
 *         ◀────────────────────────── listener  + its fd              (or listener without one)
 *   ready ──────────────────────────▶           booted; which state versions it can take
 *         ◀────────────────────────── ahead …   where thousands are to come: copies of their descriptors while they are served on,
 *   landed ─────────────────────────▶           batch by batch   (and `ended` for each that ends before the freeze)
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
 *   Where `ready` asks for a canary, the first `prepare` says for how long it is watched, and the predecessor serves on after `resumed`:
 *   well … gone ────────────────────▶           it lives; which of those connections have ended
 *   ready ──────────────────────────▶           it is well: now the listeners and the rest, as ever
 *   come ───────────────────────────▶           or it is not: the predecessor says hello to it, and takes them back as its successor would
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
  | Ahead
  | Landed
  | Ended
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
  | Well
  | Gone

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
  /** What it wishes; absent from a version that knows nothing of it. */
  canary?: Canary
  /** Whether it takes descriptors ahead of the freeze. */
  ahead: boolean
}

/** A first transaction of a few connections without the listeners, which the predecessor gets back if the successor is not well in the time after it. */
export interface Canary {
  /** At most; 0: none. */
  connections: number
  /** Milliseconds for which it is watched. */
  watch: number
}

/** Copies of descriptors whose connections are served on: the first message has none, and says how many connections there are. Each is answered by `landed`. */
export interface Ahead {
  type: 'ahead'
  connections: number
  count: number
}

export interface Landed {
  type: 'landed'
}

/** The connection at this place among those that went ahead has ended. */
export interface Ended {
  type: 'ended'
  place: number
}

/** One transaction for all connections, or the listeners with a few first and the rest in batches; 'auto': by number and bytes pending. */
export type HandoverMode = 'auto' | 'atomic' | 'rolling'

/** What the next transaction is about: the first has the listeners, each is answered by `go`. */
export interface Prepare {
  type: 'prepare'
  connections: number
  bytes: number
  /** This is the canary, watched for as many milliseconds. */
  watch?: number
}

export interface Go {
  type: 'go'
}

/** One batch of descriptors, at most 252. An empty one says that the server stands still from here on: what went ahead does not change any more. */
export interface Fds {
  type: 'fds'
  count: number
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

/** While a canary is watched. */
export interface Well {
  type: 'well'
}

/** Connections of the canary that have ended in the successor: the predecessor's reference would keep them open. */
export interface Gone {
  type: 'gone'
  connections: number[]
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
  /**
   * The process has not left but crashed: no record follows, only descriptors and `left`, and behind those of the listeners comes one of the memory in which
   * it kept account (survive/ledger.ts). A row has that many bytes, which only ever become more, and names a server by its place in this list of address keys.
   */
  ledger?: { rowBytes: number; servers: string[] }
  /** Keys of servers whose listener is the cluster's primary's: there are only connections of them. */
  shared: string[]
  /** The cluster worker's slot that it was left in, '' for a process of its own. */
  slot: string
  /** Keys of UDP sockets, whose descriptors come behind those of the listeners. */
  datagrams: string[]
}

/** Descriptors in one message. @note SCM_MAX_FD is 253 (linux/net/scm.h); HAProxy uses 252 as well. */
export const MAX_FDS_PER_MESSAGE = 252
