import net, { type Server, type Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import { activeSockets, serverOf } from '../native/net-internals.js'

/**
 * Finds every accepted connection of the attached servers without having watched any of them: Node knows its handles.
 * Only those that were unref'ed are missing there, so `unref` keeps a note of them. Nothing is on the path of accept or write.
 */
export class ConnectionFinder {
  readonly #unreferenced = new Set<WeakRef<Socket>>()
  readonly #original = net.Socket.prototype.unref

  constructor() {
    const unreferenced = this.#unreferenced
    const original = this.#original
    net.Socket.prototype.unref = function unref(this: Socket) {
      unreferenced.add(new WeakRef(this))
      return original.call(this)
    }
  }

  /** Accepted connections by server, in no particular order. */
  find(servers: Iterable<AttachedServer>): Map<AttachedServer, Socket[]> {
    const byServer = new Map<Server, Socket[]>()
    const found = new Map<AttachedServer, Socket[]>()
    for (const attached of servers) {
      const sockets: Socket[] = []
      byServer.set(attached.server, sockets)
      found.set(attached, sockets)
    }
    const active = activeSockets()
    const noted = [...this.#noted()]
    for (const socket of noted.length > 0 ? new Set([...active, ...noted]) : active) {
      const server = serverOf(socket)
      if (server && !socket.destroyed) byServer.get(server)?.push(socket)
    }
    return found
  }

  /** Puts `unref` back. */
  close(): void {
    net.Socket.prototype.unref = this.#original
  }

  *#noted(): Iterable<Socket> {
    for (const reference of this.#unreferenced) {
      const socket = reference.deref()
      if (socket === undefined || socket.destroyed) this.#unreferenced.delete(reference)
      else yield socket
    }
  }
}
