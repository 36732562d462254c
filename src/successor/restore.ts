import type { Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import { type DecodedGraph, decodeGraph } from '../carry/decode-graph.js'
import { parseRootKey } from '../carry/root-key.js'
import { type BlobField, CONNECTION_FLAG, NO_SERVER } from '../channel/messages.js'
import type { TsunagiError } from '../errors.js'
import type { Installation } from '../installation.js'
import { VERIFY_COLUMN, VERIFY_COLUMNS } from '../native/native.js'
import { createParkedSocket, tcpConstructor } from '../native/net-internals.js'
import type { Arrived } from './receive.js'

/** One connection, checked, with its socket made but not yet opened: nothing of it has been touched. */
export interface RestoredConnection {
  readonly index: number
  readonly fd: number
  readonly socket: Socket
  readonly attached: AttachedServer | undefined
  readonly flags: number
  readonly unread: Uint8Array[]
  readonly unsent: Uint8Array[]
  timeout: { full: number; remaining: number } | undefined
  readonly readable: boolean
}

export interface Restored {
  readonly connections: RestoredConnection[]
  readonly refused: Map<number, string>
  readonly graph: DecodedGraph | undefined
  readonly unclaimedState: string[]
}

/**
 * Data and descriptors become sockets: every descriptor is checked against its record, the carried graph decoded and migrated. A connection that
 * does not fit is refused alone; what concerns all of them throws. Nothing that the application holds has changed when this returns.
 */
export function restore(
  installation: Installation,
  { record, segments, fds }: Arrived,
  servers: ReadonlyMap<string, AttachedServer>,
): Restored {
  const refused = new Map<number, string>()
  const figures = installation.env.native.inspectTcp(Int32Array.from(fds))
  const column = {
    server: new Uint16Array(aligned(record.server)),
    flags: new Uint16Array(aligned(record.flags)),
    verify: new Float64Array(aligned(record.verify)),
  }
  for (const [index, feature] of record.required) refused.set(index, `it needs "${feature}", which this version does not know`)

  const tcp = tcpConstructor()
  const connections: RestoredConnection[] = []
  const byIndex = new Map<number, RestoredConnection>()
  const highWaterMarks = new Map(
    record.highWaterMarks.map(([index, readable, writable]) => [
      index,
      { readableHighWaterMark: readable, writableHighWaterMark: writable },
    ]),
  )
  fds.forEach((fd, index) => {
    const attached = servers.get(record.servers[column.server[index] as number] ?? '')
    const reason =
      refused.get(index) ??
      (attached || column.server[index] === NO_SERVER ? flawOf(figures, column.verify, index) : 'nobody listens on its address here')
    if (reason) {
      refused.set(index, reason)
      return
    }
    const flags = column.flags[index] as number
    const socket = createParkedSocket(tcp, {
      allowHalfOpen: (flags & CONNECTION_FLAG.allowHalfOpen) !== 0,
      noDelay: (flags & CONNECTION_FLAG.noDelay) !== 0,
      keepAlive: (flags & CONNECTION_FLAG.keepAlive) !== 0,
      ...highWaterMarks.get(index),
    })
    const connection = {
      index,
      fd,
      socket,
      attached,
      flags,
      unread: [],
      unsent: [],
      timeout: undefined,
      readable: (figures[index * VERIFY_COLUMNS + VERIFY_COLUMN.receiveQueue] as number) > 0,
    }
    connections.push(connection)
    byIndex.set(index, connection)
  })
  for (const [index, field] of record.unread) byIndex.get(index)?.unread.push(blob(field, segments))
  for (const [index, field] of record.unsent) byIndex.get(index)?.unsent.push(blob(field, segments))
  for (const [index, full, remaining] of record.timeouts) {
    const connection = byIndex.get(index)
    if (connection) connection.timeout = { full, remaining }
  }
  const unclaimedState: string[] = []
  const graph = record.graph.length > 0 ? restoreCarried(installation, record, servers, byIndex, refused, unclaimedState) : undefined
  return { connections: connections.filter(({ index }) => !refused.has(index)), refused, graph, unclaimedState }
}

/** The invariants that hold across a move. The descriptor is trusted, not the message: a mismatch means that they are not of one connection. */
function flawOf(figures: Float64Array, verify: Float64Array, index: number): string | undefined {
  const at = (column: number) => figures[index * VERIFY_COLUMNS + column] as number
  if (at(VERIFY_COLUMN.state) < 0) return 'its descriptor is not a TCP socket'
  if (at(VERIFY_COLUMN.state) === TCP_CLOSE) return 'it was reset meanwhile'
  if (at(VERIFY_COLUMN.addresses) !== verify[3 * index + 2]) return 'its descriptor has other addresses than its record'
  if (at(VERIFY_COLUMN.consumed) !== verify[3 * index]) return 'bytes were read from it meanwhile'
  if (at(VERIFY_COLUMN.produced) !== verify[3 * index + 1]) return 'bytes were written to it meanwhile'
  return undefined
}

/** Decodes and migrates. A value of one connection that cannot be migrated refuses that connection, one of a server the whole handover. */
function restoreCarried(
  { carried }: Installation,
  record: Arrived['record'],
  servers: ReadonlyMap<string, AttachedServer>,
  byIndex: ReadonlyMap<number, RestoredConnection>,
  refused: Map<number, string>,
  unclaimedState: string[],
): DecodedGraph {
  const serverOf = (index: number) => servers.get(record.servers[index] ?? '')
  for (;;) {
    try {
      const graph = decodeGraph(record.graph, {
        resolve: (index) => (refused.has(index) ? undefined : byIndex.get(index)?.socket),
        declared: (key) => {
          const root = parseRootKey(key)
          if (root === undefined) return undefined
          if (root.scope === 'server') {
            const attached = serverOf(root.index)
            const present = attached && carried.serverDefinition(attached.server, root.name)
            return (
              present && { version: present.version, live: present.value as never, ...(present.migrate && { migrate: present.migrate }) }
            )
          }
          const definition = refused.has(root.index) ? undefined : carried.definition(root.name)
          return definition && { version: definition.version, ...(definition.migrate && { migrate: definition.migrate }) }
        },
      })
      for (const [key, { value, version }] of graph.roots) {
        const root = parseRootKey(key)
        if (root?.scope === 'connection') {
          const connection = byIndex.get(root.index)
          if (connection && !refused.has(root.index)) carried.arrive(connection.socket, root.name, { version, value: value as object })
        } else if (root) {
          const attached = serverOf(root.index)
          if (!attached || !carried.serverDefinition(attached.server, root.name)) unclaimedState.push(root.name)
        }
      }
      return graph
    } catch (error) {
      const root = parseRootKey((error as { key?: string }).key ?? '')
      if (root?.scope !== 'connection' || refused.has(root.index) || refused.size > MAX_REFUSED_BY_MIGRATE) throw error
      refused.set(root.index, (error as TsunagiError).message)
    }
  }
}

function blob(field: BlobField, segments: readonly Uint8Array[]): Uint8Array {
  return typeof field === 'number' ? (segments[field] as Uint8Array) : field
}

/** Typed columns need an aligned buffer of their own; the record's bytes lie anywhere. */
function aligned(bytes: Uint8Array): ArrayBuffer {
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer
}

/** @note include/net/tcp_states.h. */
const TCP_CLOSE = 7
/** Each refusal decodes the graph again: past this many it is the code that is wrong, not the connections. */
const MAX_REFUSED_BY_MIGRATE = 16
