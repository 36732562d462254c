import type { Env } from '../env.js'
import { VERIFY_COLUMN, VERIFY_COLUMNS } from '../native/native.js'
import { CONNECTION_COLUMN, CONNECTION_COLUMNS, CONNECTION_REFUSALS, type ConnectionRecord } from '../native/repair.js'
import { repairPowers } from '../native/repair-powers.js'

/**
 * Peers that have repeated a segment in vain wait ever longer before they repeat it again: after a gap of 2.2 s for another 1.1 s. Each ICMP message takes one
 * doubling back (RFC 6069, which Linux follows), so those that are still silent get one a round until they speak.
 * After a short gap nobody waits for long, and nothing is sent.
 */
export function wakePeers(env: Env, { fds, gapMs, saved }: { fds: Int32Array; gapMs: number; saved: ConnectionRecord }): void {
  if (gapMs < WORTH_MS || env.environment['TSUNAGI_WAKE'] === 'off') return
  const powers = repairPowers(env)
  const received = () => receivedBytes(env.native.inspectTcp(fds))
  const before = received()
  let rounds = Math.min(MOST_ROUNDS, Math.ceil(Math.log2(gapMs / FIRST_RTO_MS)))
  const round = () => {
    const now = received()
    const silent = [...fds.keys()].filter((index) => (fds[index] as number) >= 0 && now[index] === before[index])
    try {
      powers.kickPeers(onlyRows(saved.figures, silent), saved.tuples)
    } catch (error) {
      env.log(`peers go on when their own timers say so: ${(error as Error).message}`)
      return
    }
    if (--rounds > 0 && silent.length > 0) setTimeout(round, BETWEEN_MS).unref()
  }
  setImmediate(round)
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

function receivedBytes(figures: Float64Array): Float64Array {
  return Float64Array.from({ length: figures.length / VERIFY_COLUMNS }, (_, row) => {
    const at = row * VERIFY_COLUMNS
    return (figures[at + VERIFY_COLUMN.consumed] as number) + (figures[at + VERIFY_COLUMN.receiveQueue] as number)
  })
}

/** @note include/net/tcp_states.h */
const ESTABLISHED = 1
/** Linux waits 200 ms before it repeats a segment for the first time, and twice as long each time. */
const FIRST_RTO_MS = 200
const WORTH_MS = 400
const MOST_ROUNDS = 6
/** Peers near by answer within this. */
const BETWEEN_MS = 20
