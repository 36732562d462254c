import { addressName, networkNamespace } from '../../../src/channel/rendezvous.js'
import type { SnapshotBody, SnapshotHead } from '../../../src/cold/snapshot-data.js'
import { startTimeOf } from '../../../src/cold/snapshot-store.js'
import { CONNECTION_COLUMNS, TUPLE_BYTES } from '../../../src/native/repair.js'

export const KEY = 'tcp4 127.0.0.1:7000'
export const FILE = `${addressName(KEY)}.snapshot`

export function aHead(changes: Partial<SnapshotHead> & { leftAt?: number; pid?: number } = {}): SnapshotHead {
  const { leftAt = Date.now(), pid = process.pid, ...rest } = changes
  return {
    bequest: {
      type: 'bequest',
      pid,
      generation: 3,
      version: '1.2.3',
      node: 'v20.0.0',
      leftAt,
      connections: 2,
      listeners: [{ key: KEY, path: '', backlog: 511 }],
      shared: [],
      slot: '',
      datagrams: [],
    },
    started: startTimeOf(pid),
    namespace: networkNamespace(),
    holdMs: 60_000,
    ports: [7000],
    tuples: new Uint8Array(2 * TUPLE_BYTES).fill(7),
    ...rest,
  }
}

/** Two connections, of which one has bytes everywhere. */
export function aBody(): SnapshotBody {
  const verify = new Float64Array([1, 2, 3, 4, 5, 6])
  return {
    record: {
      type: 'transfer',
      count: 2,
      base: 0,
      more: 0,
      servers: [KEY],
      server: new Uint8Array(4),
      flags: new Uint8Array(4),
      verify: new Uint8Array(verify.buffer),
      timeouts: [[1, 1000, 10]],
      highWaterMarks: [],
      unread: [[0, new Uint8Array([1, 2, 3])]],
      unsent: [[0, 0]],
      graph: new Uint8Array(),
      required: [],
      protocols: [],
    },
    segments: [new Uint8Array(100_000).fill(9)],
    refused: new Map([[1, 'it is MPTCP']]),
    figures: new Float64Array(2 * CONNECTION_COLUMNS).map((_, i) => (i % 7 === 0 ? Number.NaN : i)),
    tuples: new Uint8Array(2 * TUPLE_BYTES).fill(8),
    names: ['bbr', 'lo'],
    queues: new Uint8Array(50_000).fill(4),
  }
}
