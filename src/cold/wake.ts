import type { Env } from '../env.js'
import { VERIFY_COLUMN, VERIFY_COLUMNS } from '../native/native.js'
import { CONNECTION_COLUMN, CONNECTION_COLUMNS, CONNECTION_REFUSALS, type ConnectionRecord, TUPLE_BYTES } from '../native/repair.js'
import { repairPowers } from '../native/repair-powers.js'

/**
 * Peers that have repeated a segment in vain wait ever longer before they repeat it again: after a gap of 2.2 s for another 1.1 s. Each ICMP message takes one
 * doubling back (RFC 6069, which Linux follows), so those that are still silent get one a round until they speak. Who has nothing to say is silent as well: it
 * is a few at a time, so that nobody who speaks has to wait for it. After a short gap nobody waits for long, and nothing is sent.
 */
export function wakePeers(env: Env, { fds, unread, gapMs, saved }: Woken): void {
  if (gapMs < WORTH_MS || env.environment['TSUNAGI_WAKE'] === 'off') return
  const powers = repairPowers(env)
  const rounds = Math.min(MOST_ROUNDS, Math.ceil(Math.log2(gapMs / FIRST_RTO_MS)))
  wake([...fds.keys()].filter((index) => (fds[index] as number) >= 0))

  function wake(indexes: readonly number[], round = 1, from = 0, silent: readonly number[] = []): void {
    const some = silentOf(indexes.slice(from, from + AT_ONCE))
    try {
      const { figures, tuples } = rowsOf(saved, some)
      powers.kickPeers(figures, tuples)
    } catch (error) {
      return env.log(`peers go on when their own timers say so: ${(error as Error).message}`)
    }
    const next = from + AT_ONCE
    const still = [...silent, ...some]
    if (next < indexes.length) setImmediate(wake, indexes, round, next, still)
    else if (round < rounds && still.length > 0) setTimeout(wake, BETWEEN_MS, still, round + 1).unref()
  }

  /** Those from which nothing has come since the socket was made again with what it had not read. */
  function silentOf(indexes: readonly number[]): number[] {
    const figures = env.native.inspectTcp(Int32Array.from(indexes, (index) => fds[index] as number))
    return indexes.filter((index, i) => {
      const at = i * VERIFY_COLUMNS
      const received = (figures[at + VERIFY_COLUMN.consumed] as number) + (figures[at + VERIFY_COLUMN.receiveQueue] as number)
      const had = unread.has(index) ? 0 : saved.figures[index * CONNECTION_COLUMNS + CONNECTION_COLUMN.receiveQueue]
      return received === had
    })
  }
}

interface Woken {
  readonly fds: Int32Array
  /** Connections whose receive queue is not the kernel's any more. */
  readonly unread: ReadonlyMap<number, unknown>
  readonly gapMs: number
  readonly saved: ConnectionRecord
}

/**
 * Tells the peers of connections that could not be made again, so that they need not find out by themselves: a segment that says nothing new is
 * answered, and the answer, for which there is no socket here, by a reset in the right place.
 */
export function resetPeers(env: Env, { figures, tuples }: ConnectionRecord, indexes: Iterable<number>): void {
  const rows = [...indexes]
  if (rows.length === 0) return
  try {
    repairPowers(env).announceConnections(onlyRows(figures, rows), tuples)
  } catch (error) {
    env.log(`${rows.length} peers are not told that their connection is lost: ${(error as Error).message}`)
  }
}

/**
 * Connections that were restored on another host, and that a firewall there has never seen: it picks them up when this side speaks first. Those that are
 * established have done so by leaving repair mode, the kernel does it for no others.
 */
export function speakFirst(env: Env, { figures, tuples }: ConnectionRecord): void {
  const rows: number[] = []
  for (let row = 0; row * CONNECTION_COLUMNS < figures.length; row++) {
    const state = figures[row * CONNECTION_COLUMNS + CONNECTION_COLUMN.state]
    if (figures[row * CONNECTION_COLUMNS + CONNECTION_COLUMN.refusal] === 0 && state !== ESTABLISHED) rows.push(row)
  }
  if (rows.length === 0) return
  try {
    repairPowers(env).announceConnections(onlyRows(figures, rows), tuples)
  } catch (error) {
    env.log(`a firewall that tracks connections may not let ${rows.length} half-closed ones through: ${(error as Error).message}`)
  }
}

/** All rows, of which only some count. */
function onlyRows(figures: Float64Array, indexes: readonly number[]): Float64Array {
  const wanted = new Set(indexes)
  const copy = figures.slice()
  const skipped = CONNECTION_REFUSALS.indexOf('state')
  for (let row = 0; row * CONNECTION_COLUMNS < copy.length; row++) {
    if (!wanted.has(row)) copy[row * CONNECTION_COLUMNS + CONNECTION_COLUMN.refusal] = skipped
  }
  return copy
}

/** Some rows by themselves. */
function rowsOf({ figures, tuples }: ConnectionRecord, indexes: readonly number[]): { figures: Float64Array; tuples: Uint8Array } {
  const some = { figures: new Float64Array(indexes.length * CONNECTION_COLUMNS), tuples: new Uint8Array(indexes.length * TUPLE_BYTES) }
  indexes.forEach((index, i) => {
    some.figures.set(figures.subarray(index * CONNECTION_COLUMNS, (index + 1) * CONNECTION_COLUMNS), i * CONNECTION_COLUMNS)
    some.tuples.set(tuples.subarray(index * TUPLE_BYTES, (index + 1) * TUPLE_BYTES), i * TUPLE_BYTES)
  })
  return some
}

/** @note include/net/tcp_states.h */
const ESTABLISHED = 1
/** Linux waits 200 ms before it repeats a segment for the first time, and twice as long each time. */
const FIRST_RTO_MS = 200
const WORTH_MS = 400
const MOST_ROUNDS = 3
/** About 2 ms of this process's time. */
const AT_ONCE = 256
/** Peers near by answer within this. */
const BETWEEN_MS = 20
