import type { AttachedServer } from '../attached-server.js'
import { controlDirectory } from '../channel/rendezvous.js'
import { storedSnapshots } from '../cold/stored-files.js'
import { halves } from '../halves.js'
import type { Installation } from '../installation.js'
import { startAccepting } from '../listener.js'
import type { Slot } from '../slot.js'
import { Announcement } from '../triggers/announcement.js'
import type { HeldSessions } from './held-sessions.js'
import type { Session } from './session.js'

/** Whom this process takes over from: processes that it has found, and holders of what one has left. Most processes find nobody. */
export class Predecessors {
  readonly #installation: Installation
  readonly #announcement = new Announcement()
  readonly #sessions: Session[] = []
  #heldSessions: HeldSessions | undefined
  /** One that was found has not handed over: it serves on. */
  haveRefused = false

  constructor(installation: Installation) {
    this.#installation = installation
    void installation.lifecycle.owned.then(() => this.#announcement.release())
  }

  /** The supervisor of this worker waits for the application's 'ready'. */
  watchReady(): void {
    this.#announcement.watch()
  }

  /** Whether one was found that has not handed over yet. */
  get areExpected(): boolean {
    return this.#sessions.length + (this.#heldSessions?.size ?? 0) > 0
  }

  get #held(): HeldSessions {
    this.#heldSessions ??= new (halves().HeldSessions)(this.#installation)
    return this.#heldSessions
  }

  /** The listener of whoever holds this server's address. */
  inherit(attached: AttachedServer): number | undefined {
    if (process.argv[1] === undefined) return undefined // `node -e` and a REPL are nobody's next version (P9)
    for (const session of this.#sessions) {
      const fd = session.claim(attached)
      if (fd !== undefined) return fd
    }
    const opened = this.#openSession(attached.key)
    if (opened === undefined) return this.#held.claim(attached, true)?.held.takeListener(attached.key)
    opened.session.claimed.set(attached.key, attached)
    return opened.fd
  }

  inheritDatagrams(key: string): number | undefined {
    if (process.argv[1] === undefined) return undefined
    try {
      for (const session of this.#sessions) {
        const fd = session.claimDatagrams(key)
        if (fd !== undefined) return fd
      }
      const opened = this.#openSession(key)
      opened?.session.datagrams.add(key)
      return opened?.fd ?? this.#held.claimDatagrams(key)
    } catch (error) {
      this.#installation.env.log((error as Error).message) // the socket itself says that the address is in use
      return undefined
    }
  }

  #openSession(key: string): { session: Session; fd: number } | undefined {
    const opened = halves().openSession(this.#installation, key)
    this.#adopt(opened?.session)
    return opened
  }

