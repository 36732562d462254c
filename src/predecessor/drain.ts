import type { Server, Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import { serverHandleOf, serverOf, setServerHandle } from '../native/net-internals.js'
import type { Protocols } from '../protocols/protocols.js'

/** What draining needs of the installation. */
interface Draining {
  readonly servers: ReadonlySet<AttachedServer>
  readonly protocols: Protocols
  attachedTo(server: Server): AttachedServer | undefined
}

/**
 * What is still here after the listeners have gone, until each connection ends by itself or moves after all: a raw connection is served until
 * its peer ends, an HTTP connection until its response is out. At the end of the grace period what is left is ended politely, never reset.
 */
export class Drain {
  readonly #installation: Draining
  readonly #left = new Set<Socket>()
  readonly #isMoreToCome: () => boolean
  readonly #onEmpty: () => void
  readonly #giveUpWaiting: () => boolean
  #hasTold = false

  /** `giveUpWaiting`: nothing moves any more; whether something waited for that, which drains instead. */
  constructor(installation: Draining, isMoreToCome: () => boolean, onEmpty: () => void, giveUpWaiting = () => false) {
    this.#installation = installation
    this.#isMoreToCome = isMoreToCome
    this.#onEmpty = onEmpty
    this.#giveUpWaiting = giveUpWaiting
  }

  /** Connections that stay for good. */
  add(sockets: Iterable<Socket>): void {
    for (const socket of sockets) {
      this.keep([socket])
      if (socket.destroyed) continue
      const server = serverOf(socket)
      this.#installation.protocols.of(socket, server ? this.#installation.attachedTo(server) : undefined)?.drain(socket)
    }
    this.#tellIfEmpty()
  }

  /** Connections that are still here and may move. */
  keep(sockets: Iterable<Socket>): void {
    for (const socket of sockets) {
      if (socket.destroyed || this.#left.has(socket)) continue
      this.#left.add(socket)
      socket.once('close', () => this.forget(socket))
    }
  }

  get left(): number {
    return this.#left.size
  }

  /** It has ended, or moved after all. */
  forget(socket: Socket): void {
    if (this.#left.delete(socket)) this.#tellIfEmpty()
  }

  forgetAll(moved: Iterable<{ readonly socket: Socket }>): void {
    for (const { socket } of moved) this.forget(socket)
  }

  #tellIfEmpty(): void {
    if (this.#hasTold || this.#left.size > 0 || this.#isMoreToCome()) return
    this.#hasTold = true
    this.#onEmpty()
  }

  /** The grace period is over. Whoever was to move had its requests wait for that: they are answered first. Whether there are such, who need a moment. */
  serveWaiting(): boolean {
    return this.#giveUpWaiting()
  }

  /** The grace period is over, and so is that moment. */
  endAll(): void {
    for (const socket of this.#left) endPolitely(socket)
  }
}

/**
 * Ends a connection that the application has not ended. What it still writes comes too late: as an error it would end this process, and the
 * bytes that are on their way with it. A loop that writes until it is told to wait is told so.
 */
export function endPolitely(socket: Socket): void {
  socket.unpipe()
  socket.resume() // closing with bytes unread would be a reset
  socket.end()
  Object.assign(socket, { write: discard, end: () => socket })
}

function discard(_chunk: unknown, encoding?: unknown, callback = encoding): boolean {
  if (typeof callback === 'function') process.nextTick(callback as () => void, null)
  return false
}

/** Stops accepting on listeners that nobody claimed. */
export function stopListening(servers: Iterable<AttachedServer>): void {
  for (const { server } of servers) {
    serverHandleOf(server)?.close()
    setServerHandle(server, null)
  }
}
