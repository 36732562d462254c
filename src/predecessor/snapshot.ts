import { Socket } from 'node:net'
import type { CarriedRoot } from '../carry/encode-graph.js'
import { encodeGraph } from '../carry/encode-graph.js'
import { connectionRootKey, nameOfRoot, serverRootKey } from '../carry/root-key.js'
import { ABSENT_SOCKET, type BlobField, CONNECTION_FLAG, INLINE_BLOB, NO_SERVER, type Transfer } from '../channel/record.js'
import { type Account, accountOf } from '../handover/account.js'
import type { Installation } from '../installation.js'
import { type Native, VERIFY_COLUMN } from '../native/native.js'
import {
  bufferedWritesOf,
  bytesInFlight,
  endEmitted,
  fdOf,
  isUnreferenced,
  loopNow,
  needsDrain,
  optionsOf,
  remainingTimeoutOf,
  unreadOf,
} from '../native/net-internals.js'
import { raw } from '../protocols/raw.js'
import type { Frozen, MovingConnection } from './freeze.js'

/** Live sockets as data: the record and its raw segments. Nothing of it is touched again. */
export interface Snapshot {
  readonly record: Readonly<Transfer>
  readonly segments: readonly Uint8Array[]
  readonly fds: Int32Array
  /** What libuv still held of a write, by connection. */
  readonly queued: ReadonlyMap<number, Uint8Array>
  /** Connections, by index, that turned out not to be movable, with the reason. */
  readonly held: Map<number, string>
  readonly unreadBytes: number
  readonly unsentBytes: number
}

/**
 * Reads everything that has to go along. A connection that turns out not to be movable (its carried value holds a function) keeps
 * its place in the record and stays. Sockets that only carried state refers to join at the end of `frozen.moving`.
 */
export function snapshot(installation: Snapshotting, frozen: Frozen, base: number, more = 0): Snapshot {
  const held = new Map<number, string>()
  const graph = snapshotCarried(installation, frozen, held)
  return snapshotConnections(installation, frozen, { base, more }, graph, held)
}

/** What a snapshot needs of the installation. */
type Snapshotting = Pick<Installation, 'env' | 'carried'>

/** All carried values as one graph. Sockets inside it are references; those that are not ours yet, such as a proxy's upstream, join the move. */
function snapshotCarried({ carried }: Snapshotting, frozen: Frozen, held: Map<number, string>): Uint8Array {
  for (;;) {
    const roots: (CarriedRoot & { connection?: number })[] = []
    for (const attached of frozen.listeners) {
      for (const [name, { version, value }] of carried.ofServer(attached.server)) {
        roots.push({ key: serverRootKey(frozen.servers.indexOf(attached), name), version, value })
      }
    }
    if (carried.hasConnectionState)
      frozen.moving.forEach(({ socket }, index) => {
        if (held.has(index)) return
        for (const [name, { version, value }] of carried.everythingOf(socket)) {
          roots.push({ key: connectionRootKey(index, name), version, value, connection: index })
        }
      })
    if (roots.length === 0) return NOTHING
    const indexes = new Map<object, number>(frozen.moving.map(({ socket }, index) => [socket, held.has(index) ? ABSENT_SOCKET : index]))
    const { bytes, refused } = encodeGraph(roots, {
      maxBytes: MAX_CARRIED_BYTES,
      reference: (value) => (value instanceof Socket ? (indexes.get(value) ?? joinOrLeave(value, frozen, indexes)) : undefined),
      name: ({ key }) => nameOfRoot(key),
    })
    if (refused.length === 0) return bytes
    for (const { rootIndex, error } of refused) {
      const connection = roots[rootIndex]?.connection
      if (connection === undefined) throw error // server-wide state: the whole handover depends on it
      held.set(connection, error.message)
    }
  }
}

/** Index of a socket that carried state refers to: of one that moves along from now on, or of nobody for one that stays here. */
function joinOrLeave(socket: Socket, frozen: Frozen, indexes: Map<object, number>): number {
  const isAccepted = frozen.staying.some((connection) => connection.socket === socket)
  if (isAccepted || socket.destroyed || raw.obstacleOf(socket) !== undefined) return ABSENT_SOCKET
  const index = frozen.moving.push({ socket, fd: fdOf(socket), attached: undefined, protocol: raw, rule: 'carried state', place: -1 }) - 1
  indexes.set(socket, index)
  return index
}

