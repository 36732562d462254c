import type { Socket } from 'node:net'
import type { HandoverMode } from '../channel/messages.js'
import type { Peer } from '../channel/peer.js'
import { TsunagiError } from '../errors.js'
import { isAlive } from '../handover/is-alive.js'
import { type HandoverReport, publishReport, reportLine, Tally } from '../handover/report.js'
import type { Installation } from '../installation.js'
import type { LateSink } from '../protocols/protocol.js'
import { Drain, endPolitely, stopListening } from './drain.js'
import type { Scope } from './freeze.js'
import type { HandedOver } from './hand-over.js'
import { LateWrites } from './late-writes.js'
import { BATCH, plan } from './plan.js'
import { letGo, takeBack } from './release.js'
import { Stragglers } from './stragglers.js'

/**
 * What follows a commit, on the event loop again. Until the successor says `resumed` everything is kept, so that its death costs only what it
 * had started. With the first `resumed` this process is retired: late writes are passed on, further batches and stragglers follow one
 * transaction at a time, and what cannot move is drained.
 */
export class Settlement {
  /** Connections handed over so far, refused ones included: numbers in late writes go on from here. */
  moved = 0
  retired = false
  readonly #installation: Installation
  readonly #peer: Peer
  readonly #late: LateWrites
  readonly #continue: () => void
  readonly #stragglers: Stragglers
  readonly #tally = new Tally()
  /** The transaction that is committed and not resumed. */
  #handed: HandedOver | undefined
  #started = new Set<number>()
  /** Sockets that wait for a further batch. */
  readonly #due: Socket[] = []
  /** Those that the next transaction is about. */
  #offered: ReadonlySet<Socket> = new Set()
  #drain: Drain | undefined
  #report: HandoverReport | undefined
  /** Moved handles do not hold the loop: without this the process could end before the successor has resumed. */
  #keepAlive: NodeJS.Timeout | undefined
  #unwatchPeer: (() => void) | undefined

  constructor(installation: Installation, peer: Peer, onContinue: () => void) {
    this.#installation = installation
    this.#peer = peer
    this.#late = new LateWrites(installation.env, peer.channel, () => installation.timers.inside)
    this.#continue = onContinue
    this.#stragglers = new Stragglers(installation, onContinue, (socket) => this.#drain?.add([socket]))
  }

  // ---- what to move

