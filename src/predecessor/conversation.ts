import type { Received } from '../channel/codec.js'
import type { Peer } from '../channel/control-socket.js'
import { type Message, type MessageOf, PROTOCOL, type StateDefinition } from '../channel/messages.js'
import { isSameFamily } from '../channel/rendezvous.js'
import { type ErrorCode, TsunagiError } from '../errors.js'
import type { Installation } from '../installation.js'
import { serverFdOf } from '../native/net-internals.js'
import { VERSION } from '../version.js'
import { type HandedOver, handOver } from './hand-over.js'
import { Settlement } from './settle.js'

/** One successor, from its hello to its resumption. At most one of a process is past `welcome` at any time. */
export class Conversation {
  readonly #installation: Installation
  readonly #peer: Peer
  #claimed = new Set<string>()
  #states: StateDefinition[] = []
  #welcomed = false
  #attempts = 0

  constructor(installation: Installation, peer: Peer) {
    this.#installation = installation
    this.#peer = peer
    peer.channel.listen({
      onMessage: (received) => this.#channelOnMessage(received),
      onClose: () => this.#end(),
    })
  }

  get pid(): number {
    return this.#peer.credentials.pid
  }

  #channelOnMessage({ message, fds }: Received): void {
    this.#peer.channel.closeFds(fds) // a successor has no descriptor to give
    switch (message.type) {
      case 'hello':
        return this.#welcome(message)
      case 'claim':
        return this.#offer(message.address)
      case 'ready':
        return this.#prepare(message)
      case 'go':
        return this.#go()
      case 'ack':
      case 'nack':
        return // it crossed our abort
      default:
        throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', `The successor sent "${message.type}" before the handover.`, { phase: 'negotiate' })
    }
  }

  #welcome(hello: MessageOf<'hello'>): void {
    const refusal = this.#refusal(hello)
    if (refusal) {
      this.#send({ type: 'refused', ...refusal })
      return this.#peer.channel.close()
    }
    const attached = this.#installation.serverAt(hello.address)
    const fd = attached ? serverFdOf(attached.server) : -1
    if (fd < 0) {
      this.#send({ type: 'refused', code: 'RELATED', reason: 'this process does not listen there any more' })
      return this.#peer.channel.close()
    }
    this.#welcomed = true
    this.#installation.desk.busyWith = this
    this.#claimed.add(hello.address)
    this.#send(
      {
        type: 'welcome',
        protocol: Math.min(PROTOCOL.max, hello.protocolMax),
        pid: process.pid,
        version: VERSION,
        node: process.version,
        generation: this.#installation.generation,
      },
      [fd],
    )
  }

  #refusal(hello: MessageOf<'hello'>): { code: ErrorCode | 'RELATED'; reason: string } | undefined {
    const { uid, pid } = this.#peer.credentials
    const own = process.geteuid?.() ?? 0
    if (uid !== own) return { code: 'ERR_TSUNAGI_PEER', reason: `it runs as uid ${uid}, process ${process.pid} as uid ${own}` }
    if (pid === process.pid || isSameFamily(pid, process.pid))
      return { code: 'RELATED', reason: 'it is a parent or child of the process that listens there' }
    if (hello.protocolMin > PROTOCOL.max || hello.protocolMax < PROTOCOL.min) {
      return {
        code: 'ERR_TSUNAGI_PROTOCOL',
        reason: `it speaks protocol ${hello.protocolMin} to ${hello.protocolMax} (tsunagi ${hello.version}), process ${process.pid} speaks ${PROTOCOL.min} to ${PROTOCOL.max} (tsunagi ${VERSION})`,
      }
    }
    const { busyWith } = this.#installation.desk
    if (busyWith) return { code: 'ERR_TSUNAGI_BUSY', reason: `process ${busyWith.pid} is taking over from process ${process.pid} just now` }
    if (!this.#installation.lifecycle.isOwner)
      return { code: 'ERR_TSUNAGI_BUSY', reason: `process ${process.pid} has not taken over yet itself, or has just handed over` }
    return undefined
  }

  #offer(address: string): void {
    const attached = this.#welcomed ? this.#installation.serverAt(address) : undefined
    const fd = attached ? serverFdOf(attached.server) : -1
    if (fd >= 0) this.#claimed.add(address)
    this.#send({ type: 'listener', address, found: fd >= 0 }, fd >= 0 ? [fd] : [])
  }

  #prepare(ready: MessageOf<'ready'>): void {
    if (!this.#welcomed)
      throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', 'The successor sent "ready" before "hello".', { phase: 'negotiate' })
    this.#claimed = new Set(ready.claimed.filter((key) => this.#claimed.has(key)))
    this.#states = ready.states
    const refusal = this.#stateRefusal()
    if (refusal) {
      this.#send({ type: 'refused', code: 'ERR_TSUNAGI_STATE_VERSION', reason: refusal })
      return this.#peer.channel.close()
    }
    const connections = [...this.#installation.finder.find(this.#installation.servers).values()].reduce(
      (sum, { length }) => sum + length,
      0,
    )
    this.#send({ type: 'prepare', connections, bytes: 0 })
  }

  /** Server-wide state in a version that the new code cannot take refuses the whole handover, before anything is frozen. */
  #stateRefusal(): string | undefined {
    for (const attached of this.#installation.servers) {
      for (const [name, { version }] of this.#installation.carried.ofServer(attached.server)) {
        const theirs = this.#states.find((state) => state.scope === attached.key && state.name === name)
        if (theirs && theirs.version !== version && !theirs.migrates) {
          return `the server at ${attached.key} carries ${JSON.stringify(name)} in version ${version}, the new code declares version ${theirs.version} and no migrate function`
        }
      }
    }
    return undefined
  }

  /** What connections carry and the new code cannot take; a name it does not declare counts as version 0. */
  #unmigratable(): Map<string, string> {
    const versions = new Map<string, Set<number>>()
    for (const sockets of this.#installation.finder.find(this.#installation.servers).values()) {
      for (const socket of sockets) {
        for (const [name, { version }] of this.#installation.carried.everythingOf(socket)) {
          versions.set(name, (versions.get(name) ?? new Set()).add(version))
        }
      }
    }
    const unmigratable = new Map<string, string>()
    for (const [name, held] of versions) {
      const theirs = this.#states.find((state) => state.scope === '' && state.name === name) ?? { version: 0, migrates: false }
      const foreign = [...held].find((version) => version !== theirs.version)
      if (foreign !== undefined && !theirs.migrates) {
        unmigratable.set(
          name,
          `it carries ${JSON.stringify(name)} in version ${foreign}, the new code declares version ${theirs.version} and no migrate function`,
        )
      }
    }
    return unmigratable
  }

  /** The successor sits in its receive loop. A fresh macrotask, so that no promise of the application is half way. */
  #go(): void {
    this.#peer.channel.pause()
    setImmediate(() => this.#handOver())
  }

  #handOver(): void {
    const { channel } = this.#peer
    const settlement = new Settlement(this.#installation, this.#peer)
    let handed: HandedOver
    try {
      handed = handOver(this.#installation, {
        channel,
        claimed: this.#claimed,
        unmigratable: this.#unmigratable(),
        sinkFor: (index) => settlement.sinkFor(index),
      })
    } catch (error) {
      // A fault of our own after the commit must not look like an abort: two owners would be the result.
      if (!(error instanceof TsunagiError && error.serving)) throw error
      return this.#abort(error)
    }
    settlement.begin(handed)
  }

  /** Still before commit: says so, and listens again. A successor that was only slow may try again, a little later each time. */
  #abort(error: TsunagiError): void {
    const { channel } = this.#peer
    const again = ++this.#attempts < MAX_ATTEMPTS && isTransient(error.cause)
    this.#installation.env.log(`${error.message}${again ? ' It will be tried again.' : ''}`)
    this.#installation.emitFailure(error)
    try {
      const cause = error.cause as { code?: string } | undefined
      channel.send({ type: 'abort', code: cause?.code ?? error.code, reason: error.message, again })
      channel.listen({ onMessage: (received) => this.#channelOnMessage(received), onClose: () => this.#end() })
      if (!again) channel.close()
    } catch {
      channel.close() // it does not read any more, or has died: nothing was changed here, so there is nothing to tell
      this.#end()
    }
  }

  #send(message: Message, fds: number[] = []): void {
    this.#peer.channel.send(message, { fds })
  }

  #end(): void {
    if (this.#installation.desk.busyWith === this) this.#installation.desk.busyWith = undefined
    this.#peer.closePidfd()
  }
}

const MAX_ATTEMPTS = 4

/** Out of time, or of room: another try may do. Anything else will be the same next time. */
function isTransient(cause: unknown): boolean {
  const code = (cause as { code?: string } | undefined)?.code ?? ''
  return ['ERR_TSUNAGI_ABORTED', 'ETIMEDOUT', 'ETOOMANYREFS', 'ENOBUFS', 'ENOMEM'].includes(code)
}
