import type { Installation } from '../installation.js'
import { VERIFY_COLUMN, VERIFY_COLUMNS } from '../native/native.js'
import type { HandedOver } from './hand-over.js'
import { letGo, type ReleasedConnection, takeBack } from './release.js'

/**
 * The canary's connections: the successor serves them, and this process keeps a second reference to each until it is known whether the successor is well.
 * Its one rule: what comes back without the successor's word, because it has died, is what the kernel proves that nobody has touched: no byte was read
 * from it and none written since it was lent. What was touched is the dead process's and ends with it.
 */
export class Loan {
  readonly #installation: Installation
  readonly #handed: HandedOver
  /** How many there were. */
  readonly size: number

  constructor(installation: Installation, handed: HandedOver) {
    this.#installation = installation
    this.#handed = handed
    this.size = handed.connections.size
  }

  get handed(): HandedOver {
    return this.#handed
  }

  get left(): number {
    return this.#handed.connections.size
  }

  /** They have ended in the successor: a reference of ours would keep them open. Numbers are those of late writes. */
  gone(numbers: readonly number[]): void {
    for (const number of numbers) this.#letGo(number - this.#handed.base)
  }

  /** They have come back as connections of their own; a connection is known by its kernel's number. */
  returned(identities: ReadonlySet<number>): void {
    for (const index of [...this.#handed.connections.keys()]) if (identities.has(this.#verified(index).identity)) this.#letGo(index)
  }

  /** The successor keeps them. */
  settle(): void {
    letGo(this.#installation, this.#handed)
  }

  /** The successor is dead. `written`: numbers of connections whose late writes it was given. Returns how many come back, and how many end. */
  takeBack(written: ReadonlySet<number>): { back: number; lost: number; touched: ReadonlySet<number> } {
    const { connections, base } = this.#handed
    const touched = new Set(
      [...connections].filter(([index, each]) => written.has(base + index) || this.#isTouched(index, each)).map(([index]) => index),
    )
    const lost = touched.size
    const back = connections.size - lost
    takeBack(this.#installation, this.#handed, touched)
    connections.clear()
    return { back, lost, touched }
  }

  #isTouched(index: number, { detached, again }: ReleasedConnection): boolean {
    const { unread, unsent } = this.#handed.snapshot.record
    if (again || [...unread, ...unsent].some(([moved]) => moved === index)) return true
    const now = this.#installation.env.native.inspectTcp(Int32Array.of(detached.handle.fd))
    const { consumed, produced } = this.#verified(index)
    return (
      now.length < VERIFY_COLUMNS ||
      !OPEN_STATES.has(now[VERIFY_COLUMN.state] as number) ||
      now[VERIFY_COLUMN.consumed] !== consumed ||
      now[VERIFY_COLUMN.produced] !== produced
    )
  }

  #verified(index: number): { consumed: number; produced: number; identity: number } {
    const { buffer, byteOffset } = this.#handed.snapshot.record.verify
    const row = new DataView(buffer, byteOffset + ROW_BYTES * index, ROW_BYTES)
    return { consumed: row.getFloat64(0, true), produced: row.getFloat64(8, true), identity: row.getFloat64(16, true) }
  }

  #letGo(index: number): void {
    const connection = this.#handed.connections.get(index)
    if (connection === undefined) return
    this.#handed.connections.delete(index)
    letGo(this.#installation, { ...this.#handed, connections: new Map([[index, connection]]) })
  }
}

/** Consumed, produced, identity: see Transfer. */
const ROW_BYTES = 24
/** @note include/net/tcp_states.h: ESTABLISHED 1, CLOSE_WAIT 8; in any other the successor has ended its side. */
const OPEN_STATES = new Set([1, 8])
