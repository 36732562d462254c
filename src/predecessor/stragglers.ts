import type { Socket } from 'node:net'
import type { Installation } from '../installation.js'
import { obstacleOf } from '../protocols/raw.js'

/** Connections that were in the middle of something when the others moved. Each moves alone, once what was in the way has passed. */
export class Stragglers {
  readonly #installation: Installation
  readonly #sockets = new Set<Socket>()
  readonly #onPassed: () => void
  #unwatchHolds: (() => void) | undefined

  constructor(installation: Installation, onPassed: () => void) {
    this.#installation = installation
    this.#onPassed = onPassed
  }

  watch(sockets: Iterable<Socket>): void {
    const { carried, servers, env } = this.#installation
    const isTorn = carried.hasServerState([...servers].map(({ server }) => server))
    let torn = 0
    for (const socket of sockets) {
      // What it carries may share objects with what the server carries, and that is in the other process already.
      if (isTorn && carried.asksFor(socket)) torn++
      else this.#watch(socket)
    }
    if (torn > 0)
      env.log(`${torn} connections that were deferred drain: they carry state beside state of the whole server, which has moved`)
    if (this.#sockets.size > 0) this.#unwatchHolds ??= this.#installation.holds.onRelease(() => this.#somethingPassed())
  }

  /** Those that can move now. */
  ready(): Set<Socket> {
    const ready = new Set<Socket>()
    for (const socket of this.#sockets) {
      if (socket.destroyed || (!this.#installation.holds.isHeld(socket) && obstacleOf(socket) === undefined)) {
        this.#sockets.delete(socket)
        if (!socket.destroyed) ready.add(socket)
      }
    }
    return ready
  }

  #watch(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on('unpipe', () => this.#somethingPassed())
  }

  /** Not in the handler that releases it: what it writes next belongs before the move. */
  #somethingPassed(): void {
    setImmediate(this.#onPassed)
  }
}
