import type { Socket } from 'node:net'
import type { Native } from '../native/native.js'
import { VERIFY_COLUMN, VERIFY_COLUMNS } from '../native/native.js'
import { closeParkedSocket, createParkedSocket, fdOf, openParkedSocket, tcpConstructor } from '../native/net-internals.js'

/**
 * Where descriptors land, batch by batch: each is put under a socket of ours right away. Where there are thousands most land ahead of the freeze, the others while
 * the predecessor reads what belongs to them. Nothing is read or written here; until the commit it can all be dropped again, since the predecessor holds every
 * connection as well.
 *
 * The sockets are made before the freeze: making one costs more than all else that is done while nobody serves a connection.
 */
export class Landing {
  readonly #native: Native
  readonly #parked: Socket[] = []
  /** By place: in the order in which they came. */
  readonly #landed: (Socket | undefined)[] = []
  readonly #fds: number[] = []
  #figures = new Float64Array()
  /** How many came ahead. */
  #ahead = 0
  /** Whether the predecessor stands still: before, what is looked at may change. */
  #isFrozen = false
  /** How many have been looked at. */
  #inspected = 0
  /** Their places in the order of the record, once it is here. */
  #places: Int32Array | undefined

  constructor(native: Native) {
    this.#native = native
  }

  /** Makes room for so many in all. */
  expect(connections: number): void {
    const tcp = tcpConstructor()
    while (this.#landed.length + this.#parked.length < connections) this.#parked.push(createParkedSocket(tcp))
    this.#widen(connections)
  }

  get count(): number {
    return this.#places?.length ?? this.#landed.length
  }

  /** Takes ownership of copies of descriptors whose connections the predecessor serves on. */
  landAhead(fds: readonly number[]): void {
    for (const fd of fds) this.#put(fd)
    this.#ahead += fds.length
  }

  /** Takes ownership of the descriptors, in their order; -1 for a connection that has none. From here on the predecessor stands still. */
  land(fds: readonly number[]): void {
    this.#isFrozen = true
    for (const fd of fds) this.#put(fd)
  }

  #put(fd: number): void {
    this.#fds.push(fd)
    this.#landed.push(this.#open(fd))
  }

  /** What came ahead is named by the record, by its place, -1 for the next of those that came after it. False if the two do not fit. */
  arrange(ahead: Int32Array): boolean {
    const isTaken = new Uint8Array(this.#ahead)
    let next = this.#ahead
    this.#places = ahead.map((place) => {
      if (place < 0) return next++
      if (place >= this.#ahead || isTaken[place]) next = Number.NaN
      isTaken[place] = 1
      return place
    })
    return next === this.#landed.length
  }

  /**
   * Looks at some that nobody has looked at, if there are any. Any time will do: the predecessor has frozen them before it said so, and what
   * is compared is the same however many segments arrive meanwhile.
   */
  inspectSome(limit = INSPECTED_AT_ONCE): boolean {
    if (!this.#isFrozen) return false
    const fds = Int32Array.from(this.#fds.slice(this.#inspected, this.#inspected + limit))
    if (fds.length === 0) return false
    this.#widen(this.#inspected + fds.length)
    this.#figures.set(this.#native.inspectTcp(fds), this.#inspected * VERIFY_COLUMNS)
    this.#inspected += fds.length
    return true
  }

  inspectRest(): void {
    this.inspectSome(this.#fds.length)
  }

  #widen(connections: number): void {
    const length = connections * VERIFY_COLUMNS
    if (length <= this.#figures.length) return
    const wider = new Float64Array(Math.max(length, 2 * this.#figures.length))
    wider.set(this.#figures)
    this.#figures = wider
  }

  /** In the order of the record, whatever has become of them. */
  get fds(): Int32Array {
    return Int32Array.from({ length: this.count }, (_, index) => this.fd(index))
  }

  fd(index: number): number {
    return this.#fds[this.#placeOf(index)] as number
  }

  socket(index: number): Socket | undefined {
    return this.#landed[this.#placeOf(index)]
  }

  figure(index: number, column: number): number {
    return this.#figures[this.#placeOf(index) * VERIFY_COLUMNS + column] as number
  }

  #placeOf(index: number): number {
    return this.#places === undefined ? index : (this.#places[index] as number)
  }

  /** Whether nothing was read from or written to any of them since they landed. */
  isUnchanged(): boolean {
    for (let index = 0; index < this.count; index++) {
      if (this.socket(index) === undefined) continue
      const now = this.#native.inspectTcp(Int32Array.of(this.fd(index)))
      if (now[VERIFY_COLUMN.consumed] !== this.figure(index, VERIFY_COLUMN.consumed)) return false
      if (now[VERIFY_COLUMN.produced] !== this.figure(index, VERIFY_COLUMN.produced)) return false
    }
    return true
  }

  /** Lets go of one connection: what it holds is only a second reference. */
  drop(index: number): void {
    this.#dropAt(this.#placeOf(index))
  }

  /** One that came ahead has ended: this reference keeps its client from hearing of it. */
  dropAhead(place: number): void {
    if (place < this.#ahead) this.#dropAt(place)
  }

  #dropAt(place: number): void {
    const socket = this.#landed[place]
    this.#landed[place] = undefined
    if (socket) closeParkedSocket(socket)
  }

  dropAll(): void {
    for (const place of this.#landed.keys()) this.#dropAt(place)
    this.clear()
  }

  /** Sockets that nobody needed, and what came ahead and has stayed with the predecessor. */
  clear(): void {
    for (const socket of this.#parked.splice(0)) closeParkedSocket(socket)
    if (this.#places === undefined) return
    const isNamed = new Uint8Array(this.#ahead)
    for (const place of this.#places) if (place < this.#ahead) isNamed[place] = 1
    for (let place = 0; place < this.#ahead; place++) if (!isNamed[place]) this.#dropAt(place)
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
