import type { Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import type { SocketWitness } from '../native/net-internals/surviving.js'

/** Whoever looks after guarded connections. */
interface Keeper {
  /** Something has happened to it. */
  note(guarded: Guarded): void
  /** It is about to be closed. */
  dismiss(guarded: Guarded, byReset: boolean): void
}

/** A connection of which the keeper has a copy. */
export class Guarded implements SocketWitness {
  readonly attached: AttachedServer
  readonly socket: Socket
  readonly place: number
  readonly fd: number
  /** Whether the last thing that happened to it is something that the application did; what a client has not said anything on is answered. */
  isAnswered = true
  isNoted = false
  readonly #keeper: Keeper

  constructor(keeper: Keeper, attached: AttachedServer, socket: Socket, place: number, fd: number) {
    this.#keeper = keeper
    this.attached = attached
    this.socket = socket
    this.place = place
    this.fd = fd
  }

  note(): void {
    if (this.isNoted) return
    this.isNoted = true
    this.#keeper.note(this)
  }

  reads(): void {
    this.isAnswered = false
    this.note()
  }

  writes(): void {
    this.isAnswered = true
    this.note()
  }

  closes(byReset: boolean): void {
    this.#keeper.dismiss(this, byReset)
  }

  /** The application holds it by `defer`, or not any more: the end of a hold is its word for that it is done. */
  isTold(): void {
    this.writes()
  }
}
