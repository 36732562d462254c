import type { Socket } from 'node:net'
import type { Native } from '../native/native.js'
import { holdFlow, releaseFlow } from '../native/net-internals.js'

/** A socket with the descriptor that it had when it was made: asked for thousands at a time, Node's own getter would cost more than the poll. */
interface Waiting {
  readonly socket: Socket
  readonly fd: number
  /** What came along has been read: the kernel does not know of it. */
  readonly unread?: readonly Uint8Array[] | undefined
}

/**
 * Lets resumed connections be read from: those that have something to read at once, the others over several turns of the loop. Starting to read
 * costs as much as everything that was done to a connection before, and whoever waits for an answer would wait for all of them.
 *
 * Its one rule: this comes after every 'connection' handler has run. The application sees all its connections, may write to any of them, and
 * cannot tell one that is not read yet from one whose client is silent.
 */
export class Flow {
  readonly #native: Native
  /** Still to be started, the last one next. */
  #waiting: Waiting[] = []
  #isScheduled = false

  constructor(native: Native) {
    this.#native = native
  }

  /** From here on until `start`, which must follow for each, nothing is read from it, whatever its handler does. */
  hold(socket: Socket): void {
    holdFlow(socket)
  }

  start(connections: readonly Waiting[]): void {
    const before = this.#waiting
    this.#waiting = []
    for (const connection of connections) {
      if (connection.unread) releaseFlow(connection.socket)
      else this.#waiting.push(connection)
    }
    for (const connection of before) this.#waiting.push(connection)
    this.#startReadable()
    if (this.#waiting.length <= SLICE) this.finish()
    else this.#schedule()
  }

  /** All that are left, now: before this process hands them over itself. */
  finish(): void {
    for (const { socket } of this.#waiting.splice(0)) releaseFlow(socket)
  }

  /** After a turn in which those that have been started are served. */
  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => setImmediate(() => this.#turn()))
  }

  #turn(): void {
    this.#isScheduled = false
    this.#startReadable()
    for (const { socket } of this.#waiting.splice(-SLICE)) releaseFlow(socket)
    if (this.#waiting.length > 0) this.#schedule()
  }

  /** A descriptor whose socket has gone meanwhile may be another's by now: then a socket without a handle is released, which does nothing. */
  #startReadable(): void {
    const waiting = this.#waiting
    const fds = new Int32Array(waiting.length)
    for (let at = 0; at < fds.length; at++) fds[at] = (waiting[at] as Waiting).fd
    const ready = this.#native.pollReadable(fds, 0)
    // From the last one: each is taken out by what is behind it, so that the others keep their order but for a few.
    for (const index of ready.reverse()) {
      const { socket } = waiting[index] as Waiting
      const last = waiting.pop() as Waiting
      if (index < waiting.length) waiting[index] = last
      releaseFlow(socket)
    }
  }
}

/** Connections for one turn: about 2 ms. */
const SLICE = 256
