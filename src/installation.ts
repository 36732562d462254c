import type { Server, Socket } from 'node:net'
import { AttachedServer } from './attached-server.js'
import { CarriedState } from './carry/carried-state.js'
import type { StateDefinition } from './channel/messages.js'
import { controlDirectory, nameKey } from './channel/rendezvous.js'
import { storedSnapshots } from './cold/stored-files.js'
import { type DatagramKeeper, Datagrams } from './datagrams.js'
import type { Env } from './env.js'
import type { TsunagiError } from './errors.js'
import { halves } from './halves.js'
import { bootDone } from './handover/boot-done.js'
import type { HandoverReport } from './handover/report.js'
import { Holds } from './holds.js'
import { Lifecycle, quietTurn } from './lifecycle.js'
import { type ListenerKeeper, startAccepting, unreachableListener, wrapListen } from './listener.js'
import { type MoveRule, readMoveRule } from './move-rule.js'
import { type Listen2, serverOf } from './native/net-internals.js'
import { gracePeriod, resolveOptions } from './options.js'
import { PendingListens } from './pending-listens.js'
import { Desk } from './predecessor/desk.js'
import type { Drain } from './predecessor/drain.js'
import { ConnectionFinder } from './predecessor/enumerate.js'
import { RepeatingTimers } from './predecessor/repeating-timers.js'
import { attend } from './protocols/attend.js'
import type { Protocols } from './protocols/protocols.js'
import { isClusterWorker, placeOf, programOf, readSlot, type Slot } from './slot.js'
import type { Flow } from './successor/flow.js'
import { Resumption } from './successor/resumption.js'
import type { Session } from './successor/session.js'
import type { HeldSession } from './successor/take-held.js'
import { Announcement } from './triggers/announcement.js'
import { handOverWhenDisconnected } from './triggers/disconnect.js'
import { ExitWish } from './triggers/exit-wish.js'
import { SignalGate } from './triggers/signals.js'
import type { ReloadOptions } from './triggers/spawn.js'
import { reportBoot } from './triggers/spawned.js'
import { leaveAfterStart } from './triggers/start.js'
import { readStartCommand, type StartCommand } from './triggers/start-command.js'
import { supervisedBy, systemdOf } from './triggers/started-by.js'
import type { Supervised } from './triggers/supervised.js'
import type { Systemd } from './triggers/systemd.js'
import { endBefore, leaveAsWorker } from './triggers/worker.js'

/**
 * This library in one process: its servers, what they carry, whom it takes over from and to whom it hands over.
 * A process has one, made by the first `attach`; it connects the two halves and knows nothing of how they work.
 */
export class Installation implements ListenerKeeper, DatagramKeeper {
  readonly env: Env
  readonly servers = new Set<AttachedServer>()
  readonly carried = new CarriedState()
  readonly lifecycle = new Lifecycle()
  readonly resumption = new Resumption()
  readonly holds = new Holds()
  readonly moveRule: MoveRule
  /** What the process that started this one as its successor gave it. */
  readonly token: string
  readonly finder = new ConnectionFinder()
  readonly timers = new RepeatingTimers()
  readonly datagrams = new Datagrams(this)
  readonly desk = new Desk(this)
  readonly exit: ExitWish
  readonly slot: Slot | undefined
  /** Where the next version finds this process even if it listens elsewhere. */
  readonly name: string | undefined
  /** Where a cluster worker is found by others of its primary. */
  place: string | undefined
  readonly gate: SignalGate
  readonly start: StartCommand
  readonly grace: number
  generation = 1
  /** Whether every server of the process takes part. */
  registered = false
  readonly #listens = new PendingListens()
  readonly #announcement = new Announcement()
  #protocols: Protocols | undefined
  #flow: Flow | undefined
  readonly #attached = new WeakMap<Server, AttachedServer>()
  #whenListening: (() => void)[] | undefined = []
  readonly #sessions: Session[] = []
  readonly #heldSessions: HeldSession[] = []
  readonly #supervised: Supervised | undefined
  readonly systemd: Systemd | undefined
  /** A reload in place tries whether this version boots: it gets listeners that nobody reaches, and owns nothing. */
  readonly isTrial: boolean

