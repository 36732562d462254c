import type { RepairFigures } from '../channel/record.js'
import { aligned } from '../handover/aligned.js'
import type { Native } from '../native/native.js'
import { CONNECTION_COLUMN, CONNECTION_COLUMNS, TUPLE_BYTES } from '../native/repair.js'

/**
 * Compares what the predecessor has seen in repair mode with what the descriptors say here; flaws by connection. The two ends of a connection can be asked for by anybody; what was
 * negotiated and the sequence numbers only with CAP_NET_ADMIN, so without it they are not compared.
 */
export function compareFigures(native: Native, sent: RepairFigures, fds: Int32Array): Map<number, string> {
  const flaws = new Map<number, string>()
  const before = new Float64Array(aligned(sent.figures))
  const stride = before.length / (sent.tuples.length / TUPLE_BYTES)
  if (stride < CONNECTION_COLUMNS) return flaws // of a version that knew less
  const now = native.glimpseConnections(fds)
  for (let index = 0; index < sent.tuples.length / TUPLE_BYTES; index++) {
    const was = (column: number) => before[index * stride + column] as number
    const is = (column: number) => now.figures[index * CONNECTION_COLUMNS + column] as number
    if (was(CONNECTION_COLUMN.refusal) !== 0) continue // not looked at there
    if (!sameEnds(sent.tuples, native.connectionTuples(fds.subarray(index, index + 1)), index))
      flaws.set(index, 'its addresses are not those of its record')
    else if (is(CONNECTION_COLUMN.refusal) !== 0)
      continue // no capability here, or the peer has reset it meanwhile
    else if (LASTING.some((column) => !Object.is(was(column), is(column))) || readTo(was) !== readTo(is) || writtenTo(was, is))
      flaws.set(index, 'its sequence numbers or its settings are not those of its record')
  }
  return flaws
}

function sameEnds(tuples: Uint8Array, own: Uint8Array, index: number): boolean {
  return Buffer.compare(tuples.subarray(index * TUPLE_BYTES, (index + 1) * TUPLE_BYTES), own) === 0
}

/** The sequence number up to which the application has read: what arrives meanwhile moves both figures. The peer's FIN counts as a byte in one of them. */
function readTo(figure: (column: number) => number): number {
  const { receiveSequence, receiveQueue, peerFin } = CONNECTION_COLUMN
  return (figure(receiveSequence) - figure(receiveQueue) - figure(peerFin)) >>> 0
}

/** Nobody writes meanwhile. */
function writtenTo(was: (column: number) => number, is: (column: number) => number): boolean {
  const [before, now] = [was(CONNECTION_COLUMN.sendSequence), is(CONNECTION_COLUMN.sendSequence)]
  return !Number.isNaN(before) && !Number.isNaN(now) && before !== now
}

const LASTING = ['family', 'mss', 'sendScale', 'receiveScale', 'sack', 'timestamps', 'tos', 'ttl', 'mark', 'userTimeout'].map(
  (name) => CONNECTION_COLUMN[name as keyof typeof CONNECTION_COLUMN],
)
