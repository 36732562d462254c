import type { Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import { httpMessageOf, serverHandleOf, setServerHandle } from '../native/net-internals.js'
import type { StayingConnection } from './freeze.js'

/**
 * Lets what stayed behind end by itself: a raw connection is served until its peer ends, an HTTP connection until its response is out.
 * At the end of the grace period what is left is ended politely, never reset.
 */
export class Drain {
  readonly #left = new Set<Socket>()
  readonly #onEmpty: () => void

  constructor(staying: readonly StayingConnection[], servers: Iterable<AttachedServer>, onEmpty: () => void) {
    this.#onEmpty = onEmpty
    for (const { socket } of staying) {
      this.#left.add(socket)
      socket.once('close', () => this.#socketOnClose(socket))
    }
    for (const attached of servers) if (attached.kind === 'http') drainHttp(attached.server as HttpServer)
    for (const { socket, close } of staying) {
      if (close) socket.end()
      const response = httpMessageOf(socket)
      if (response) response.shouldKeepAlive = false
    }
    if (this.#left.size === 0) onEmpty()
  }

  get left(): number {
    return this.#left.size
  }

  /** The grace period is over. */
  endAll(): void {
    for (const socket of this.#left) socket.end()
  }

  #socketOnClose(socket: Socket): void {
    this.#left.delete(socket)
    if (this.#left.size === 0) this.#onEmpty()
  }
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