  constructor(env: Env) {
    this.env = env
    this.grace = gracePeriod(env.environment)
    this.token = env.environment['TSUNAGI_TOKEN'] ?? ''
    delete env.environment['TSUNAGI_TOKEN'] // it is ours alone, not our children's
    this.start = readStartCommand(env.environment)
    this.moveRule = readMoveRule(env.environment, programOf(this.start.environment))
    this.slot = readSlot(this.start.environment)
    this.name = isClusterWorker() ? undefined : nameKey(env.environment)
    this.place = this.slot?.key
    delete env.environment['TSUNAGI_SLOT']
    this.gate = new SignalGate(this.slot?.killTimeout && endBefore(this.slot.killTimeout))
    this.exit = new ExitWish(this)
    reportBoot(env, this.lifecycle.owned)
    this.#supervised = supervisedBy(this)
    this.systemd = systemdOf(this)
    this.isTrial = env.environment['TSUNAGI_TRIAL'] !== undefined
    if (this.isTrial)
      halves()
        .reportTrial(this)
        .catch(() => {}) // what the main module throws is Node's to tell
    process.once('exit', () => this.desk.close())
    void this.lifecycle.owned.then(() => this.#listens.close())
    // Not before it serves: until then the name is its predecessor's.
    void this.lifecycle.owned.then(() => this.#publishName())
    // A program that never listens has no predecessor either: one that waits for nothing but `owned()` would end here.
    process.once('beforeExit', () => this.#ownUnlessInheriting())
  }

  get protocols(): Protocols {
    if (this.#protocols) return this.#protocols
    this.#protocols = new (halves().Protocols)()
    this.#protocols.add(new (halves().WebSocketProtocol)(this.env, this.resumption))
    return this.#protocols
  }

  get flow(): Flow {
    this.#flow ??= new (halves().Flow)(this.env.native)
    return this.#flow
  }

  /** Takes a server in. Returns how to take it out again. */
  add(attached: AttachedServer, listen2?: Listen2): () => void {
    this.servers.add(attached)
    this.#attached.set(attached.server, attached)
    const unwrap = wrapListen(attached, this, listen2)
    this.exit.watch(attached)
    const unattend = attend(attached, () => this.protocols.prepare())
    return () => {
      unwrap()
      unattend()
      this.servers.delete(attached)
      this.#attached.delete(attached.server)
    }
  }

  /** Keeps `register` from taking in a server of our own. */
  exempt(server: Server): void {
    this.#attached.set(server, new AttachedServer(server, resolveOptions()))
  }

  attachedTo(server: Server): AttachedServer | undefined {
    return this.#attached.get(server)
  }

  /** Sockets by the attached server that accepted them; those of others are left out. */
  groupByServer(sockets: Iterable<Socket>): Map<AttachedServer, Socket[]> {
    const groups = new Map<AttachedServer, Socket[]>()
    for (const socket of sockets) {
      const server = serverOf(socket)
      const attached = server && !socket.destroyed ? this.#attached.get(server) : undefined
      if (!attached) continue
      const group = groups.get(attached)
      if (group) group.push(socket)
      else groups.set(attached, [socket])
    }
    return groups
  }

  serverAt(key: string): AttachedServer | undefined {
    for (const attached of this.servers) if (attached.key === key) return attached
    return undefined
  }

  // ---- ListenerKeeper

  inherit(attached: AttachedServer): number | undefined {
    if (this.isTrial) return unreachableListener(this.env.native)
    if (process.argv[1] === undefined) return undefined // `node -e` and a REPL are nobody's next version (P9)
    for (const session of this.#sessions) {
      const fd = session.claim(attached)
      if (fd !== undefined) return fd
    }
    const opened = this.#openSession(attached.key)
    if (opened === undefined) return this.#inheritHeld(attached)
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
      return opened?.fd
    } catch (error) {
      this.env.log((error as Error).message) // the socket itself says that the address is in use
      return undefined
    }
  }

  #openSession(key: string): { session: Session; fd: number } | undefined {
    const opened = halves().openSession(this, key)
    this.#adopt(opened?.session)
    return opened
  }

  /** From here on there is a predecessor. */
  #adopt(session: Session | undefined): Session | undefined {
    if (session === undefined) return undefined
    this.env.fault('successor-after-welcome')
    this.#sessions.push(session)
    void this.#takeOver(session)
    this.#hasListener()
    return session
  }

  waits(attached: AttachedServer, fd: number): number | undefined {
    if (this.isTrial) return this.env.native.duplicateFd(fd)
    if (process.argv[1] === undefined) return undefined
    if (this.#findHeld(attached, false) === undefined && !this.#findNamed(attached)) return undefined
    return this.env.native.duplicateFd(fd)
  }

  /** Whether a process of our name, which listens elsewhere, hands over to this one. Where one was found by its address there is no other. */
  #findNamed(attached: AttachedServer): boolean {
    const { name } = this
    if (name === undefined || attached.path || this.lifecycle.isOwner || this.#heldSessions.length > 0) return false
    const session = this.#sessions[0] ?? this.#adopt(halves().openNamedSession(this, name))
    if (session?.name === undefined) return false
    session.await(attached)
    return true
  }

  /** The address is taken, and no process of ours holds it. */
  #inheritHeld(attached: AttachedServer): number | undefined {
    return this.#findHeld(attached, true)?.held.takeListener(attached.key)
  }

  /** What a holder has for this address, which is taken over as soon as this process is ready. */
  #findHeld(attached: AttachedServer, isTaken: boolean): HeldSession | undefined {
    const known = this.#heldSessions.find(({ held }) => held.bequest.listeners.some(({ key }) => key === attached.key))
    // Most starts find nothing on disk, and need no more than to have looked.
    const mayBe = !known && (isTaken || storedSnapshots(controlDirectory(this.env.environment)).length > 0)
    const held = mayBe ? halves().findHeld(this, attached.key, isTaken) : undefined
    const session = known ?? (held && { held, claimed: new Map<string, AttachedServer>() })
    session?.claimed.set(attached.key, attached)
    if (session === undefined || known) return session
    this.env.fault('successor-after-find')
    this.#heldSessions.push(session)
    void this.#takeHeld(session)
    this.#hasListener()
    return session
  }

