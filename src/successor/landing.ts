import type { Socket } from 'node:net'
import type { Native } from '../native/native.js'
import { VERIFY_COLUMN, VERIFY_COLUMNS } from '../native/native.js'
import { closeParkedSocket, createParkedSocket, fdOf, openParkedSocket, tcpConstructor } from '../native/net-internals.js'

/**
 * Where descriptors land, batch by batch, while the predecessor still reads what belongs to them: each is put under a socket of ours right away, so
 * that this work and the predecessor's overlap. Nothing is read or written here; until the commit it can all be dropped again,
 * since the predecessor holds every connection as well.
 *
 * The sockets are made before the freeze: making one costs more than all else that is done while nobody serves a connection.
 */
export class Landing {
  readonly #native: Native
  readonly #parked: Socket[] = []
  readonly #landed: (Socket | undefined)[] = []
  readonly #fds: number[] = []
  #figures: Float64Array
  /** How many of them have been looked at. */
  #inspected = 0

  constructor(native: Native, expected: number) {
    this.#native = native
    this.#figures = new Float64Array(expected * VERIFY_COLUMNS)
    const tcp = tcpConstructor()
    while (this.#parked.length < expected) this.#parked.push(createParkedSocket(tcp))
  }

  get count(): number {
    return this.#landed.length
  }

  /** Takes ownership of the descriptors, in their order; -1 for a connection that has none. */
  land(fds: readonly number[]): void {
    for (const fd of fds) {
      this.#fds.push(fd)
      this.#landed.push(this.#open(fd))
    }
  }

  /**
   * Looks at some that nobody has looked at, if there are any. Any time will do: the predecessor has frozen them before it sent the first one, and what
   * is compared is the same however many segments arrive meanwhile.
   */
  inspectSome(limit = INSPECTED_AT_ONCE): boolean {
    const fds = Int32Array.from(this.#fds.slice(this.#inspected, this.#inspected + limit))
    if (fds.length === 0) return false
    const end = (this.#inspected + fds.length) * VERIFY_COLUMNS
    if (end > this.#figures.length) {
      const wider = new Float64Array(2 * end)
      wider.set(this.#figures)
      this.#figures = wider
    }
    this.#figures.set(this.#native.inspectTcp(fds), this.#inspected * VERIFY_COLUMNS)
    this.#inspected += fds.length
    return true
  }

  inspectRest(): void {
    this.inspectSome(this.#fds.length)
  }

  /** In their order, whatever has become of them. */
  get fds(): Int32Array {
    return Int32Array.from(this.#fds)
  }

  fd(index: number): number {
    return this.#fds[index] as number
  }

  socket(index: number): Socket | undefined {
    return this.#landed[index]
  }

  figure(index: number, column: number): number {
    return this.#figures[index * VERIFY_COLUMNS + column] as number
  }

  /** Whether nothing was read from or written to any of them since they landed. */
  isUnchanged(): boolean {
    return this.#landed.every((socket, index) => {
      if (socket === undefined) return true
      const now = this.#native.inspectTcp(Int32Array.of(this.fd(index)))
      return [VERIFY_COLUMN.consumed, VERIFY_COLUMN.produced].every((column) => now[column] === this.figure(index, column))
    })
  }

  /** Lets go of one connection: what it holds is only a second reference. */
  drop(index: number): void {
    const socket = this.#landed[index]
    this.#landed[index] = undefined
    if (socket) closeParkedSocket(socket)
  }

  dropAll(): void {
    for (const index of this.#landed.keys()) this.drop(index)
    this.clear()
  }

  /** Sockets that nobody needed. */
  clear(): void {
    for (const socket of this.#parked.splice(0)) closeParkedSocket(socket)
  }

  /** One with a descriptor; the same sockets again, for a predecessor that tries once more. */
  #open(fd: number): Socket | undefined {
    if (fd < 0) return undefined
    const socket = this.#parked.pop() ?? createParkedSocket(tcpConstructor())
    if (openParkedSocket(socket, fd) && fdOf(socket) === fd) return socket
    this.#native.closeFds(Int32Array.of(fd))
    return undefined
  }
}

/** About half a millisecond: the next message waits for no longer. */
const INSPECTED_AT_ONCE = 252
