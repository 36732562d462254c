import { ControlSocket, type Peer } from '../channel/control-socket.js'
import { controlDirectory, controlSocketPath } from '../channel/rendezvous.js'
import type { Installation } from '../installation.js'
import { Conversation } from './conversation.js'

/** Where successors find this process: one control socket for each address that it listens on. */
export class Desk {
  readonly #installation: Installation
  readonly #sockets = new Map<string, ControlSocket>()
  /** The successor that is being served; there is one at a time. */
  busyWith: Conversation | undefined

  constructor(installation: Installation) {
    this.#installation = installation
  }

  /** Lets successors for this address come here. From now on the address's file is ours, a dead process's or a retired predecessor's is replaced. */
  publish(key: string): void {
    const { env } = this.#installation
    if (this.#sockets.has(key)) return
    const path = controlSocketPath(controlDirectory(env.environment), key)
    this.#sockets.set(
      key,
      new ControlSocket(
        env.native,
        path,
        (peer) => this.#socketOnPeer(peer),
        (error) => env.log(`a process that asked for a handover was not answered: ${error.message}`),
      ),
    )
  }

  close(): void {
    for (const socket of this.#sockets.values()) socket.close()
    this.#sockets.clear()
  }

  #socketOnPeer(peer: Peer): void {
    new Conversation(this.#installation, peer)
  }
}
