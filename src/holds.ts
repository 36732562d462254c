import type { Socket } from 'node:net'

/** Connections that the application is in the middle of something with: they move when it is done. */
export class Holds {
  readonly #counts = new Map<Socket, number>()
  readonly #waiting = new Set<() => void>()

  /** Number of connections that are held now. */
  get size(): number {
    return this.#counts.size
  }

  isHeld(socket: Socket): boolean {
    return this.#counts.has(socket)
  }

  hold(socket: Socket): Disposable {
    this.#counts.set(socket, (this.#counts.get(socket) ?? 0) + 1)
    let held = true
    return {
      [Symbol.dispose]: () => {
        if (!held) return
        held = false
        const left = (this.#counts.get(socket) ?? 1) - 1
        if (left > 0) this.#counts.set(socket, left)
        else this.#counts.delete(socket)
        if (left <= 0) for (const callback of [...this.#waiting]) callback()
      },
    }
  }

  /** Calls back whenever a connection is held no more; returns how to stop that. */
  onRelease(callback: () => void): () => void {
    this.#waiting.add(callback)
    return () => this.#waiting.delete(callback)
  }
}
