import type { Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import { type DecodedGraph, decodeGraph } from '../carry/decode-graph.js'
import { nameOfRoot, parseRootKey } from '../carry/root-key.js'
import { type BlobField, CONNECTION_FLAG, NO_SERVER } from '../channel/record.js'
import type { TsunagiError } from '../errors.js'
import { aligned } from '../handover/aligned.js'
import type { Installation } from '../installation.js'
import { VERIFY_COLUMN } from '../native/native.js'
import { setHighWaterMarks } from '../native/net-internals.js'
import { repairWish } from '../options.js'
import type { Protocol } from '../protocols/protocol.js'
import { raw } from '../protocols/raw.js'
import type { Landing } from './landing.js'
import type { Arrived } from './receive.js'
import { compareFigures } from './second-witness.js'

/** One connection, checked and under a socket of ours, which has neither read nor written. */
export interface RestoredConnection {
  readonly index: number
  readonly socket: Socket
  readonly fd: number
  readonly attached: AttachedServer | undefined
  readonly protocol: Protocol
  readonly state: unknown
  readonly flags: number
  unread: Uint8Array[] | undefined
  unsent: Uint8Array[] | undefined
  timeout: { full: number; remaining: number } | undefined
  /** What the kernel says of it: see `Account`. */
  readonly consumed: number
  readonly produced: number
}

/** Where the descriptors come from: see holders/holder.ts. */
export interface Provenance {
  readonly failed: ReadonlyMap<number, string>
  readonly sameSockets: boolean
}

const FROM_PREDECESSOR: Provenance = { failed: new Map(), sameSockets: true }

export interface Restored {
  readonly connections: RestoredConnection[]
  /** Connections that stay with the predecessor because this side found fault with them. */
  readonly refused: Map<number, string>
  readonly graph: DecodedGraph | undefined
  readonly unclaimedState: string[]
}

/**
 * Data and descriptors become sockets: every descriptor is checked against its record, the carried graph decoded and migrated. A connection that
 * does not fit is refused alone; what concerns all of them throws. Nothing that the application holds has changed when this returns.
 */
export function restore(
  installation: Pick<Installation, 'carried' | 'protocols' | 'env'>,
  { record, segments, landing }: Arrived,
  servers: ReadonlyMap<string, AttachedServer>,
  { failed, sameSockets }: Provenance = FROM_PREDECESSOR,
): Restored {
  const refused = new Map<number, string>(failed)
  landing.inspectRest()
  if (record.repair && sameSockets && repairWish(installation.env.environment) === 'auto')
    for (const [index, flaw] of compareFigures(installation.env.native, record.repair, landing.fds)) refused.set(index, flaw)
  const column = {
    server: new Uint16Array(aligned(record.server)),
    flags: new Uint16Array(aligned(record.flags)),
    verify: new Float64Array(aligned(record.verify)),
  }
  const attachedServers = record.servers.map((key) => servers.get(key))
  for (const [index, feature] of record.required) {
    if (installation.protocols.named(feature) === undefined) refused.set(index, `it needs "${feature}", which this version does not know`)
  }
  const special = new Map(record.protocols.map(([index, name, state]) => [index, { protocol: installation.protocols.named(name), state }]))
  const plain = { protocol: raw, state: null }
  const byIndex: (RestoredConnection | undefined)[] = new Array(record.count)
  for (let index = 0; index < record.count; index++) {
    const flags = column.flags[index] as number
    if (flags & CONNECTION_FLAG.stays) {
      landing.drop(index) // the predecessor has found since that it cannot move
      continue
    }
    const server = column.server[index] as number
    const attached = attachedServers[server]
    const socket = landing.socket(index)
    const { protocol = raw, state } = special.get(index) ?? plain // an unknown one is required and refused by now
    const flaw =
      attached || server === NO_SERVER
        ? (flawOf(landing, sameSockets, column.verify, index) ?? protocol.refuse(state, attached))
        : 'nobody listens on its address here'
    if (flaw || socket === undefined || refused.has(index)) {
      if (!refused.has(index)) refused.set(index, flaw ?? 'its descriptor could not be used')
      continue
    }
    // The socket itself is left alone until it is resumed: looking up thousands of them in memory twice would take twice as long.
    byIndex[index] = {
      index,
      socket,
      fd: landing.fd(index),
      attached,
      protocol,
      state,
      flags,
      unread: undefined,
      unsent: undefined,
      timeout: undefined,
      consumed: landing.figure(index, VERIFY_COLUMN.consumed),
      produced: landing.figure(index, VERIFY_COLUMN.produced),
    }
  }
  fillIn(record, segments, byIndex)
  const unclaimedState: string[] = []
  const graph = record.graph.length > 0 ? restoreCarried(installation, record, servers, byIndex, refused, unclaimedState) : undefined
  const connections = byIndex.filter((connection) => connection !== undefined && !refused.has(connection.index)) as RestoredConnection[]
  return { connections, refused, graph, unclaimedState }
}

/** What only some connections have. */
function fillIn(record: Arrived['record'], segments: readonly Uint8Array[], byIndex: readonly (RestoredConnection | undefined)[]): void {
  for (const [index, field] of record.unread) {
    const connection = byIndex[index]
    if (connection === undefined) continue
    connection.unread ??= []
    connection.unread.push(blob(field, segments))
  }
  for (const [index, field] of record.unsent) {
    const connection = byIndex[index]
    if (connection === undefined) continue
    connection.unsent ??= []
    connection.unsent.push(blob(field, segments))
  }
  for (const [index, full, remaining] of record.timeouts) {
    const connection = byIndex[index]
    if (connection) connection.timeout = { full, remaining }
  }
  for (const [index, readable, writable] of record.highWaterMarks) {
    const connection = byIndex[index]
    if (connection) setHighWaterMarks(connection.socket, readable, writable)
  }
}

/** The invariants that hold across a move. The descriptor is trusted, not the message: a mismatch means that they are not of one connection. */
function flawOf(landing: Landing, sameSockets: boolean, verify: Float64Array, index: number): string | undefined {
  const state = landing.figure(index, VERIFY_COLUMN.state)
  if (state < 0) return 'its descriptor is not a TCP socket'
  if (!MOVABLE_STATES.has(state)) return 'it is already closing'
  if (!sameSockets) return undefined
  if (landing.figure(index, VERIFY_COLUMN.identity) !== verify[3 * index + 2]) return 'its descriptor is of another socket than its record'
  if (landing.figure(index, VERIFY_COLUMN.consumed) !== verify[3 * index]) return 'bytes were read from it meanwhile'
  if (landing.figure(index, VERIFY_COLUMN.produced) !== verify[3 * index + 1]) return 'bytes were written to it meanwhile'
  return undefined
}

/** Decodes and migrates. A value of one connection that cannot be migrated refuses that connection, one of a server the whole handover. */
function restoreCarried(
  { carried }: Pick<Installation, 'carried'>,
  record: Arrived['record'],
  servers: ReadonlyMap<string, AttachedServer>,
  byIndex: readonly (RestoredConnection | undefined)[],
  refused: Map<number, string>,
  unclaimedState: string[],
): DecodedGraph {
  const serverOf = (index: number) => servers.get(record.servers[index] ?? '')
  for (;;) {
    try {
      const graph = decodeGraph(record.graph, {
        name: nameOfRoot,
        resolve: (index) => (refused.has(index) ? undefined : byIndex[index]?.socket),
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
          const connection = byIndex[root.index]
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

/** @note include/net/tcp_states.h: ESTABLISHED 1, FIN_WAIT1 4, FIN_WAIT2 5, CLOSE_WAIT 8; in any other state the connection is over or not yet there. */
const MOVABLE_STATES = new Set([1, 4, 5, 8])
/** Each refusal decodes the graph again: past this many it is the code that is wrong, not the connections. */
const MAX_REFUSED_BY_MIGRATE = 16
