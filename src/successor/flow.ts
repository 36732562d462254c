import type { Socket } from 'node:net'
import type { Native } from '../native/native.js'
import { fdOf, holdFlow, releaseFlow } from '../native/net-internals.js'

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
  #waiting: Socket[] = []
  #isScheduled = false

  constructor(native: Native) {
    this.#native = native
  }

  /** From here on until `start`, which must follow for each, nothing is read from it, whatever its handler does. */
  hold(socket: Socket): void {
    holdFlow(socket)
  }

  start(sockets: readonly Socket[]): void {
    const [unread, others] = [sockets.filter(hasUnread), sockets.filter((socket) => !hasUnread(socket))]
    for (const socket of unread) releaseFlow(socket)
    this.#waiting = others.concat(this.#waiting)
    this.#startReadable()
    if (this.#waiting.length <= SLICE) this.finish()
    else this.#schedule()
  }

  /** All that are left, now: before this process hands them over itself. */
  finish(): void {
    for (const socket of this.#waiting.splice(0)) releaseFlow(socket)
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
    for (const socket of this.#waiting.splice(-SLICE)) releaseFlow(socket)
    if (this.#waiting.length > 0) this.#schedule()
  }

  #startReadable(): void {
    const ready = new Set(this.#native.pollReadable(Int32Array.from(this.#waiting, fdOf), 0))
    if (ready.size === 0) return
    const waiting = this.#waiting
    this.#waiting = waiting.filter((_, index) => !ready.has(index))
    for (const index of ready) releaseFlow(waiting[index] as Socket)
  }
}

/** What came along has been read: the kernel does not know of it. */
function hasUnread(socket: Socket): boolean {
  return socket.readableLength > 0
}

/** Connections for one turn: about 2 ms. */
const SLICE = 256