  inheritSlot(attached: AttachedServer): boolean {
    const { slot } = this
    if (slot === undefined || this.desk.hasPublished(slot.key)) return false
    try {
      const claimed = this.#sessions.some((session) => session.claimShared(attached))
      return claimed || this.#openSlotSession(slot)?.claimShared(attached) === true
    } catch (error) {
      // The primary has its listener for it in any case: this worker serves, and the connections of the other end as they do without us.
      this.env.log(`the connections of the worker that this one replaces stay there: ${(error as Error).message}`)
      return false
    }
  }

  #openSlotSession(slot: Slot): Session | undefined {
    if (this.#sessions.length > 0) return undefined
    const session = halves().openWorkerSession(this, slot.key)
    if (session === undefined) return undefined
    this.env.fault('successor-after-welcome')
    this.#announcement.hold()
    if (slot.saysReady) this.lifecycle.ready(this.#announcement.ready)
    this.#sessions.push(session)
    void this.#takeOver(session)
    return session
  }

  listening(attached: AttachedServer): void {
    // The next listen() may be the one that finds a predecessor.
    void quietTurn().then(() => this.#ownUnlessInheriting())
    this.publish(attached)
    if (attached.key !== '' && !attached.isShared) this.#hasListener()
  }

  datagramsBound(key: string): void {
    void quietTurn().then(() => this.#ownUnlessInheriting())
    this.desk.publish(key)
    this.#hasListener()
  }

  /** Lets the next version find this process where this server is: at its address, or in the slot of a cluster worker. */
  publish(attached: AttachedServer): void {
    if (attached.isShared) return this.#publishWorker()
    if (attached.key !== '') this.desk.publish(attached.key)
    if (this.lifecycle.isOwner) this.#publishName()
    this.systemd?.storeListener(attached)
  }

  #publishName(): void {
    const { name } = this
    if (name === undefined || this.desk.hasPublished(name) || ![...this.servers].some(({ key }) => key !== '')) return
    if (this.token === '' && halves().isNameOfRelative(this.env, name)) return
    this.desk.publish(name)
  }

  #publishWorker(): void {
    if (this.place === undefined) {
      this.place = placeOf(process.pid)
      handOverWhenDisconnected(this)
    }
    this.desk.publish(this.place)
  }

  /** This worker serves, and takes the connections of another one of its primary, which has the same servers. */
  takeOverFrom(place: string): boolean {
    const session = halves().openWorkerSession(this, place)
    if (session === undefined) return false
    for (const attached of this.servers) if (attached.isShared) session.claimShared(attached)
    this.#sessions.push(session)
    void this.#takeOver(session)
    return true
  }

  activated(attached: AttachedServer): number | undefined {
    return this.systemd?.given.takeListener(attached.key)
  }

  /** Calls back once this process has a listener that can be handed over, its own or a predecessor's. */
  onFirstListener(callback: () => void): void {
    if (this.#whenListening) this.#whenListening.push(callback)
    else callback()
  }

  #ownUnlessInheriting(): void {
    if (this.isTrial) return
    if (this.#sessions.length + this.#heldSessions.length === 0) this.lifecycle.own()
  }

  #hasListener(): void {
    const callbacks = this.#whenListening ?? []
    this.#whenListening = undefined
    for (const callback of callbacks) callback()
  }

  // ---- successor

  /** Whether a predecessor was found that has not handed over yet. */
  get isInheriting(): boolean {
    return this.#sessions.length + this.#heldSessions.length > 0
  }

  /** Resolves when this process serves; for a program without listeners that is to have booted. */
  async whenServing(): Promise<void> {
    const { owned } = this.lifecycle
    await new Promise((resolve) => setImmediate(resolve)) // now the preloads run: the main module has not begun
    await Promise.race([owned, this.whenReady().then(() => (this.isInheriting ? owned : undefined))])
  }

  async whenReady(): Promise<void> {
    const ready = this.lifecycle.whenReady(
      () => bootDone(programOf(this.start.environment)),
      () => this.#listens.size + this.datagrams.pending > 0,
    )
    await (this.slot?.listenTimeout === undefined ? ready : Promise.race([ready, lastMoment(this.slot.listenTimeout)]))
  }

  /** Whether a supervisor is about to stop the predecessor: there is no time for what only makes the pause shorter. */
  get isPressed(): boolean {
    return this.slot?.listenTimeout !== undefined && untilLastMoment(this.slot.listenTimeout) === 0
  }

  /** What this code says about carried names, for the predecessor to compare: under its own keys of the servers that are claimed. */
  stateDefinitions(claimed: ReadonlyMap<string, AttachedServer>): StateDefinition[] {
    const states: StateDefinition[] = []
    const theirs = new Map([...claimed].map(([key, attached]) => [attached, key]))
    for (const attached of this.servers) {
      for (const [name, { version, migrate }] of this.carried.ofServer(attached.server)) {
        states.push({ scope: theirs.get(attached) ?? attached.key, name, version, migrates: migrate !== undefined })
      }
    }
    for (const [name, { version, migrate }] of this.carried.definitions())
      states.push({ scope: '', name, version, migrates: migrate !== undefined })
    return states
  }

  async #takeOver(session: Session): Promise<void> {
    // A listener that does not accept yet does not hold the loop, and the channel must not: this does until it is decided.
    const keepAlive = setTimeout(() => {}, 2 ** 31 - 1)
    try {
      await halves().takeOver(this, session)
      this.#sessions.splice(this.#sessions.indexOf(session), 1) // what it still holds is not for later listen() calls to ask for
    } catch (error) {
      this.#sessions.splice(this.#sessions.indexOf(session), 1)
      if (isEndOfChannel(error) && session.peer.provesDeath(DEATH_TIMEOUT)) return this.#serveAlone(session)
      session.close(error as Error)
      for (const attached of session.claimed.values()) {
        if (attached.isShared) continue
        attached.key = ''
        attached.server.close()
        attached.server.emit('error', error)
      }
      this.datagrams.giveUp(session.datagrams, error as Error)
      this.#serveSlot(session, error as Error)
    } finally {
      this.#announcement.release()
      clearTimeout(keepAlive)
    }
  }

