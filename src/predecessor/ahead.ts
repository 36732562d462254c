import net, { type Socket } from 'node:net'
import type { Channel } from '../channel/channel.js'
import { MAX_FDS_PER_MESSAGE } from '../channel/messages.js'
import type { Installation } from '../installation.js'
import { fdOf, handleOf } from '../native/net-internals.js'
import { isOutOfRoom } from './send.js'

/**
 * Copies of descriptors that go ahead of the freeze, while this process still serves their connections: a pre-copy, as when a virtual machine moves. The successor
 * puts each under a socket of its own and touches none. In the frozen block their places are named instead, and what did not go ahead is sent as ever.
 *
 * Its one rule: a copy must not be noticed. A connection that is destroyed here would live on in the successor without a word to its client, so the
 * successor is told of each at once. One batch waits for the answer to the one before: neither process stands still for it.
 */
export class Ahead {
  readonly #installation: Installation
  readonly #channel: Channel
  readonly #waiting: Socket[]
  readonly #sent: { readonly socket: Socket; readonly handle: object; readonly identity: number }[] = []
  readonly #places = new Map<Socket, number>()
  /** What `placeOf` is asked for next, mostly: Node lists its handles in one order. */
  #next = 0
  readonly #onDone: () => void
  readonly #unwatch: () => void

  /** Begins at once; `onDone` is called when all have landed. `close` has to follow. */
  constructor(installation: Installation, channel: Channel, sockets: readonly Socket[], onDone: () => void) {
    this.#installation = installation
    this.#channel = channel
    this.#waiting = [...sockets].reverse() // taken from its end
    this.#onDone = onDone
    this.#unwatch = watchDestruction((socket) => this.#socketOnDestroy(socket))
    this.#send({ connections: sockets.length, sockets: [] })
  }

  /** The successor has put a batch under its sockets. */
  landed(): void {
    const batch = this.#waiting.splice(-MAX_FDS_PER_MESSAGE).reverse()
    const sockets = batch.filter((socket) => fdOf(socket) >= 0)
    if (sockets.length > 0) this.#send({ connections: 0, sockets })
    else if (this.#waiting.length > 0) this.landed()
    else this.#onDone()
  }

  /** Place of a connection among those that went ahead, -1 for one that did not. */
  placeOf(socket: Socket): number {
    const place = this.#sent[this.#next]?.socket === socket ? this.#next : this.#places.get(socket)
    if (place === undefined || this.#sent[place]?.handle !== handleOf(socket)) return -1
    this.#next = place + 1
    return place
  }

  identityAt(place: number): number {
    return this.#sent[place]?.identity ?? 0
  }

  close(): void {
    this.#unwatch()
  }

  #send({ connections, sockets }: { connections: number; sockets: readonly Socket[] }): void {
    const fds = sockets.map(fdOf)
    if (!this.#tell(() => this.#channel.send({ type: 'ahead', connections, count: fds.length }, { fds }))) return
    const identities = this.#installation.env.native.identities(Int32Array.from(fds))
    sockets.forEach((socket, i) => {
      this.#places.set(socket, this.#sent.length)
      this.#sent.push({ socket, handle: handleOf(socket) as object, identity: identities[i] as number })
    })
  }

  #socketOnDestroy(socket: Socket): void {
    const place = this.placeOf(socket)
    if (place < 0) return
    this.#places.delete(socket)
    this.#tell(() => this.#channel.send({ type: 'ended', place }))
  }

  /** A successor that cannot be told may have what it must not keep: with the channel it lets go of everything. */
  #tell(send: () => void): boolean {
    if (this.#channel.closed) return false
    try {
      send()
      return true
    } catch (error) {
      if (isOutOfRoom(error)) this.#stop()
      else this.#channel.close(error as Error)
      return false
    }
  }

  /** Too many descriptors are in flight, of whatever processes of this user: the rest is sent in the block, which waits for room. */
  #stop(): void {
    this.#waiting.length = 0
    setImmediate(this.#onDone)
  }
}

/** Nothing of this is there while no successor boots. @note lib/internal/streams/destroy.js calls `_destroy` for `destroy`, `destroySoon` and `resetAndDestroy`, once. */
function watchDestruction(onDestroy: (socket: Socket) => void): () => void {
  const prototype = net.Socket.prototype
  const original = prototype._destroy
  const watched: typeof original = function _destroy(this: Socket, ...args) {
    onDestroy(this)
    return Reflect.apply(original, this, args)
  }
  prototype._destroy = watched
  return () => {
    if (prototype._destroy === watched) prototype._destroy = original
  }
}
