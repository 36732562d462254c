import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Server as HttpServer, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import { sayLastRequest } from '../native/net-internals.js'

/**
 * `server.maxRequestsPerSocket`. Node counts the requests of a connection where nobody sees it, so they are counted here as well, on servers that
 * have a limit when they begin to listen. A connection that has come from a predecessor is told of its last request by this count.
 */
class RequestLimit {
  readonly #counts = new WeakMap<Socket, { requests: number; readonly isOwn: boolean }>()

  attend({ server }: AttachedServer): () => void {
    const limited = server as HttpServer
    const channelOnStart = (message: unknown) => {
      const { server: its, socket, response } = message as { server: unknown; socket: Socket; response: ServerResponse }
      if (its === server) this.#count(socket, response, limited.maxRequestsPerSocket ?? 0)
    }
    const serverOnListening = () => {
      if (limited.maxRequestsPerSocket) subscribe(CHANNEL, channelOnStart)
    }
    if (server.listening) serverOnListening()
    else server.once('listening', serverOnListening)
    return () => {
      server.off('listening', serverOnListening)
      unsubscribe(CHANNEL, channelOnStart)
    }
  }

  requestsOf(socket: Socket): number {
    return this.#counts.get(socket)?.requests ?? 0
  }

  goOn(socket: Socket, requests: number): void {
    this.#counts.set(socket, { requests, isOwn: false })
  }

  #count(socket: Socket, response: ServerResponse, limit: number): void {
    const count = this.#counts.get(socket)
    if (count === undefined) return void this.#counts.set(socket, { requests: 1, isOwn: true })
    count.requests++
    if (!count.isOwn && limit > 0 && count.requests >= limit) sayLastRequest(response)
  }
}

export const requestLimit = new RequestLimit()

/** @note lib/_http_server.js publishes there before it looks at its own count. */
const CHANNEL = 'http.server.request.start'
