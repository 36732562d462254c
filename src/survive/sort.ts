import { VERIFY_COLUMN, VERIFY_COLUMNS } from '../native/native.js'
import { BOUNDARY, readWord } from './boundary.js'
import { NOTHING, type Row } from './ledger.js'

/** Connections of a process that crashed, by what can be proven of them. */
export interface Sorted {
  /** At a boundary when it died: the next process goes on with them. */
  readonly whole: readonly Whole[]
  /** They end. */
  readonly broken: readonly Broken[]
  /** Over already: nobody is told anything. */
  readonly gone: readonly number[]
}

export interface Whole extends Row {
  readonly fd: number
  readonly identity: number
  readonly boundary: number
  readonly flags: number
  readonly server: number
}

export interface Broken {
  readonly fd: number
  readonly reason: string
  /** 'reset': the client may have had half of something, and must not take it for all. */
  readonly how: 'reset' | 'going away'
}

/**
 * Compares what the dead process noted at the last boundary with the kernel's own counters. Equal means that it has read and written nothing since; what was
 * answered is the client's, or on its way, and what the client has sent since is unread in the kernel. `figures`: of inspectTcp.
 */
export function sort(fds: readonly number[], figures: Float64Array, rows: ReadonlyMap<number, Row>): Sorted {
  const whole: Whole[] = []
  const broken: Broken[] = []
  const gone: number[] = []
  for (const [i, fd] of fds.entries()) {
    const figure = (column: number) => figures[i * VERIFY_COLUMNS + column] as number
    const identity = figure(VERIFY_COLUMN.identity)
    const row = rows.get(identity)
    const state = figure(VERIFY_COLUMN.state)
    if (row === undefined || !OPEN_STATES.has(state)) {
      gone.push(fd)
      continue
    }
    const word = readWord(row.what)
    const hasRead = figure(VERIFY_COLUMN.consumed) !== row.consumed
    const hasWritten = figure(VERIFY_COLUMN.produced) !== row.produced
    if (row.what === NOTHING || hasWritten || (hasRead && word.boundary !== BOUNDARY.websocket)) {
      broken.push({ fd, reason: 'the process crashed in the middle of what this connection was for', how: 'reset' })
    } else if (word.boundary === BOUNDARY.raw || word.boundary === BOUNDARY.http) {
      whole.push({ ...row, ...word, fd, identity })
    } else if (word.boundary === BOUNDARY.websocket) {
      broken.push({ fd, reason: 'the state of a WebSocket died with the process', how: 'going away' })
    } else broken.push({ fd, reason: 'the process that crashed was of a version that knows more', how: 'reset' })
  }
  return { whole, broken, gone }
}

/** @note include/net/tcp_states.h: ESTABLISHED, CLOSE_WAIT. Where this side has ended its stream, its application was done with it. */
const OPEN_STATES = new Set([1, 8])
