import type { Socket } from 'node:net'
import type { Installation } from '../installation.js'
import { serverOf } from '../native/net-internals.js'
import type { Protocol } from '../protocols/protocol.js'

/** Connections that were in the middle of something when the others moved. Each moves alone, once what was in the way has passed. */
export class Stragglers {
  readonly #installation: Installation
  readonly #sockets = new Map<Socket, { readonly protocol: Protocol; readonly unwatch: () => void }>()
  readonly #onPassed: () => void
  /** One turned into something that cannot move. */
  readonly #onStuck: (socket: Socket) => void
  #unwatchHolds: (() => void) | undefined

  constructor(installation: Installation, onPassed: () => void, onStuck: (socket: Socket) => void) {
    this.#installation = installation
    this.#onPassed = onPassed
    this.#onStuck = onStuck
  }

  /** Returns those that drain instead. */
  watch(sockets: Iterable<Socket>): Socket[] {
    const { carried, servers, env } = this.#installation
    const isTorn = carried.hasServerState([...servers].map(({ server }) => server))
    const torn: Socket[] = []
    for (const socket of sockets) {
      // What it carries may share objects with what the server carries, and that is in the other process already.
      if (isTorn && carried.asksFor(socket)) torn.push(socket)
      else this.#watch(socket)
    }
    if (torn.length > 0)
      env.log(`${torn.length} connections that were deferred drain: they carry state beside state of the whole server, which has moved`)
    // Not in the handler that releases it: what it writes next belongs before the move.
    if (this.#sockets.size > 0) this.#unwatchHolds ??= this.#installation.holds.onRelease(() => setImmediate(this.#onPassed))
    return torn
  }

  /** Those that can move now. */
  ready(): Set<Socket> {
    const ready = new Set<Socket>()
    for (const [socket, { protocol: before }] of this.#sockets) {
      const protocol = socket.destroyed ? undefined : this.#protocolOf(socket)
      const obstacle = protocol?.obstacleOf(socket)
      if (protocol === before && (obstacle?.passes || this.#installation.holds.isHeld(socket))) continue
      this.#unwatch(socket)
      if (socket.destroyed) continue
      if (protocol !== undefined && protocol !== before)
        this.#watch(socket) // an HTTP connection has become a WebSocket
      else if (protocol === undefined || obstacle) this.#onStuck(socket)
      else ready.add(socket)
    }
    return ready
  }

  /** Nothing moves any more. Returns those that were waited for. */
  giveUp(): Socket[] {
    const sockets = [...this.#sockets.keys()]
    for (const socket of sockets) this.#unwatch(socket)
    return sockets
  }

  #watch(socket: Socket): void {
    const protocol = this.#protocolOf(socket)
    if (protocol === undefined) return this.#onStuck(socket)
    const unwatch = protocol.watch(socket, this.#onPassed)
    this.#sockets.set(socket, { protocol, unwatch })
  }

  #unwatch(socket: Socket): void {
    this.#sockets.get(socket)?.unwatch()
    this.#sockets.delete(socket)
  }

  #protocolOf(socket: Socket): Protocol | undefined {
    const server = serverOf(socket)
    return this.#installation.protocols.of(socket, server ? this.#installation.attachedTo(server) : undefined)
  }
}
