import type { Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import { httpMessageOf, serverHandleOf, setServerHandle } from '../native/net-internals.js'

/**
 * What is still here after the listeners have gone, until each connection ends by itself or moves after all: a raw connection is served until
 * its peer ends, an HTTP connection until its response is out. At the end of the grace period what is left is ended politely, never reset.
 */
export class Drain {
  readonly #left = new Set<Socket>()
  readonly #isMoreToCome: () => boolean
  readonly #onEmpty: () => void

  constructor(sockets: Iterable<Socket>, servers: Iterable<AttachedServer>, isMoreToCome: () => boolean, onEmpty: () => void) {
    this.#isMoreToCome = isMoreToCome
    this.#onEmpty = onEmpty
    for (const attached of servers) if (attached.kind === 'http') drainHttp(attached.server as HttpServer)
    this.add(sockets)
  }

  /** Connections that stay as well. */
  add(sockets: Iterable<Socket>): void {
    for (const socket of sockets) {
      if (socket.destroyed) continue
      this.#left.add(socket)
      socket.once('close', () => this.forget(socket))
      const response = httpMessageOf(socket)
      if (response) response.shouldKeepAlive = false
    }
    this.#tellIfEmpty()
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
    if (this.#left.size === 0 && !this.#isMoreToCome()) this.#onEmpty()
  }

  /** The grace period is over. */
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

/** Idle connections end now, the others with their response: it says `Connection: close`. */
function drainHttp(server: HttpServer): void {
  server.prependListener('request', serverOnRequest)
  server.closeIdleConnections()
}

function serverOnRequest(this: HttpServer, _request: IncomingMessage, response: ServerResponse): void {
  response.shouldKeepAlive = false
}
