import type { Peer } from '../channel/control-socket.js'
import { TsunagiError } from '../errors.js'
import { isAlive } from '../handover/is-alive.js'
import { countReasons, type HandoverReport, publishReport, reportLine } from '../handover/report.js'
import type { Installation } from '../installation.js'
import { Drain, stopListening } from './drain.js'
import type { HandedOver } from './hand-over.js'
import type { LateSink } from './moved-socket.js'
import { letGo, takeBack } from './release.js'

type LateWrite = { index: number; kind: 'write' | 'end' | 'destroy'; data: Uint8Array }

/**
 * What follows a commit, on the event loop again. Until the successor says `resumed` everything is kept, so that its death costs only what it
 * had started; then this process is retired: late writes of handlers that were at work are passed on, what could not move is drained.
 */
export class Settlement {
  readonly #installation: Installation
  readonly #peer: Peer
  /** Late writes wait until the successor has resumed: those before are its to send, or ours again. */
  #waiting: LateWrite[] | undefined = []
  readonly #started = new Set<number>()
  #handed: HandedOver | undefined
  /** Moved handles do not hold the loop: without this the process could end before the successor has resumed. */
  #keepAlive: NodeJS.Timeout | undefined
  #stopWatchingPeer = (): void => {}

  constructor(installation: Installation, peer: Peer) {
    this.#installation = installation
    this.#peer = peer
  }

  /** Where late writes of one connection go. */
  sinkFor(index: number): LateSink {
    return {
      late: (kind, data) => {
        if (this.#waiting) this.#waiting.push({ index, kind, data })
        else if (!this.#installation.timers.inside) this.#forward({ index, kind, data })
      },
    }
  }

  begin(handed: HandedOver): void {
    const { env, timers } = this.#installation
    this.#handed = handed
    this.#keepAlive = setTimeout(() => {}, 2 ** 31 - 1)
    timers.mute()
    this.#peer.channel.listen({
      onMessage: ({ message, fds }) => {
        this.#peer.channel.closeFds(fds)
        if (message.type === 'started') for (const index of message.connections) this.#started.add(index)
        else if (message.type === 'resumed') this.#retire(handed)
      },
      onClose: () => this.#channelOnClose(),
    })
    if (this.#peer.pidfd >= 0) {
      const watcher = env.native.watch(this.#peer.pidfd, () => this.#successorOnDeath())
      this.#stopWatchingPeer = () => {
        watcher.close()
        this.#peer.closePidfd()
        this.#stopWatchingPeer = () => {}
      }
    }
  }

  /** The channel alone proves nothing: only the death of the successor gives the connections back. */
  #channelOnClose(): void {
    if (this.#peer.pidfd < 0 && this.#handed && !isAlive(this.#peer.credentials.pid)) this.#successorOnDeath()
  }

  #successorOnDeath(): void {
    const handed = this.#handed
    this.#stopWatchingPeer()
    this.#peer.channel.close()
    if (handed === undefined) return // it has resumed before: its connections died with it
    this.#handed = undefined
    clearTimeout(this.#keepAlive)
    const { desk, timers, env } = this.#installation
    takeBack(this.#installation, handed, this.#started)
    timers.unmute()
    for (const { index, kind, data } of this.#waiting?.splice(0) ?? []) {
      if (this.#started.has(index)) continue
      const socket = handed.connections.get(index)?.socket
      if (kind === 'write') socket?.write(data)
      else if (kind === 'end') data.length > 0 ? socket?.end(data) : socket?.end()
      else socket?.destroy()
    }
    desk.busyWith = undefined
    const lost = this.#started.size
    const error = new TsunagiError(
      'ERR_TSUNAGI_ABORTED',
      `The successor, process ${this.#peer.credentials.pid}, died after the commit and before it had resumed: ${handed.connections.size - lost} connections were taken back, ${lost} that it may have touched were closed. This process goes on serving.`,
      { phase: 'resume', serving: true },
    )
    env.log(error.message)
    this.#installation.emitFailure(error)
  }

  /** The successor serves. From here this process only finishes what it has begun. */
  #retire(handed: HandedOver): void {
    const installation = this.#installation
    const { frozen, snapshot, refused } = handed
    this.#handed = undefined
    clearTimeout(this.#keepAlive)
    this.#stopWatchingPeer()
    letGo(installation, handed)
    const waiting = this.#waiting ?? []
    this.#waiting = undefined
    for (const late of waiting) this.#forward(late)
    installation.desk.close()
    installation.env.fault('predecessor-before-drain')
    const staying = [...frozen.staying]
    for (const [index, reason] of refused) {
      const { socket, attached } = frozen.moving[index] as (typeof frozen.moving)[number]
      if (attached) staying.push({ socket, attached, reason: `the successor refused it: ${reason}`, close: false })
    }
    const report: HandoverReport = {
      role: 'predecessor',
      generation: installation.generation + 1,
      predecessor: process.pid,
      successor: this.#peer.credentials.pid,
      listeners: frozen.claimed.map(({ key }) => key),
      moved: handed.connections.size,
      stayed: countReasons(staying.map(({ reason }) => reason)),
      unreadBytes: snapshot.unreadBytes,
      unsentBytes: snapshot.unsentBytes,
      carriedBytes: snapshot.record.graph.length,
      unclaimedState: [],
      phases: handed.phases,
    }
    installation.env.log(reportLine(report))
    publishReport(report)
    for (const { server } of installation.servers) server.emit('handover', report)
    stopListening(frozen.unclaimed)
    const drain = new Drain(staying, installation.servers, () => {
      for (const { server } of installation.servers) server.emit('drained')
    })
    installation.leave(drain, () => this.#sayLeft())
    installation.lifecycle.retire()
  }

  #forward({ index, kind, data }: LateWrite): void {
    if (this.#peer.channel.closed) return // the successor has gone, and the connection with it
    try {
      this.#peer.channel.send({ type: 'late', connection: index, kind }, { segments: data.length > 0 ? [data] : [] })
    } catch (error) {
      this.#installation.env.log(`${data.length} late bytes for a moved connection could not be passed on: ${(error as Error).message}`)
      this.#peer.channel.close(error as Error)
    }
  }

  #sayLeft(): void {
    if (!this.#peer.channel.closed) this.#peer.channel.send({ type: 'left' })
  }
}
