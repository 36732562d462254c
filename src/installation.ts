import type { Server, Socket } from 'node:net'
import { AttachedServer } from './attached-server.js'
import { CarriedState } from './carry/carried-state.js'
import { nameKey } from './channel/rendezvous.js'
import { type DatagramKeeper, Datagrams } from './datagrams.js'
import type { Env } from './env.js'
import type { TsunagiError } from './errors.js'
import { halves } from './halves.js'
import { bootDone } from './handover/boot-done.js'
import type { HandoverReport } from './handover/report.js'
import { Holds } from './holds.js'
import { Lifecycle, quietTurn } from './lifecycle.js'
import { type ListenerKeeper, unreachableListener, wrapListen } from './listener.js'
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
import type { LeftoverListeners } from './successor/leftover-listeners.js'
import type { Lent } from './successor/on-trial.js'
import { Predecessors } from './successor/predecessors.js'
import { Resumption } from './successor/resumption.js'
import type { Survival } from './survive/survival.js'
import { handOverWhenDisconnected } from './triggers/disconnect.js'
import { EarlyReload } from './triggers/early-reload.js'
import { ExitWish } from './triggers/exit-wish.js'
import { lastMoment, untilLastMoment } from './triggers/last-moment.js'
import { SignalGate } from './triggers/signals.js'
import type { ReloadOptions } from './triggers/spawn.js'
import { reportBoot } from './triggers/spawned.js'
import { leaveAfterStart } from './triggers/start.js'
import { readStartCommand, type StartCommand } from './triggers/start-command.js'
import { supervisedBy, systemdOf } from './triggers/started-by.js'
import type { Supervised } from './triggers/supervised.js'
import type { Systemd } from './triggers/systemd.js'
import { endBefore, leaveAsWorker, leaveBefore } from './triggers/worker.js'

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
  readonly predecessors = new Predecessors(this)
  /** Of a predecessor found by its name; most have none. */
  leftovers: LeftoverListeners | undefined
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
  /** Where a server asks that its connections outlive a crash. */
  survival: Survival | undefined
  /** What this process, as a successor on trial, gives back. */
  lent: Lent | undefined
  /** Whether every server of the process takes part. */
  registered = false
  readonly #listens = new PendingListens()
  #protocols: Protocols | undefined
  #flow: Flow | undefined
  readonly #attached = new WeakMap<Server, AttachedServer>()
  #whenListening: (() => void)[] | undefined = []
  readonly #earlyReload = new EarlyReload(this)
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
    if (this.slot?.saysReady) this.predecessors.watchReady()
    this.gate = new SignalGate(() => this.slot?.killTimeout && (this.exit.isHold ? leaveBefore : endBefore)(this.slot.killTimeout))
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
    // So would one whose predecessor serves on, and that is no reason to say that it serves itself.
    process.once('beforeExit', () => this.predecessors.haveRefused || this.#ownUnlessInheriting())
  }

  get protocols(): Protocols {
    if (this.#protocols) return this.#protocols
    this.#protocols = new (halves().Protocols)(this.env.native)
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
    const unattend = attend(attached, this.carried, () => this.protocols.prepare())
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
    return this.isTrial ? unreachableListener(this.env.native) : this.predecessors.inherit(attached)
  }

  inheritDatagrams(key: string): number | undefined {
    this.exit.watch()
    return this.predecessors.inheritDatagrams(key)
  }

  waits(attached: AttachedServer, fd: number): number | undefined {
    return this.isTrial || this.predecessors.find(attached) ? this.env.native.duplicateFd(fd) : undefined
  }

  inheritSlot(attached: AttachedServer): 'worker' | 'holder' | undefined {
    return this.predecessors.inheritSlot(attached)
  }

  listening(attached: AttachedServer): void {
    // The next listen() may be the one that finds a predecessor.
    void quietTurn().then(() => this.#ownUnlessInheriting())
    this.publish(attached)
    if (attached.key !== '' && !attached.isShared) this.hasListener()
  }

  datagramsBound(key: string): void {
    if (this.isTrial) return
    this.exit.watch()
    void quietTurn().then(() => this.#ownUnlessInheriting())
    this.desk.publish(key)
    this.hasListener()
  }

  /** Lets the next version find this process where this server is: at its address, or in the slot of a cluster worker. */
  publish(attached: AttachedServer): void {
    if (attached.isShared) return this.#publishWorker()
    if (attached.key !== '') this.desk.publish(attached.key)
    if (this.lifecycle.isOwner) this.#publishName()
    this.systemd?.storeListener(attached)
    if (attached.options.survive && !this.isTrial) this.#survive(attached)
  }

  #survive(attached: AttachedServer): void {
    this.survival ??= new (halves().Survival)(this)
    this.survival.watch(attached)
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

  activated(attached: AttachedServer): number | undefined {
    return this.systemd?.given.takeListener(attached.key)
  }

  /** Calls back once this process has a listener that can be handed over, its own or a predecessor's. */
  onFirstListener(callback: () => void): void {
    if (this.#whenListening) this.#whenListening.push(callback)
    else callback()
  }

  #ownUnlessInheriting(): void {
    if (!this.isTrial && !this.isInheriting) this.lifecycle.own()
  }

  /** There is a listener now that can be handed over. */
  hasListener(): void {
    const callbacks = this.#whenListening ?? []
    this.#whenListening = undefined
    for (const callback of callbacks) callback()
  }

  // ---- successor

  /** Whether a predecessor was found that has not handed over yet. */
  get isInheriting(): boolean {
    return this.predecessors.areExpected
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
    await Promise.race([ready, lastMoment(this.slot)])
  }

  /** Whether a supervisor is about to stop the predecessor: there is no time for what only makes the pause shorter. */
  get isPressed(): boolean {
    return untilLastMoment(this.slot) === 0
  }

  // ---- predecessor

  /** Tells the attached servers of a handover that failed; without a listener it is only logged: the process serves on. */
  emitFailure(error: TsunagiError): void {
    for (const { server } of this.servers) server.emit('handover-failed', error)
  }

  async reload(options: ReloadOptions): Promise<HandoverReport> {
    if (isClusterWorker()) throw halves().failure('this process is a cluster worker, which is replaced by its primary')
    if (this.#isComingToServe) await this.#earlyReload.untilServing(options.timeout)
    if (this.#supervised && !this.#supervised.isAlone) return this.#supervised.reload(options)
    if (this.systemd) return this.systemd.reload(options)
    // The end of process 1 would be the end of its container.
    const inPlace = process.pid === 1 || this.env.environment['TSUNAGI_RELOAD'] === 'in-place'
    return inPlace ? halves().reloadInPlace(this, options) : halves().spawnSuccessor(this, options)
  }

  /** It has a listener, and owns it sooner or later. */
  get #isComingToServe(): boolean {
    return this.#whenListening === undefined && !this.isTrial
  }

  /** Ends this process once it has nothing left to do. */
  leave(drain: Drain, successor: number, sayLeft: () => void): void {
    if (this.lent) return halves().leaveAfterTrial(this, this.lent, drain, sayLeft)
    this.systemd?.handOver(successor)
    if (this.slot) leaveAsWorker(this, drain, sayLeft)
    else leaveAfterStart(this, drain, sayLeft)
  }
}
