import { fstatSync, readSync } from 'node:fs'
import type { Native } from '../native/native.js'

/**
 * Two offsets for each connection in memory that outlives this process: what the application had read from the kernel and handed to it when the connection
 * was last at a boundary. Nothing is written when it leaves the boundary: reading or writing moves the kernel's own counters, and then they differ.
 *
 *   a row   identity f64 | consumed f64 | produced f64 | what i32 | 0 i32          its place is the one in the keeper
 *
 * Its one rule: `what` is NOTHING while a row is being written, so that a process that is killed in between leaves no row that is half of one boundary.
 */
export class Ledger {
  readonly fd: number
  readonly #numbers: Float64Array
  readonly #words: Int32Array

  constructor(native: Native) {
    const { fd, memory } = native.sharedMemory(PLACES * ROW_BYTES)
    this.fd = fd
    this.#numbers = new Float64Array(memory)
    this.#words = new Int32Array(memory)
  }

  write(place: number, { consumed, produced }: Pick<Row, 'consumed' | 'produced'>, what: number): void {
    const at = place * DOUBLES
    // Atomics for the order alone: nobody reads before this process is dead.
    Atomics.store(this.#words, 2 * at + WHAT, NOTHING)
    this.#numbers[at + CONSUMED] = consumed
    this.#numbers[at + PRODUCED] = produced
    Atomics.store(this.#words, 2 * at + WHAT, what)
  }

  /** A connection has come to this place; from here on the row is found. */
  open(place: number, identity: number): void {
    Atomics.store(this.#words, 2 * place * DOUBLES + WHAT, NOTHING)
    this.#numbers[place * DOUBLES + IDENTITY] = identity
  }

  /** It is in the middle of something that the kernel's counters do not show. */
  blot(place: number): void {
    Atomics.store(this.#words, 2 * place * DOUBLES + WHAT, NOTHING)
  }

  /** It has gone. */
  clear(place: number): void {
    this.open(place, 0)
  }
}

export interface Row {
  readonly consumed: number
  readonly produced: number
  readonly what: number
}

/** What a dead process has left, by the kernel's number of the connection. Rows may have become longer since. */
export function readLedger(fd: number, rowBytes: number): Map<number, Row> {
  const bytes = new Uint8Array(fstatSync(fd).size)
  for (let at = 0; at < bytes.length; ) {
    const got = readSync(fd, bytes, at, bytes.length - at, at)
    if (got === 0) break
    at += got
  }
  const numbers = new Float64Array(bytes.buffer)
  const words = new Int32Array(bytes.buffer)
  const rows = new Map<number, Row>()
  if (rowBytes < ROW_BYTES || rowBytes % 8 !== 0) return rows
  for (let at = 0; at + DOUBLES <= numbers.length; at += rowBytes / 8) {
    const identity = numbers[at + IDENTITY] as number
    if (identity === 0) continue
    rows.set(identity, {
      consumed: numbers[at + CONSUMED] as number,
      produced: numbers[at + PRODUCED] as number,
      what: words[2 * at + WHAT] as number,
    })
  }
  return rows
}

/** A row that says so vouches for nothing. */
export const NOTHING = 0
/** More connections at once than that are not given to the keeper. */
export const PLACES = 2 ** 17
const DOUBLES = 4
export const ROW_BYTES = 8 * DOUBLES
const IDENTITY = 0
const CONSUMED = 1
const PRODUCED = 2
/** Among 32-bit words, from the begin of the row. */
const WHAT = 6