  /** The predecessor died before there was anything to take over: its connections are gone, its listener is ours. */
  #serveAlone(session: Session): void {
    this.env.log(
      `the predecessor, process ${session.predecessor}, died before the handover: this process serves its listeners, the connections were lost with it`,
    )
    session.close()
    halves().serveAll(this, session)
    this.lifecycle.own()
  }

  async #takeHeld(session: HeldSession): Promise<void> {
    // A listener that does not accept yet does not hold the loop: this does until it is decided.
    const keepAlive = setTimeout(() => {}, 2 ** 31 - 1)
    await halves().takeHeld(this, session)
    clearTimeout(keepAlive)
    this.#heldSessions.splice(this.#heldSessions.indexOf(session), 1)
  }

  /** There was nothing to be had from the worker that this one replaces: it does its own work. */
  #serveSlot(session: Session, { message }: Error): void {
    const shared = [...session.claimed.values()].filter(({ isShared }) => isShared)
    if (shared.length === 0) return
    this.env.log(`this worker serves without the connections of the one that it replaces, process ${session.predecessor}: ${message}`)
    for (const attached of shared) {
      startAccepting(this.env.native, attached)
      this.publish(attached)
    }
    this.lifecycle.own()
  }

  // ---- predecessor

  /** Tells the attached servers of a handover that failed; without a listener it is only logged: the process serves on. */
  emitFailure(error: TsunagiError): void {
    for (const { server } of this.servers) server.emit('handover-failed', error)
  }

  async reload(options: ReloadOptions): Promise<HandoverReport> {
    if (isClusterWorker()) throw halves().failure('this process is a cluster worker, which is replaced by its primary')
    if (this.#supervised && !this.#supervised.isAlone) return this.#supervised.reload(options.timeout)
    if (this.systemd) return this.systemd.reload(options)
    // The end of process 1 would be the end of its container.
    const inPlace = process.pid === 1 || this.env.environment['TSUNAGI_RELOAD'] === 'in-place'
    return inPlace ? halves().reloadInPlace(this, options) : halves().spawnSuccessor(this, options)
  }

  /** Ends this process once it has nothing left to do. */
  leave(drain: Drain, successor: number, sayLeft: () => void): void {
    this.systemd?.handOver(successor)
    if (this.slot) leaveAsWorker(this, drain, sayLeft)
    else leaveAfterStart(this, drain, sayLeft)
  }
}

/** What the channel says when the other process has closed it, or has died. */
function isEndOfChannel(error: unknown): boolean {
  return ['ERR_TSUNAGI_CHANNEL_CLOSED', 'EPIPE', 'ECONNRESET'].includes((error as { code?: string }).code ?? '')
}

/** Shortly before a supervisor stops the old worker in any case, whether or not the new one is ready. */
function lastMoment(listenTimeout: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, untilLastMoment(listenTimeout)).unref())
}

function untilLastMoment(listenTimeout: number): number {
  return Math.max(0, listenTimeout - process.uptime() * 1000 - LAST_MOMENT_MS)
}

const LAST_MOMENT_MS = 500
/** A process that dies closes its descriptors a moment before it counts as dead, ms. */
const DEATH_TIMEOUT = 1_000