  firstScope(mode: HandoverMode): Pick<Scope, 'only' | 'limit' | 'more'> {
    return { only: undefined, limit: plan(this.#installation, mode), more: 0 }
  }

  nextScope(): Pick<Scope, 'only' | 'limit' | 'more'> | undefined {
    if (!this.retired || this.#handed) return undefined
    const only = this.#due.length > 0 ? new Set(this.#due.splice(-BATCH)) : this.#stragglers.ready()
    this.#offered = only
    if (only.size > 0) this.#keepAlive ??= setTimeout(() => {}, 2 ** 31 - 1) // nobody reads them any more
    return only.size > 0 ? { only, limit: only.size, more: this.#due.length } : undefined
  }

  /** Whether something is the successor's: listeners alone count too. */
  get hasCommitted(): boolean {
    return this.retired || this.#handed !== undefined
  }

  sinkFor(number: number): LateSink {
    return this.#late.sinkFor(number)
  }

  // ---- one transaction

  committed(handed: HandedOver): void {
    this.#handed = handed
    this.#offered = new Set() // whatever of them has not moved is judged to stay
    this.#started = new Set()
    this.moved += handed.snapshot.record.count
    this.#late.wait()
    this.#keepAlive ??= setTimeout(() => {}, 2 ** 31 - 1)
    if (!this.retired) this.#installation.timers.mute()
    this.#watchPeer()
  }

  started(connections: readonly number[]): void {
    const count = this.#handed?.snapshot.record.count ?? 0
    for (const index of connections) if (index < count) this.#started.add(index)
  }

  resumed(): void {
    const handed = this.#handed
    if (handed === undefined)
      throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', 'The successor sent "resumed" without a commit.', { phase: 'resume' })
    this.#handed = undefined
    this.#stopKeepingAlive()
    letGo(this.#installation, handed)
    this.#late.flush()
    this.#count(handed)
    if (!this.retired) this.#due.push(...handed.frozen.waiting)
    if (this.retired) this.#drain?.forgetAll(handed.connections.values())
    else this.#retire(handed)
    this.#see(handed)
    if (this.#due.length === 0) this.#publish()
    // A pause as long as the block was: both processes have their connections to serve between two batches.
    setTimeout(this.#continue, this.#due.length > 0 ? this.#tally.lastBlockMs : 0)
  }

  #count({ frozen, kept, connections, snapshot, phases }: HandedOver): void {
    for (const index of connections.keys()) this.#tally.move(frozen.moving[index]?.rule ?? '')
    for (const reason of kept.values()) this.#tally.stay(reason)
    for (const { reason, fate } of frozen.staying) if (fate !== 'later') this.#tally.stay(reason)
    this.#tally.bytes(snapshot.unreadBytes, snapshot.unsentBytes, snapshot.record.graph.length)
    this.#tally.time(phases)
  }

  /** A later batch ran out of time, or of room: it is due again. */
  retry(ms: number): void {
    this.#due.push(...this.#offered)
    this.#offered = new Set()
    setTimeout(this.#continue, ms)
  }

  /** A later batch has failed, the successor is gone, or the grace period is over: what is left stays here. Whether there is something. */
  giveUpRest({ message }: Error): boolean {
    const rest = [...this.#due.splice(0), ...this.#offered, ...this.#stragglers.giveUp()]
    this.#offered = new Set()
    this.#stopKeepingAlive()
    if (rest.length > 0) {
      this.#tally.stay('a batch failed', rest.length)
      this.#installation.env.log(`${rest.length} connections stay and drain: ${message}`)
      this.#drain?.add(rest)
    }
    this.#publish()
    return rest.length > 0
  }

  // ---- the end

  /** The successor serves. From here this process only finishes what it has begun. */
  #retire(handed: HandedOver): void {
    const installation = this.#installation
    const { frozen } = handed
    this.retired = true
    installation.desk.close()
    installation.env.fault('predecessor-before-drain')
    this.#report = {
      role: 'predecessor',
      generation: installation.generation + 1,
      predecessor: process.pid,
      successor: this.#peer.credentials.pid,
      listeners: [...frozen.listeners.map(({ key }) => key), ...frozen.datagrams.keys()],
      ...this.#tally.figures(),
      unclaimedState: [],
    }
    stopListening(frozen.unclaimed)
    installation.datagrams.unref()
    this.#drain = new Drain(
      installation,
      () => this.#due.length > 0,
      () => {
        for (const { server } of installation.servers) server.emit('drained')
      },
      () => this.giveUpRest(new Error('the grace period is over.')),
    )
    installation.desk.succeeded(this.#report)
    installation.leave(this.#drain, this.#peer.credentials.pid, () => this.#sayLeft())
    installation.lifecycle.retire()
  }

  /** To those that were judged in this transaction and stay: some move later, some end now, the others as soon as that is polite. */
  #see({ frozen, kept }: HandedOver): void {
    const reasons = new Map(frozen.staying.filter(({ fate }) => fate === 'later').map(({ socket, reason }) => [socket, reason]))
    const later = [...reasons.keys()]
    const drain = frozen.staying.filter(({ fate }) => fate === 'drain').map(({ socket }) => socket)
    for (const index of kept.keys()) drain.push(frozen.moving[index]?.socket as Socket)
    const close = frozen.staying.filter(({ fate }) => fate === 'close').map(({ socket }) => socket)
    this.#drain?.keep([...later, ...close])
    const torn = new Set(this.#stragglers.watch(later))
    for (const [socket, reason] of reasons) torn.has(socket) ? this.#tally.stay(TORN) : this.#tally.moveLater(reason)
    this.#drain?.add([...drain, ...torn])
    for (const socket of close) endPolitely(socket)
  }

  #stopKeepingAlive(): void {
    clearTimeout(this.#keepAlive)
    this.#keepAlive = undefined
  }

  /** Once everything that was due has moved. */
  #publish(): void {
    const report = this.#report
    if (report === undefined) return
    this.#report = undefined
    Object.assign(report, this.#tally.figures())
    this.#installation.env.log(reportLine(report))
    publishReport(report)
    // On a tick of its own: what a listener throws is the application's, not a failed handover.
    process.nextTick(() => {
      for (const { server } of this.#installation.servers) server.emit('handover', report)
    })
  }

  #sayLeft(): void {
    try {
      if (!this.#peer.channel.closed) this.#peer.channel.send({ type: 'left' }, { timeoutMs: 0 })
    } catch {
      // The successor has died since, or does not read: there is nobody to say good-bye to.
    }
  }

  // ---- the successor's death

  #watchPeer(): void {
    if (this.#unwatchPeer) return
    if (this.#peer.pidfd < 0) return this.#pollPeer()
    const watcher = this.#installation.env.native.watch(this.#peer.pidfd, () => this.#successorOnDeath())
    watcher.unref()
    this.#unwatchPeer = () => {
      watcher.close()
      this.#peer.closePidfd()
      this.#unwatchPeer = undefined
    }
  }

  /** Without pidfds (before Linux 5.3). */
  #pollPeer(): void {
    const timer = setInterval(() => {
      if (!isAlive(this.#peer.credentials.pid)) this.#successorOnDeath()
    }, 100).unref()
    this.#unwatchPeer = () => {
      clearInterval(timer)
      this.#unwatchPeer = undefined
    }
  }

  /** A channel that closes proves nothing: only the death of the successor gives the connections back. */
  channelOnClose(): void {
    if (!this.#handed && this.retired) this.giveUpRest(new Error('the successor closed the channel.'))
  }

  #successorOnDeath(): void {
    this.#peer.channel.deliverNow() // how far it had come is still in there
    this.#unwatchPeer?.()
    const handed = this.#handed
    this.#handed = undefined // before the channel closes, which calls back here where there are no pidfds
    this.#peer.channel.close()
    if (handed === undefined) return void this.giveUpRest(new Error('the successor has died.'))
    this.#stopKeepingAlive()
    const { desk, timers, env } = this.#installation
    takeBack(this.#installation, handed, this.#started)
    for (const { index, ...act } of this.#late.takeBack()) {
      const moved = this.#started.has(index - handed.base) ? undefined : handed.frozen.moving[index - handed.base]
      if (moved) moved.protocol.late(moved.socket, act)
    }
    const lost = this.#started.size
    const error = new TsunagiError(
      'ERR_TSUNAGI_ABORTED',
      `The successor, process ${this.#peer.credentials.pid}, died after the commit and before it had resumed: ${handed.connections.size - lost} connections were taken back, ${lost} that it may have touched were closed. This process goes on serving.`,
      { phase: 'resume', serving: true },
    )
    env.log(error.message)
    this.#installation.emitFailure(error)
    if (this.retired) return void this.giveUpRest(error)
    this.moved = 0
    timers.unmute()
    desk.republish()
    desk.dismissSuccessor(error)
  }
}

const TORN = 'it carries state beside state of the whole server, which has moved'