function snapshotConnections(
  { env: { native } }: Snapshotting,
  frozen: Frozen,
  { base, more }: { base: number; more: number },
  graph: Uint8Array,
  held: Map<number, string>,
): Snapshot {
  const { moving, servers } = frozen
  const n = moving.length
  const fds = columnOf(moving, ({ fd }) => fd)
  const serverIndexes = new Map(servers.map((attached, index) => [attached, index]))
  const server = new Uint16Array(n)
  const flags = new Uint16Array(n)
  const timeouts: Transfer['timeouts'] = []
  const highWaterMarks: Transfer['highWaterMarks'] = []
  const protocols: Transfer['protocols'] = []
  const required: Transfer['required'] = []
  const unread = new Blobs()
  const unsent = new Blobs(unread.segments)
  const verify = new Float64Array(VERIFIED * n)
  const inFlight: number[] = []
  const unfinished: number[] = []
  const now = loopNow()
  const identities = identitiesOf(native, frozen)
  // One pass that looks at each of them once: what costs is the way of thousands of sockets from memory.
  moving.forEach(({ socket, attached, fd, protocol }, index) => {
    if (held.has(index)) {
      flags[index] = CONNECTION_FLAG.stays
      return
    }
    server[index] = attached ? (serverIndexes.get(attached) ?? NO_SERVER) : NO_SERVER
    flags[index] = flagsOf(socket)
    // Of a socket that this process has connected the kernel counts the SYN as well: it is asked itself.
    const { consumed, produced } = attached ? accountOf(socket) : inspect(native, fd)
    verify[VERIFIED * index] = consumed
    verify[VERIFIED * index + 1] = produced
    verify[VERIFIED * index + 2] = identities[index] as number
    if (socket.timeout) timeouts.push([index, socket.timeout, Math.round(remainingTimeoutOf(socket, now))])
    if (socket.readableHighWaterMark !== DEFAULT_HIGH_WATER_MARK || socket.writableHighWaterMark !== DEFAULT_HIGH_WATER_MARK) {
      highWaterMarks.push([index, socket.readableHighWaterMark, socket.writableHighWaterMark])
    }
    const special = protocol.snapshot(socket)
    if (protocol !== raw) {
      protocols.push([index, protocol.name, special?.state ?? null])
      required.push([index, protocol.name])
    }
    // Order matters: what a parser holds was read before what the stream still buffers.
    const bytes = unreadOf(socket)
    if (bytes || special?.held) unread.add(index, [...(special?.held ?? []), ...(bytes ? [bytes] : [])])
    const isInFlight = bytesInFlight(socket) > 0
    if (isInFlight) inFlight.push(index)
    if (isInFlight || socket.writableLength > 0) unfinished.push(index)
  })
  const queued = snapshotWriteQueues(native, fds, inFlight)
  // Order matters: what libuv holds was written before what the Writable still buffers.
  for (const index of unfinished) {
    unsent.add(index, [queued.get(index) ?? NOTHING, ...bufferedWritesOf((moving[index] as MovingConnection).socket)])
  }
  const { ahead } = frozen
  const record: Transfer = {
    type: 'transfer',
    count: n,
    base,
    more: frozen.waiting.length + more,
    servers: servers.map(({ key }) => key),
    server: bytesOf(server),
    flags: bytesOf(flags),
    verify: bytesOf(verify),
    timeouts,
    highWaterMarks,
    unread: unread.fields,
    unsent: unsent.fields,
    graph,
    required,
    protocols,
    ...(ahead && { ahead: bytesOf(columnOf(moving, ({ place }) => place)) }),
  }
  return { record, segments: unread.segments, fds, queued, held, unreadBytes: unread.bytes, unsentBytes: unsent.bytes }
}

