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
  /** Int32: its place among those that went ahead, -1 for one whose descriptor came after them. Absent where none went. */
  ahead?: Uint8Array
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
