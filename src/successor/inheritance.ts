import type { Socket } from 'node:net'
import type { Received } from '../channel/codec.js'
import type { MessageOf } from '../channel/messages.js'
import { type PhaseTimer, publishReport, reportLine, Tally } from '../handover/report.js'
import type { Installation } from '../installation.js'
import { deliverLate } from './late-writes.js'
import type { Aborted, Arrived } from './receive.js'
import type { Restored } from './restore.js'
import type { Session } from './session.js'

/** What has come from one predecessor so far, over all its transactions: for late writes, for those that follow, and for the report. */
export class Inheritance {
  readonly #installation: Installation
  readonly #session: Session
  readonly #sockets = new Map<number, Socket>()
  readonly #tally = new Tally()
  readonly #unclaimedState: string[] = []
  isFirst = true
  #reported = false

  constructor(installation: Installation, session: Session) {
    this.#installation = installation
    this.#session = session
  }

  /** Right after commit. */
  take({ record }: Arrived, { connections, refused, unclaimedState, graph }: Restored): void {
    if (this.isFirst) this.#installation.generation = this.#session.generation + 1
    for (const { index, socket } of connections) this.#sockets.set(record.base + index, socket)
    for (const { unread, unsent } of connections) this.#tally.bytes(sum(unread), sum(unsent), 0)
    for (const reason of refused.values()) this.#tally.stay(reason)
    this.#tally.bytes(0, 0, graph ? record.graph.length : 0)
    this.#unclaimedState.push(...unclaimedState)
    for (const _ of connections) this.#tally.move('')
  }

  /** Right after `resumed`. */
  resumed({ record }: Arrived, _restored: Restored, timer: PhaseTimer): void {
    this.#tally.time(timer.phases)
    if (this.isFirst) this.#installation.lifecycle.own()
    this.isFirst = false
    if (record.more === 0 && !this.#reported) this.#report()
  }

  /** On the event loop from now on: late writes, and further transactions as long as the predecessor has something to hand over. */
  follow(onPrepare: (prepare: MessageOf<'prepare'>) => Aborted | undefined): void {
    const { channel } = this.#session
    channel.listen({
      onMessage: (received) => {
        if (received.message.type !== 'prepare') return this.deliver(received)
        channel.closeFds(received.fds)
        onPrepare(received.message)
        this.follow(onPrepare)
      },
      onClose: () => {
        this.#sockets.clear()
        this.#session.close()
        if (!this.#reported) this.#report()
      },
    })
  }

  /** A message that may come at any time. */
  deliver({ message, segments, fds }: Received): void {
    this.#session.channel.closeFds(fds)
    if (message.type === 'left') this.#session.close()
    else if (message.type === 'late') deliverLate(this.#sockets.get(message.connection), message.kind, segments[0])
  }

  #report(): void {
    this.#reported = true
    const { env, generation } = this.#installation
    const { movedBy: _, ...figures } = this.#tally.figures()
    const report = {
      role: 'successor' as const,
      generation,
      predecessor: this.#session.predecessor,
      successor: process.pid,
      listeners: [...this.#session.claimed.keys()],
      ...figures,
      movedBy: [],
      unclaimedState: this.#unclaimedState,
    }
    env.log(reportLine(report))
    publishReport(report)
    for (const attached of this.#session.claimed.values()) attached.server.emit('resumed', report)
  }
}

function sum(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((bytes, piece) => bytes + piece.length, 0)
}
