import type { AttachedServer } from '../attached-server.js'
import { findHeld } from '../holders/holders.js'
import { keysOf } from '../holders/keys.js'
import type { Installation } from '../installation.js'
import type { Session } from './session.js'
import { type HeldSession, takeHeld } from './take-held.js'

/** What holders have for this process, from the moment at which it was found until it serves it. */
export class HeldSessions {
  readonly #installation: Installation
  readonly #sessions: HeldSession[] = []

  constructor(installation: Installation) {
    this.#installation = installation
  }

  get size(): number {
    return this.#sessions.length
  }

  /** What is held for this server's address, which is taken over as soon as this process is ready. */
  claim(attached: AttachedServer, isTaken: boolean): HeldSession | undefined {
    const session = this.#known(attached.key) ?? this.#find(attached.key, isTaken)
    session?.claimed.set(attached.key, attached)
    return session
  }

  /** The same for a cluster worker's server, whose connections the worker of the same slot has left. */
  claimShared(attached: AttachedServer, slot: string): boolean {
    const session = this.#known(slot) ?? this.#find(slot, true)
    if (!session?.held.bequest.shared.includes(attached.key)) return false
    session.claimed.set(attached.key, attached)
    return true
  }

  /** The same for a UDP socket: its descriptor, which the caller then owns. */
  claimDatagrams(key: string): number | undefined {
    const session = this.#known(key) ?? this.#find(key, true)
    const fd = session?.held.takeListener(key)
    if (fd !== undefined) session?.datagrams.add(key)
    return fd
  }

  /**
   * A predecessor that had to leave before it could hand over may have left with a holder what this session was about: then it is claimed there. Whether all
   * of it is; what is not stays the session's.
   */
  claimInstead({ claimed, datagrams }: Session): boolean {
    const { slot, env } = this.#installation
    const isEmpty = claimed.size + datagrams.size === 0
    for (const [key, attached] of claimed) {
      const isHeld = attached.isShared
        ? slot !== undefined && this.claimShared(attached, slot.key)
        : this.claim(attached, true) !== undefined
      if (isHeld) claimed.delete(key)
    }
    for (const key of datagrams) {
      const fd = this.claimDatagrams(key)
      if (fd === undefined) continue
      env.native.closeFds(Int32Array.of(fd)) // it is the one that this process has
      datagrams.delete(key)
    }
    return !isEmpty && claimed.size + datagrams.size === 0
  }

  #known(key: string): HeldSession | undefined {
    return this.#sessions.find(({ held }) => keysOf(held.bequest).includes(key))
  }

  #find(key: string, isTaken: boolean): HeldSession | undefined {
    const held = findHeld(this.#installation, key, isTaken)
    if (held === undefined) return undefined
    const session: HeldSession = { held, claimed: new Map(), datagrams: new Set() }
    this.#installation.env.fault('successor-after-find')
    this.#sessions.push(session)
    void this.#take(session)
    this.#installation.hasListener()
    return session
  }

  async #take(session: HeldSession): Promise<void> {
    // A listener that does not accept yet does not hold the loop: this does until it is decided.
    const keepAlive = setTimeout(() => {}, 2 ** 31 - 1)
    await takeHeld(this.#installation, session)
    clearTimeout(keepAlive)
    this.#sessions.splice(this.#sessions.indexOf(session), 1)
  }
}
