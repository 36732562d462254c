import { ControlSocket } from '../channel/control-socket.js'
import type { Canary } from '../channel/messages.js'
import type { Peer } from '../channel/peer.js'
import { controlDirectory, controlSocketPath } from '../channel/rendezvous.js'
import { Reserve } from '../channel/reserve.js'
import { halves } from '../halves.js'
import type { HandoverReport } from '../handover/report.js'
import type { Installation } from '../installation.js'
import type { Conversation } from './conversation.js'

/** Somebody in this process who waits for a successor: a reload that has started one. */
export interface SuccessorWatcher {
  /** What the successor will say in its hello. */
  readonly token: string
  /** What whoever has asked for the reload wishes; goes before what the new version does. */
  readonly canary?: Canary | undefined
  succeeded(report: HandoverReport): void
  failed(error: Error): void
}

/** Where successors find this process: one control socket for each address that it listens on. One successor is served at a time. */
export class Desk {
  readonly reserve = new Reserve()
  readonly #installation: Installation
  readonly #sockets = new Map<string, ControlSocket<Peer>>()
  #busyWith: Conversation | undefined
  #watcher: SuccessorWatcher | undefined
  #disarm = () => {}

  constructor(installation: Installation) {
    this.#installation = installation
  }

  get busyWith(): Conversation | undefined {
    return this.#busyWith
  }

  /** Lets successors for this address come here. From now on the address's file is ours: a dead process's or a retired predecessor's is replaced. */
  publish(key: string): void {
    const { env } = this.#installation
    if (this.#sockets.has(key)) return
    const path = controlSocketPath(controlDirectory(env.environment), key)
    const socket = new ControlSocket(
      env.native,
      path,
      (native, fd) => halves().peerOf(native, fd),
      (peer) => this.#socketOnPeer(peer),
      (error) => env.log(`a process that asked for a handover was not answered: ${error.message}`),
      this.reserve,
    )
    this.#sockets.set(key, socket)
    this.reserve.keep()
  }

  /** The inverse, for one address. */
  unpublish(key: string): void {
    this.#sockets.get(key)?.close()
    this.#sockets.delete(key)
  }

  hasPublished(key: string): boolean {
    return this.#sockets.has(key)
  }

  /** A successor has died that had put its own sockets in the place of ours. */
  republish(): void {
    const keys = [...this.#sockets.keys()]
    this.close()
    for (const key of keys) this.publish(key)
  }

  close(): void {
    for (const socket of this.#sockets.values()) socket.close()
    this.#sockets.clear()
  }

  // ---- who takes over

  serve(conversation: Conversation): void {
    this.#busyWith = conversation
    this.#installation.gate.close()
    this.#disarm = this.#installation.protocols.arm(this.#installation.servers)
  }

  /** It has gone before it took over. */
  dismiss(conversation: Conversation, reason: Error): void {
    if (this.#busyWith === conversation) this.dismissSuccessor(reason)
  }

  dismissSuccessor(reason: Error): void {
    this.#busyWith = undefined
    this.#disarm()
    this.#installation.gate.open()
    this.#watcher?.failed(reason)
  }

  succeeded(report: HandoverReport): void {
    this.#watcher?.succeeded(report)
  }

  /** Whether a process with this token was started by us, and may take over although it is our child. */
  expects(token: string): boolean {
    return token !== '' && token === this.#watcher?.token
  }

  /** What the reload that has started the process with this token wishes. */
  canaryFor(token: string): Canary | undefined {
    return this.expects(token) ? this.#watcher?.canary : undefined
  }

  get isWatched(): boolean {
    return this.#watcher !== undefined
  }

  watch(watcher: SuccessorWatcher | undefined): void {
    this.#watcher = watcher
  }

  #socketOnPeer(peer: Peer): void {
    ;new (halves().Conversation)(this.#installation, peer)
  }
}
