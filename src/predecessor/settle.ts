import type { Socket } from 'node:net'
import type { Canary, HandoverMode, MessageOf } from '../channel/messages.js'
import type { Peer } from '../channel/peer.js'
import { TsunagiError } from '../errors.js'
import type { Installation } from '../installation.js'
import type { LateSink } from '../protocols/protocol.js'
import { Drain, endPolitely, stopListening } from './drain.js'
import type { MovingConnection, Scope } from './freeze.js'
import type { HandedOver } from './hand-over.js'
import { LateWrites } from './late-writes.js'
import { Outcome } from './outcome.js'
import { BATCH, chooseCanaries, plan } from './plan.js'
import { letGo, takeBack } from './release.js'
import { Stragglers } from './stragglers.js'
import { Trial } from './trial.js'
import { watchDeath } from './watch-death.js'

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
  readonly #outcome: Outcome
  /** The transaction that is committed and not resumed. */
  #handed: HandedOver | undefined
  #started = new Set<number>()
  /** The transaction that is under way is a canary's. */
  #isCanary = false
  /** The canary's connections, until the rest has moved as well. */
  #trial: Trial | undefined
  /** Sockets that wait for a further batch. */
  readonly #due: Socket[] = []
  /** Those that the next transaction is about. */
  #offered: ReadonlySet<Socket> = new Set()
  #drain: Drain | undefined
  /** Moved handles do not hold the loop: without this the process could end before the successor has resumed. */
  #keepAlive: NodeJS.Timeout | undefined
  #unwatchPeer: (() => void) | undefined

  constructor(installation: Installation, peer: Peer, onContinue: () => void) {
    this.#installation = installation
    this.#peer = peer
    this.#late = new LateWrites(installation.env, peer.channel, () => installation.timers.inside)
    this.#continue = onContinue
    this.#outcome = new Outcome(installation)
    this.#stragglers = new Stragglers(installation, onContinue, (socket) => this.#drain?.add([socket]))
  }

  // ---- what to move

  /** A few without the listeners: this process goes on accepting, and the rest follows when the successor has shown that it is well. */
  canaryScope(claimed: Scope['claimed'], canary: Canary): Pick<Scope, 'only' | 'limit' | 'more'> {
    this.#isCanary = true
    return { only: chooseCanaries(this.#installation, claimed, canary), limit: canary.connections, more: 1 }
  }

  firstScope(mode: HandoverMode): Pick<Scope, 'only' | 'limit' | 'more'> {
    this.#isCanary = false
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
    return this.retired || this.#handed !== undefined || this.#trial !== undefined
  }

  /** Whether the successor is watched with a few connections, and this process serves. */
  get isLending(): boolean {
    return this.#trial !== undefined
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
    if (this.#isCanary) return this.#lend(handed)
    letGo(this.#installation, handed)
    this.#trial?.settle()
    this.#trial = undefined
    this.#late.flush()
    this.#outcome.count(handed)
    if (!this.retired) this.#due.push(...handed.frozen.waiting)
    if (this.retired) this.#drain?.forgetAll(handed.connections.values())
    else this.#retire(handed)
    this.#see(handed)
    if (this.#due.length === 0) this.#outcome.publish()
    // A pause as long as the block was: both processes have their connections to serve between two batches.
    setTimeout(this.#continue, this.#due.length > 0 ? this.#outcome.tally.lastBlockMs : 0)
  }

  // ---- the canary

  #lend(handed: HandedOver): void {
    this.#isCanary = false
    this.#outcome.countMoved(handed) // what has stayed is judged again with the rest
    this.#trial = new Trial(this.#installation, this.#peer, handed)
    this.#late.flush()
    this.#installation.env.log(
      `lent ${handed.connections.size} connections to pid ${this.#peer.credentials.pid}, which is watched; this process serves on`,
    )
  }

  well(): void {
    this.#trial?.well()
  }

  gone(connections: readonly number[]): void {
    this.#trial?.loan.gone(connections)
  }

  fetchBack(come: MessageOf<'come'>): void {
    this.#trial?.fetchBack(come).then(
      () => this.#endTrial(),
      () => {}, // it is being killed
    )
  }

  /** The successor is not taken: it has nothing left of what it was lent. */
  #endTrial(): void {
    const trial = this.#trial
    if (trial === undefined) return // it has died meanwhile
    this.#unwatchPeer?.()
    this.#peer.channel.close() // as below
    this.#trial = undefined
    this.#serveOn(trial.end({ back: 0, lost: 0 }), false)
  }

  /** `hadListeners`: the successor may have put its own control sockets in the place of ours. */
  #serveOn(error: TsunagiError, hadListeners: boolean): void {
    const { desk, timers, env } = this.#installation
    env.log(error.message)
    this.#installation.emitFailure(error)
    if (this.retired) return void this.giveUpRest(error)
    this.moved = 0
    timers.unmute()
    if (hadListeners) desk.republish()
    desk.dismissSuccessor(error)
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
      this.#outcome.tally.stay('a batch failed', rest.length)
      this.#installation.env.log(`${rest.length} connections stay and drain: ${message}`)
      this.#drain?.add(rest)
    }
    this.#outcome.publish()
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
    const report = this.#outcome.open(handed, this.#peer.credentials.pid)
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
    installation.desk.succeeded(report)
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
    for (const [socket, reason] of reasons) torn.has(socket) ? this.#outcome.tally.stay(TORN) : this.#outcome.tally.moveLater(reason)
    this.#drain?.add([...drain, ...torn])
    for (const socket of close) endPolitely(socket)
  }

  #stopKeepingAlive(): void {
    clearTimeout(this.#keepAlive)
    this.#keepAlive = undefined
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
    const unwatch = watchDeath(this.#installation.env.native, this.#peer, () => this.#successorOnDeath())
    this.#unwatchPeer = () => {
      unwatch()
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
    const [handed, trial] = [this.#handed, this.#trial]
    this.#peer.channel.close() // while this is still the one successor: why it is not is told below
    this.#handed = undefined
    this.#trial = undefined
    if (handed === undefined && trial === undefined) return void this.giveUpRest(new Error('the successor has died.'))
    this.#stopKeepingAlive()
    if (handed) takeBack(this.#installation, handed, this.#started)
    const ended = trial?.loan.takeBack(this.#late.written)
    for (const { index, ...act } of this.#late.takeBack()) {
      const moved =
        (handed && movedAs(index, handed, this.#started)) ?? (trial && ended && movedAs(index, trial.loan.handed, ended.touched))
      if (moved) moved.protocol.late(moved.socket, act)
    }
    const lost = handed ? this.#started.size : 0
    if (trial && ended) this.#serveOn(trial.end({ back: ended.back, lost: ended.lost + lost }), handed !== undefined)
    else if (handed) this.#serveOn(this.#deathAmidResume(handed), true)
  }

  #deathAmidResume({ connections }: HandedOver): TsunagiError {
    const lost = this.#started.size
    return new TsunagiError(
      'ERR_TSUNAGI_ABORTED',
      `The successor, process ${this.#peer.credentials.pid}, died after the commit and before it had resumed: ${connections.size - lost} connections were taken back, ${lost} that it may have touched were closed. This process goes on serving.`,
      { phase: 'resume', serving: true },
    )
  }
}

/** What a late write is about, if that connection has come back untouched. */
function movedAs(number: number, { base, frozen }: HandedOver, touched: ReadonlySet<number>): MovingConnection | undefined {
  return touched.has(number - base) ? undefined : frozen.moving[number - base]
}

const TORN = 'it carries state beside state of the whole server, which has moved'
