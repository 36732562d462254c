import type { Socket } from 'node:net'

/** Connections that the application is in the middle of something with: they move when it is done. */
export class Holds {
  readonly #counts = new Map<Socket, number>()
  readonly #waiting = new Set<() => void>()
  /** Told of a connection that is held from now on, or no more. */
  onChange: ((socket: Socket) => void) | undefined
  /** What nobody releases ends with its connection. */
  readonly #socketOnClose: (this: Socket) => void

  constructor() {
    const holds = this
    this.#socketOnClose = function socketOnClose(this: Socket) {
      holds.#release(this, 0)
    }
  }

  /** Number of connections that are held now. */
  get size(): number {
    return this.#counts.size
  }

  isHeld(socket: Socket): boolean {
    return this.#counts.has(socket)
  }

  hold(socket: Socket): Disposable {
    const before = this.#counts.get(socket) ?? 0
    if (before === 0) socket.once('close', this.#socketOnClose)
    this.#counts.set(socket, before + 1)
    if (before === 0) this.onChange?.(socket)
    let held = true
    return {
      [Symbol.dispose]: () => {
        if (held) this.#release(socket, (this.#counts.get(socket) ?? 0) - 1)
        held = false
      },
    }
  }

  #release(socket: Socket, left: number): void {
    if (left > 0) return void this.#counts.set(socket, left)
    socket.off('close', this.#socketOnClose)
    if (!this.#counts.delete(socket)) return
    this.onChange?.(socket)
    for (const callback of [...this.#waiting]) callback()
  }

  /** Calls back whenever a connection is held no more; returns how to stop that. */
  onRelease(callback: () => void): () => void {
    this.#waiting.add(callback)
    return () => this.#waiting.delete(callback)
  }
}