/** What libuv holds of writes that the kernel has not taken, by connection: few have any. */
function snapshotWriteQueues(native: Native, fds: Int32Array, indexes: readonly number[]): Map<number, Uint8Array> {
  if (indexes.length === 0) return new Map()
  const queues = native.copyWriteQueues(Int32Array.from(indexes, (index) => fds[index] as number))
  return new Map(indexes.map((index, i) => [index, queues[i] as Uint8Array]))
}

/** CONNECTION_FLAG bits. */
export function flagsOf(socket: Socket): number {
  const { noDelay, keepAlive } = optionsOf(socket)
  let flags = 0
  if (socket.allowHalfOpen) flags |= CONNECTION_FLAG.allowHalfOpen
  if (socket.writableEnded) flags |= CONNECTION_FLAG.writableEnded
  if (endEmitted(socket)) flags |= CONNECTION_FLAG.endEmitted
  if (noDelay) flags |= CONNECTION_FLAG.noDelay
  if (keepAlive) flags |= CONNECTION_FLAG.keepAlive
  if (needsDrain(socket)) flags |= CONNECTION_FLAG.needDrain
  if (isUnreferenced(socket)) flags |= CONNECTION_FLAG.unreferenced
  return flags
}

/** Bytes by connection: small ones inside the record, large ones as segments beside it. */
class Blobs {
  readonly fields: [number, BlobField][] = []
  readonly segments: Uint8Array[]
  bytes = 0

  constructor(segments: Uint8Array[] = []) {
    this.segments = segments
  }

  add(index: number, pieces: readonly Uint8Array[]): void {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0)
    if (length === 0) return
    this.bytes += length
    if (length <= INLINE_BLOB) this.fields.push([index, pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces)])
    // Several entries for one connection are in order: large pieces are not copied, small ones are put together.
    else for (const piece of joinSmall(pieces)) this.fields.push([index, this.segments.push(piece) - 1])
  }
}

function* joinSmall(pieces: readonly Uint8Array[]): Iterable<Uint8Array> {
  let small: Uint8Array[] = []
  for (const piece of pieces) {
    if (piece.length <= INLINE_BLOB) {
      if (piece.length > 0) small.push(piece)
      continue
    }
    if (small.length > 0) yield Buffer.concat(small)
    small = []
    yield piece
  }
  if (small.length > 0) yield Buffer.concat(small)
}

function inspect(native: Native, fd: number): Account {
  const figures = native.inspectTcp(Int32Array.of(fd))
  return { consumed: figures[VERIFY_COLUMN.consumed] as number, produced: figures[VERIFY_COLUMN.produced] as number }
}

/** The kernel was asked for those that went ahead when they did. */
function identitiesOf(native: Native, { moving, ahead }: Frozen): Float64Array {
  const others = native.identities(columnOf(ahead ? notAhead(moving) : moving, ({ fd }) => fd))
  if (ahead === undefined) return others
  const identities = new Float64Array(moving.length)
  let next = 0
  moving.forEach(({ place }, index) => {
    identities[index] = place < 0 ? (others[next++] as number) : ahead.identityAt(place)
  })
  return identities
}

/** `Int32Array.from` asks an iterator for each, which is noticed with thousands. */
function columnOf(moving: readonly MovingConnection[], pick: (connection: MovingConnection) => number): Int32Array {
  const column = new Int32Array(moving.length)
  moving.forEach((connection, index) => {
    column[index] = pick(connection)
  })
  return column
}

/** Those whose descriptor is still to be sent. */
export function notAhead(moving: readonly MovingConnection[]): MovingConnection[] {
  return moving.filter(({ place }) => place < 0)
}

function bytesOf(column: Uint16Array | Int32Array | Float64Array): Uint8Array {
  return new Uint8Array(column.buffer, column.byteOffset, column.byteLength)
}

/** Doubles for each connection in the `verify` column. */
const VERIFIED = 3
const NOTHING = new Uint8Array()
/** Cap on all carried state of one handover, bytes. */
const MAX_CARRIED_BYTES = 64 * 1024 * 1024
/** @note Node's default for net.Socket: 64 KiB since 20 on Linux (lib/internal/streams/state.js); read from a socket of its own. */
const DEFAULT_HIGH_WATER_MARK = new Socket().readableHighWaterMark