  /** From here on there is a predecessor. */
  #adopt(session: Session | undefined): Session | undefined {
    if (session === undefined) return undefined
    this.#installation.env.fault('successor-after-welcome')
    this.#sessions.push(session)
    void this.#takeOver(session)
    this.#installation.hasListener()
    return session
  }

  /** Whether there is something to take over for a server whose address was free: from a holder, or from a process of our name. */
  find(attached: AttachedServer): boolean {
    if (process.argv[1] === undefined) return false
    // Most starts find nothing on disk, and need no more than to have looked.
    const mayBe = this.#heldSessions || storedSnapshots(controlDirectory(this.#installation.env.environment)).length > 0
    return (mayBe && this.#held.claim(attached, false) !== undefined) || this.#findNamed(attached)
  }

  /** Whether a process of our name, which listens elsewhere, hands over to this one. Where one was found by its address there is no other. */
  #findNamed(attached: AttachedServer): boolean {
    const { name } = this.#installation
    if (name === undefined || attached.path || this.#installation.lifecycle.isOwner || (this.#heldSessions?.size ?? 0) > 0) return false
    const session = this.#sessions[0] ?? this.#adopt(halves().openNamedSession(this.#installation, name))
    if (session?.name === undefined) return false
    session.await(attached)
    return true
  }

  /** Who has connections of this server for the worker in its slot. */
  inheritSlot(attached: AttachedServer): 'worker' | 'holder' | undefined {
    const { slot, desk, env } = this.#installation
    if (slot === undefined || (!this.areExpected && desk.hasPublished(slot.key))) return undefined
    try {
      const claimed = this.#sessions.some((session) => session.claimShared(attached))
      if (claimed || this.#openSlotSession(slot)?.claimShared(attached)) return 'worker'
    } catch (error) {
      // The primary has its listener for it in any case: this worker serves, and the connections of the other end as they do without us.
      env.log(`the connections of the worker that this one replaces stay there: ${(error as Error).message}`)
    }
    return this.#inheritSlotHeld(attached, slot) ? 'holder' : undefined
  }

  #inheritSlotHeld(attached: AttachedServer, slot: Slot): boolean {
    try {
      if (!this.#held.claimShared(attached, slot.key)) return false
      this.#waitAsWorker(slot)
      return true
    } catch (error) {
      this.#installation.env.log(`what was held for this worker stays where it is: ${(error as Error).message}`)
      return false
    }
  }

  /** The supervisor must not take this worker for one that serves before it does. */
  #waitAsWorker({ saysReady }: Slot): void {
    this.#announcement.hold()
    if (saysReady) this.#installation.lifecycle.ready(this.#announcement.ready)
  }

  #openSlotSession(slot: Slot): Session | undefined {
    if (this.#sessions.length > 0) return undefined
    const session = halves().openWorkerSession(this.#installation, slot.key)
    if (session === undefined) return undefined
    this.#installation.env.fault('successor-after-welcome')
    this.#waitAsWorker(slot)
    this.#sessions.push(session)
    void this.#takeOver(session)
    return session
  }

  /** This worker serves, and takes the connections of another one of its primary, which has the same servers. */
  takeOverFrom(place: string): boolean {
    const session = halves().openWorkerSession(this.#installation, place)
    if (session === undefined) return false
    for (const attached of this.#installation.servers) if (attached.isShared) session.claimShared(attached)
    this.#sessions.push(session)
    void this.#takeOver(session)
    return true
  }

  async #takeOver(session: Session): Promise<void> {
    // A listener that does not accept yet does not hold the loop, and the channel must not: this does until it is decided.
    const keepAlive = setTimeout(() => {}, 2 ** 31 - 1)
    try {
      await halves().takeOver(this.#installation, session)
      this.#sessions.splice(this.#sessions.indexOf(session), 1) // what it still holds is not for later listen() calls to ask for
    } catch (error) {
      this.#sessions.splice(this.#sessions.indexOf(session), 1)
      if (this.#held.claimInstead(session)) session.close(error as Error)
      else this.#goWithout(session, error as Error)
    } finally {
      if (!this.areExpected) this.#announcement.release()
      clearTimeout(keepAlive)
    }
  }

  /** Nothing came of it. */
  #goWithout(session: Session, error: Error): void {
    if (halves().isEndOfChannel(error) && session.peer.provesDeath(DEATH_TIMEOUT)) return this.#serveAlone(session)
    this.haveRefused = true
    session.close(error)
    for (const attached of session.claimed.values()) {
      if (attached.isShared) continue
      attached.key = ''
      attached.server.close()
      attached.server.emit('error', error)
    }
    this.#installation.datagrams.giveUp(session.datagrams, error)
    this.#serveSlot(session, error)
  }

  /** The predecessor died before there was anything to take over: its connections are gone, its listener is ours. */
  #serveAlone(session: Session): void {
    this.#installation.env.log(
      `the predecessor, process ${session.predecessor}, died before the handover: this process serves its listeners, the connections that it had were lost with it`,
    )
    halves().serveAll(this.#installation, session)
    session.close()
    this.#installation.lifecycle.own()
  }

  /** There was nothing to be had from the worker that this one replaces: it does its own work. */
  #serveSlot(session: Session, { message }: Error): void {
    const shared = [...session.claimed.values()].filter(({ isShared }) => isShared)
    if (shared.length === 0) return
    this.#installation.env.log(
      `this worker serves without the connections of the one that it replaces, process ${session.predecessor}: ${message}`,
    )
    for (const attached of shared) {
      startAccepting(this.#installation.env.native, attached)
      this.#installation.publish(attached)
    }
    this.#installation.lifecycle.own()
  }
}

/** A process that dies closes its descriptors a moment before it counts as dead, ms. */
const DEATH_TIMEOUT = 1_000
