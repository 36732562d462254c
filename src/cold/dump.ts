import type { MessageOf } from '../channel/messages.js'
import { CONNECTION_FLAG } from '../channel/record.js'
import { aligned } from '../handover/aligned.js'
import { type Native, VERIFY_COLUMN, VERIFY_COLUMNS } from '../native/native.js'
import { CONNECTION_COLUMN, CONNECTION_COLUMNS, CONNECTION_REFUSALS, type ConnectionRecord } from '../native/repair.js'
import type { RepairPowers } from '../native/repair-powers.js'

/** Connections in repair mode, with everything that the kernel knew of them. Closing one says nothing to its peer; `undump` makes them what they were. */
export interface Dumped extends ConnectionRecord {
  /** As `enterRepair` gave it; negative for one that is not in repair mode. */
  readonly entered: Int32Array
  /** Connections, by index, that could not be dumped and are as they were, with the reason. */
  readonly refused: Map<number, string>
}

/**
 * Under a packet hold: puts the connections of a record into repair mode and reads both queues of each. What the record says that the application has
 * read and written has to be what the kernel says, or bytes would be lost or repeated: one that differs is refused.
 */
export function dump(native: Native, powers: RepairPowers, fds: Int32Array, record: Readonly<MessageOf<'transfer'>>): Dumped {
  const flags = new Uint16Array(aligned(record.flags))
  const candidates = fds.map((fd, index) => ((flags[index] as number) & CONNECTION_FLAG.stays ? -1 : fd))
  const entered = powers.enterRepair(candidates)
  try {
    const dumped = { ...native.dumpConnections(candidates, entered, true), entered }
    const refused = new Map<number, string>()
    const flaws = compare(native, candidates, record)
    for (let index = 0; index < fds.length; index++) {
      if (candidates[index] === -1) continue // the record says that it stays
      const reason = refusalOf(dumped.figures, index) ?? flaws.get(index)
      if (reason) refused.set(index, reason)
    }
    const whole = { ...withoutRefused(dumped, refused), refused }
    restoreOrdinaryMode(powers, candidates, entered, [...refused.keys()])
    return whole
  } catch (error) {
    powers.leaveRepair(candidates, entered, true)
    throw error
  }
}

/** The inverse of `dump`. With `probe` each tells its peer where it is: packets were dropped meanwhile. */
export function undump(powers: RepairPowers, fds: Int32Array, { entered }: Dumped): void {
  powers.leaveRepair(fds, entered, true)
}

function restoreOrdinaryMode(powers: RepairPowers, fds: Int32Array, entered: Int32Array, indexes: readonly number[]): void {
  const of = (column: Int32Array) => Int32Array.from(indexes, (index) => column[index] as number)
  if (indexes.length > 0) powers.leaveRepair(of(fds), of(entered), true)
  for (const index of indexes) entered[index] = -1
}

/** The two come from different sources, Node's counters and the kernel's, so that nothing can agree by mistake. */
function compare(native: Native, fds: Int32Array, record: Readonly<MessageOf<'transfer'>>): Map<number, string> {
  const verify = new Float64Array(aligned(record.verify))
  const figures = native.inspectTcp(fds)
  const flaws = new Map<number, string>()
  for (let index = 0; index < fds.length; index++) {
    const figure = (column: number) => figures[index * VERIFY_COLUMNS + column]
    if (figure(VERIFY_COLUMN.consumed) !== verify[3 * index]) flaws.set(index, 'what was read from it is not what the application got')
    else if (figure(VERIFY_COLUMN.produced) !== verify[3 * index + 1])
      flaws.set(index, 'what was written to it is not what the application gave')
  }
  return flaws
}

function refusalOf(figures: Float64Array, index: number): string | undefined {
  const row = index * CONNECTION_COLUMNS
  const refusal = CONNECTION_REFUSALS[figures[row + CONNECTION_COLUMN.refusal] as number] ?? 'call-failed'
  if (refusal === 'none') return undefined
  const errno = figures[row + CONNECTION_COLUMN.errno] as number
  return `it cannot be saved: ${REASONS[refusal] ?? refusal}${errno ? ` (errno ${errno})` : ''}`
}

/** Rows that are refused for another reason than the kernel's are marked, and their bytes left out. */
function withoutRefused<Record extends ConnectionRecord>(dumped: Record, refused: ReadonlyMap<number, string>): Record {
  const { figures, queues } = dumped
  const pieces: Uint8Array[] = []
  let at = 0
  let changed = false
  for (let row = 0; row < figures.length; row += CONNECTION_COLUMNS) {
    const bytes = QUEUES.reduce((sum, column) => sum + (figures[row + column] as number), 0)
    if (refused.has(row / CONNECTION_COLUMNS) && figures[row + CONNECTION_COLUMN.refusal] === 0) {
      changed = true
      figures[row + CONNECTION_COLUMN.refusal] = CONNECTION_REFUSALS.indexOf('queue-moved')
      for (const column of QUEUES) figures[row + column] = 0
    } else if (bytes > 0) pieces.push(queues.subarray(at, at + bytes))
    at += bytes
  }
  return changed ? { ...dumped, queues: Buffer.concat(pieces) } : dumped
}

/** The columns that say how much of `queues` is a connection's, in the order in which it lies there. */
export const QUEUES = [CONNECTION_COLUMN.receiveQueue, CONNECTION_COLUMN.sent, CONNECTION_COLUMN.unsent] as const

const REASONS: Partial<Record<(typeof CONNECTION_REFUSALS)[number], string>> = {
  'not-tcp': 'it is not TCP',
  mptcp: 'it is MPTCP',
  'upper-layer': 'the kernel encrypts it (kTLS)',
  authenticated: 'its segments are signed (TCP-MD5 or TCP-AO)',
  'zero-copy': 'pages of its send queue are still the application’s (MSG_ZEROCOPY)',
  'urgent-data': 'it has urgent data',
  state: 'it is closing, or not open yet',
  'peek-offset': 'SO_PEEK_OFF is set',
  'socket-error': 'it has an error that the application has not seen',
  'not-in-repair': 'it could not enter repair mode',
  'queue-moved': 'its queues changed while they were read',
}
