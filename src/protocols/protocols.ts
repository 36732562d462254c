import type { Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import type { Native } from '../native/native.js'
import { http } from './http.js'
import { http2 } from './http2.js'
import { mqtt } from './mqtt/mqtt.js'
import type { Protocol } from './protocol.js'
import { raw } from './raw.js'
import { sse } from './sse.js'
import { https, tls } from './under-tls.js'

/** The protocols of this process, the most particular first: what nobody before `raw` knows is asked there. */
export class Protocols {
  readonly #all: Protocol[]

  constructor(native?: Native) {
    this.#all = [sse, http, https, http2(native), tls, mqtt, raw]
  }

  /** Takes in a protocol that comes before those that are here. Returns how to take it out again. */
  add(protocol: Protocol): () => void {
    this.#all.unshift(protocol)
    return () => this.#all.splice(this.#all.indexOf(protocol), 1)
  }

  prepare(): void {
    for (const protocol of this.#all) protocol.prepare?.()
  }

  /** A successor boots. Returns how to undo what is done for it. */
  arm(servers: Iterable<AttachedServer>): () => void {
    const undo: (() => void)[] = []
    for (const attached of servers) for (const protocol of this.#all) if (protocol.arm) undo.push(protocol.arm(attached))
    return () => {
      for (const one of undo) one()
    }
  }

  /** Whose connection this is now; `undefined` for one that nothing here understands: it drains. */
  of(socket: Socket, attached: AttachedServer | undefined): Protocol | undefined {
    for (const protocol of this.#all) if (protocol.knows(socket, attached)) return protocol
    return undefined
  }

  /** Whether connections pass something on to each other by what this library knows, and so have to come to rest together. */
  areTogether(): boolean {
    return this.#all.some(({ together }) => together?.isInUse())
  }

  /** They come to rest: nothing is read from them any more. Calls back from a fresh macrotask. */
  rest(onRest: () => void): void {
    const together = this.#all.map((protocol) => protocol.together).find((one) => one?.isInUse())
    if (together) together.rest(onRest)
    else setImmediate(onRest)
  }

  named(name: string): Protocol | undefined {
    return this.#all.find((protocol) => protocol.name === name)
  }
}
