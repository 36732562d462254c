import type { Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import { keeper, prepareKeeper } from '../holders/keeper.js'
import type { Installation } from '../installation.js'
import { watchFarewells } from './farewells.js'
import { Guard } from './guard.js'

/**
 * Crash survival of one process, from the first server on that asks for it: the keeper has copies of its listeners and connections, and the ledger says where
 * each was at a boundary last. It notes connections that something has happened to, and looks at them once a turn of the loop, when all handlers have run.
 */
export class Survival {
  readonly #installation: Installation
  readonly #servers = new Set<AttachedServer>()
  #guard: Guard | undefined
  #unwatchFarewells: (() => void) | undefined
  #hasFailed = false
  #begins = false

  constructor(installation: Installation) {
    this.#installation = installation
    prepareKeeper(installation.env)
  }

  /** A server that asks for it listens. */
  watch(attached: AttachedServer): void {
    if (this.#servers.has(attached)) return this.#guard?.offerSoon()
    const serverOnConnection = (socket: Socket) => this.#guard?.take(attached, socket)
    attached.server.prependListener('connection', serverOnConnection)
    this.#servers.add(attached)
    this.#guard?.offerSoon()
    if (this.#begins) return
    this.#begins = true
    void this.#installation.lifecycle.owned.then(() => this.begin())
  }

  /** This process serves, and has everything that it took over. */
  begin(): void {
    if (this.#guard || this.#hasFailed || !this.#installation.lifecycle.isOwner) return
    const why = keeper.unavailable(this.#installation)
    if (why) return this.#fail(why)
    try {
      this.#guard = new Guard(this.#installation, this.#servers, () => {
        this.#end()
        this.#fail('the keeper has gone')
      })
      this.#unwatchFarewells = watchFarewells(() => this.letGo())
    } catch (error) {
      this.#fail((error as Error).message)
    }
  }

  /** Everything is somebody else's from now on, or this process ends by itself. `begin` is the inverse. Must come before any descriptor is closed. */
  letGo(): void {
    this.#end()?.goodbye()
  }

  #end(): Guard | undefined {
    const guard = this.#guard
    this.#guard = undefined
    this.#unwatchFarewells?.()
    this.#unwatchFarewells = undefined
    guard?.close()
    return guard
  }

  #fail(why: string): void {
    this.#hasFailed = true
    this.#installation.env.log(
      `a crash of this process would end its connections, although survival is asked for: ${why} (ERR_TSUNAGI_SURVIVE)`,
    )
  }
}
