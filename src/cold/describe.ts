import { type BlobField, NO_SERVER } from '../channel/record.js'
import { aligned } from '../handover/aligned.js'
import { CONNECTION_COLUMN, CONNECTION_COLUMNS, TUPLE_BYTES } from '../native/repair.js'
import { QUEUES } from './dump.js'
import type { SnapshotBody, SnapshotHead } from './snapshot-data.js'

/** A snapshot for people and programs. No payload: only how much of it there is. */
export interface SnapshotDescription {
  /** ISO 8601. */
  readonly savedAt: string
  /** For how many seconds it may be restored, and its packets are held. */
  readonly holdSeconds: number
  /** The process that saved. */
  readonly pid: number
  readonly generation: number
  readonly tsunagi: string
  readonly node: string
  readonly namespace: string
  readonly listeners: readonly string[]
  /** Ports that are held as a whole, and how many connections by themselves. */
  readonly held: { readonly ports: readonly number[]; readonly connections: number }
  readonly carriedBytes: number
  readonly connections: readonly ConnectionDescription[]
}

export interface ConnectionDescription {
  readonly local: string
  readonly peer: string
  readonly state: string
  /** Address of the listener that accepted it, '' for one that this process has opened. */
  readonly listener: string
  readonly family: 'IPv4' | 'IPv6'
  /** Bytes that the application had not read: in Node, in the kernel. */
  readonly unread: { readonly node: number; readonly kernel: number }
  /** Bytes that the application had written: not sent, in Node and in the kernel, and sent but not acknowledged. */
  readonly unsent: { readonly node: number; readonly kernel: number }
  readonly unacknowledged: number
  /** Why it could not be saved. */
  readonly refused?: string
}

/** What a connection held, in the order of the streams. */
export interface Payload {
  /** Read by the kernel or Node, and not by the application. */
  readonly unread: Buffer
  /** Written by the application and not acknowledged by the peer. */
  readonly written: Buffer
}

export function describeSnapshot(head: SnapshotHead, body: SnapshotBody): SnapshotDescription {
  const { bequest, holdMs, namespace, ports, tuples } = head
  return {
    savedAt: new Date(bequest.leftAt).toISOString(),
    holdSeconds: holdMs / 1000,
    pid: bequest.pid,
    generation: bequest.generation,
    tsunagi: bequest.version,
    node: bequest.node,
    namespace,
    listeners: bequest.listeners.map(({ key }) => key),
    held: { ports, connections: tuples.length / TUPLE_BYTES },
    carriedBytes: body.record.graph.length,
    connections: Array.from({ length: body.record.count }, (_, index) => describeConnection(body, index)),
  }
}

export function payloadOf({ record, segments, figures, queues }: SnapshotBody, index: number): Payload {
  let at = 0
  for (let row = 0; row < index; row++) at += queueBytes(figures, row).reduce((sum, bytes) => sum + bytes, 0)
  const [received, sent, unsent] = queueBytes(figures, index)
  return {
    unread: Buffer.concat([...blobsOf(record.unread, segments, index), queues.subarray(at, at + received)]),
    written: Buffer.concat([queues.subarray(at + received, at + received + sent + unsent), ...blobsOf(record.unsent, segments, index)]),
  }
}

function describeConnection(body: SnapshotBody, index: number): ConnectionDescription {
  const { record, segments, figures, tuples, refused } = body
  const figure = (column: number) => figures[index * CONNECTION_COLUMNS + column] as number
  const tuple = tuples.subarray(index * TUPLE_BYTES, (index + 1) * TUPLE_BYTES)
  const server = new Uint16Array(aligned(record.server))[index] as number
  const [received, sent, unsent] = queueBytes(figures, index)
  const reason = refused.get(index)
  return {
    local: endText(tuple.subarray(0, 18)),
    peer: endText(tuple.subarray(18)),
    state: STATES[figure(CONNECTION_COLUMN.state)] ?? 'unknown',
    listener: server === NO_SERVER ? '' : (record.servers[server] ?? ''),
    family: figure(CONNECTION_COLUMN.family) === AF_INET ? 'IPv4' : 'IPv6',
    unread: { node: bytesOf(record.unread, segments, index), kernel: received },
    unsent: { node: bytesOf(record.unsent, segments, index), kernel: unsent },
    unacknowledged: sent,
    ...(reason && { refused: reason }),
  }
}

function queueBytes(figures: Float64Array, index: number): [number, number, number] {
  return QUEUES.map((column) => figures[index * CONNECTION_COLUMNS + column] as number) as [number, number, number]
}

function blobsOf(fields: readonly [number, BlobField][], segments: readonly Uint8Array[], index: number): Uint8Array[] {
  return fields.filter(([of]) => of === index).map(([, field]) => (typeof field === 'number' ? (segments[field] as Uint8Array) : field))
}

function bytesOf(fields: readonly [number, BlobField][], segments: readonly Uint8Array[], index: number): number {
  return blobsOf(fields, segments, index).reduce((sum, { length }) => sum + length, 0)
}

/** One end of a tuple: 16 bytes of address, IPv4 in mapped form, and the port, in network order. */
function endText(end: Uint8Array): string {
  const port = ((end[16] as number) << 8) | (end[17] as number)
  if (Buffer.from(end.subarray(0, 12)).equals(MAPPED)) return `${end.subarray(12, 16).join('.')}:${port}`
  const groups = Array.from({ length: 8 }, (_, i) => (((end[2 * i] as number) << 8) | (end[2 * i + 1] as number)).toString(16))
  return `${new URL(`http://[${groups.join(':')}]`).hostname}:${port}`
}

const MAPPED = Buffer.from('00000000000000000000ffff', 'hex')
const AF_INET = 2
/** @note include/net/tcp_states.h */
const STATES: Record<number, string> = { 1: 'ESTABLISHED', 4: 'FIN_WAIT1', 5: 'FIN_WAIT2', 8: 'CLOSE_WAIT' }
