import type { Native } from '../native/native.js'
import {
  CONNECTION_COLUMN,
  CONNECTION_COLUMNS,
  type ConnectionRecord,
  RESTORE_STEPS,
  RESTORED_COLUMN,
  RESTORED_COLUMNS,
  TUPLE_BYTES,
} from '../native/repair.js'
import type { RepairPowers } from '../native/repair-powers.js'
import { QUEUES } from './dump.js'

/** Connections as sockets again, in repair mode: until `leave` nothing of them reaches the network, and closing them is silent. */
export interface Remade {
  /** By connection; -1 where none was made. */
  readonly fds: Int32Array
  readonly failed: Map<number, string>
  /** What the caller has to deliver to the application before it reads: it is not in the kernel's queue. */
  readonly unread: Map<number, Uint8Array>
  /** What the caller has to write before anything else, in order. */
  readonly unsent: Map<number, Uint8Array>
  /** Connections whose peer has ended its stream, which the kernel's socket does not know: the caller has to end it. */
  readonly ended: Set<number>
}

/** Under a packet hold. Each connection by itself: one that cannot be made has its reason, the others go on. */
export function remake(native: Native, powers: RepairPowers, saved: ConnectionRecord): Remade {
  const remade = {
    fds: new Int32Array(rowsOf(saved)).fill(-1),
    failed: new Map(),
    unread: new Map(),
    unsent: new Map(),
    ended: new Set(),
  } as Remade
  const pass = restoreRows(powers, saved, remade)
  if (pass.length > 0) deliverEndByHand(native, powers, saved, remade, pass)
  return remade
}

/** The inverse, as long as they are in repair mode: not a packet goes out. */
export function unmake(native: Native, { fds }: Remade): void {
  native.closeFds(fds.filter((fd) => fd >= 0))
}

/** Ordinary operation, after the hold was released: each tells its peer at once where it is. */
export function leaveRepairMode(powers: RepairPowers, { fds, failed }: Remade, { figures }: ConnectionRecord): void {
  const indexes = [...fds.keys()].filter((index) => (fds[index] as number) >= 0)
  const entered = Int32Array.from(indexes, (index) => figures[index * CONNECTION_COLUMNS + CONNECTION_COLUMN.reuseAddress] as number)
  const errors = powers.leaveRepair(
    Int32Array.from(indexes, (index) => fds[index] as number),
    entered,
    true,
  )
  errors.forEach((errno, i) => {
    if (errno !== 0) failed.set(indexes[i] as number, `it did not leave repair mode (errno ${errno})`)
  })
}

/** Fills in `remade`; the rows whose peer has ended, and whose socket does not know it. */
function restoreRows(powers: RepairPowers, { figures, tuples, names, queues }: ConnectionRecord, remade: Remade): number[] {
  const results = powers.restoreConnections(figures, tuples, names, queues, true)
  const endless: number[] = []
  let at = 0
  for (let index = 0; index < remade.fds.length; index++) {
    const figure = (column: number) => figures[index * CONNECTION_COLUMNS + column] as number
    const result = (column: number) => results[index * RESTORED_COLUMNS + column] as number
    const [received, sent, unsent] = QUEUES.map(figure) as [number, number, number]
    const from = at
    at += received + sent + unsent
    if (figure(CONNECTION_COLUMN.refusal) !== 0) continue
    const fd = result(RESTORED_COLUMN.fd)
    if (fd < 0) {
      const step = RESTORE_STEPS[result(RESTORED_COLUMN.step)] ?? 'unknown'
      remade.failed.set(index, `it could not be restored: ${step} (errno ${result(RESTORED_COLUMN.errno)})`)
      continue
    }
    remade.fds[index] = fd
    if (result(RESTORED_COLUMN.receiveQueue) < received) remade.unread.set(index, queues.subarray(from, from + received))
    const rest = queues.subarray(from + received + result(RESTORED_COLUMN.sent), at)
    if (rest.length > 0) remade.unsent.set(index, rest)
    if (figure(CONNECTION_COLUMN.peerFin) === 1 && result(RESTORED_COLUMN.state) === ESTABLISHED) endless.push(index)
  }
  return endless
}

/**
 * Without CAP_NET_RAW the peer's FIN cannot be put in. Then such a connection is made once more with an empty receive queue: its last bytes, and
 * the end behind them, are delivered by the caller.
 */
function deliverEndByHand(native: Native, powers: RepairPowers, saved: ConnectionRecord, remade: Remade, indexes: readonly number[]): void {
  native.closeFds(Int32Array.from(indexes, (index) => remade.fds[index] as number))
  const rows = new Set(indexes)
  const only = onlyRows(saved, rows)
  const again = {
    ...remade,
    fds: new Int32Array(indexes.length).fill(-1),
    failed: new Map(),
    unread: new Map(),
    unsent: new Map(),
  } as Remade
  restoreRows(powers, only.withoutReceived, again)
  indexes.forEach((index, i) => {
    remade.fds[index] = again.fds[i] as number
    const failed = again.failed.get(i)
    if (failed) remade.failed.set(index, failed)
    const received = only.received[i] as Uint8Array
    if (received.length > 0) remade.unread.set(index, received)
    const unsent = again.unsent.get(i)
    if (unsent) remade.unsent.set(index, unsent)
    else remade.unsent.delete(index)
    remade.ended.add(index)
  })
}

function onlyRows({ figures, tuples, names, queues }: ConnectionRecord, rows: ReadonlySet<number>) {
  const kept = new Float64Array(rows.size * CONNECTION_COLUMNS)
  const ends: Uint8Array[] = []
  const received: Uint8Array[] = []
  const produced: Uint8Array[] = []
  let at = 0
  for (let index = 0; index * CONNECTION_COLUMNS < figures.length; index++) {
    const row = figures.subarray(index * CONNECTION_COLUMNS, (index + 1) * CONNECTION_COLUMNS)
    const [inbound, sent, unsent] = QUEUES.map((column) => row[column]) as [number, number, number]
    if (rows.has(index)) {
      const start = received.length * CONNECTION_COLUMNS
      kept.set(row, start)
      kept[start + CONNECTION_COLUMN.receiveQueue] = 0
      ends.push(tuples.subarray(index * TUPLE_BYTES, (index + 1) * TUPLE_BYTES))
      received.push(queues.subarray(at, at + inbound))
      produced.push(queues.subarray(at + inbound, at + inbound + sent + unsent))
    }
    at += inbound + sent + unsent
  }
  return { received, withoutReceived: { figures: kept, tuples: Buffer.concat(ends), names, queues: Buffer.concat(produced) } }
}

function rowsOf({ figures }: ConnectionRecord): number {
  return figures.length / CONNECTION_COLUMNS
}

/** @note include/net/tcp_states.h */
const ESTABLISHED = 1
