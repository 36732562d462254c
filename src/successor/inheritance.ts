import type { Socket } from 'node:net'
import type { Received } from '../channel/codec.js'
import type { MessageOf } from '../channel/messages.js'
import { aligned } from '../handover/aligned.js'
import { type PhaseTimer, publishReport, reportLine, Tally } from '../handover/report.js'
import type { Installation } from '../installation.js'
import type { Protocol } from '../protocols/protocol.js'
import type { Aborted, Arrived } from './receive.js'
import type { Restored } from './restore.js'
import type { Session } from './session.js'

/** What has come from one predecessor so far, over all its transactions: for late writes, for those that follow, and for the report. */
export class Inheritance {
  readonly #installation: Installation
  readonly #session: Session
  /** By number. No Map: one that grows to thousands keeps those waiting who are to be served right after. */
  readonly #moved: { readonly socket: Socket; readonly protocol: Protocol }[] = []
  readonly #tally = new Tally()
  readonly #unclaimedState: string[] = []
  isFirst = true
  /** Told the kernel's numbers of connections that have come. */
  onTaken: ((identities: ReadonlySet<number>) => void) | undefined
  #reported = false
  /** What a 'connection' handler has thrown first for one of a canary's connections, which all go back then. */
  thrown: string | undefined

  constructor(installation: Installation, session: Session) {
    this.#installation = installation
    this.#session = session
  }

  /** After a transaction has been resumed. */
  take({ record }: Arrived, { connections, refused, unclaimedState }: Restored, timer: PhaseTimer, isFirst: boolean): void {
    let [unreadBytes, unsentBytes] = [0, 0]
    for (const { index, socket, protocol, unread, unsent } of connections) {
      this.#moved[record.base + index] = { socket, protocol }
      if (unread) unreadBytes += sum(unread)
      if (unsent) unsentBytes += sum(unsent)
    }
    this.#tally.bytes(unreadBytes, unsentBytes, record.graph.length)
    this.#tally.move('', connections.length)
    for (const reason of refused.values()) this.#tally.stay(reason)
    this.#unclaimedState.push(...unclaimedState)
    this.#tally.time(timer.phases)
    if (record.more === 0 && !this.#reported) this.#report()
    // Behind 'resumed', which is told on a tick of its own: whoever waits for owned() may look at what has come.
    if (isFirst) {
      process.nextTick(() => this.#installation.lifecycle.own())
      this.isFirst = false
    }
    if (this.onTaken === undefined) return
    const verify = new Float64Array(aligned(record.verify))
    this.onTaken(new Set(connections.map(({ index }) => verify[3 * index + 2] as number)))
  }

  /** Connections that have come so far, by their numbers. */
  get sockets(): Iterable<[number, Socket]> {
    const found: [number, Socket][] = []
    // Leaves out numbers that have none.
    this.#moved.forEach(({ socket }, number) => {
      found.push([number, socket])
    })
    return found
  }

  note(error: unknown): void {
    const { stack, message } = (error ?? {}) as Partial<Error>
    this.#installation.env.log(`the 'connection' handler threw for a resumed connection: ${stack ?? String(error)}`)
    this.thrown ??= `the 'connection' handler threw for a resumed connection: ${message ?? String(error)}`
  }

  /** On the event loop from now on: late writes, and further transactions as long as the predecessor has something to hand over. */
  follow(onPrepare: (prepare: MessageOf<'prepare'>) => Aborted | undefined, onLeft: () => void = () => {}): void {
    const { channel } = this.#session
    channel.listen({
      onMessage: (received) => {
        if (received.message.type !== 'prepare') return this.deliver(received)
        channel.closeFds(received.fds)
        try {
          onPrepare(received.message)
        } catch (error) {
          this.#installation.env.log(`a further batch was not taken: ${(error as Error).message}`)
        }
        if (!channel.closed) this.follow(onPrepare, onLeft)
      },
      onClose: () => {
        this.#moved.length = 0
        this.#session.close()
        if (!this.#reported) this.#report()
        onLeft()
      },
    })
  }

  /** A message that may come at any time. */
  deliver({ message, segments, fds }: Received): void {
    this.#session.channel.closeFds(fds)
    if (message.type === 'left') this.#session.close()
    else if (message.type === 'late') this.#deliverLate(message, segments[0] ?? new Uint8Array())
  }

  /** As the application would do it here, in order. */
  #deliverLate({ connection, kind, detail }: MessageOf<'late'>, data: Uint8Array): void {
    const moved = this.#moved[connection]
    if (moved && !moved.socket.destroyed) moved.protocol.late(moved.socket, { kind, data, detail })
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
      listeners: [...this.#session.claimed.keys(), ...this.#session.datagrams],
      ...figures,
      movedBy: [],
      unclaimedState: this.#unclaimedState,
    }
    env.log(reportLine(report))
    publishReport(report)
    // On a tick of its own: what a listener throws is the application's, not a failed handover.
    process.nextTick(() => {
      for (const attached of this.#session.claimed.values()) attached.server.emit('resumed', report)
    })
  }
}

function sum(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((bytes, piece) => bytes + piece.length, 0)
}
