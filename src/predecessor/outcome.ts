import { type HandoverReport, publishReport, reportLine, Tally } from '../handover/report.js'
import type { Installation } from '../installation.js'
import type { HandedOver } from './hand-over.js'

/** What has become of the connections so far, over all transactions with one successor, and the report of it. */
export class Outcome {
  readonly #installation: Installation
  readonly tally = new Tally()
  #report: HandoverReport | undefined

  constructor(installation: Installation) {
    this.#installation = installation
  }

  /** What has stayed may be judged again. */
  countMoved({ frozen, connections, snapshot, phases }: HandedOver): void {
    for (const index of connections.keys()) this.tally.move(frozen.moving[index]?.rule ?? '')
    this.tally.bytes(snapshot.unreadBytes, snapshot.unsentBytes, snapshot.record.graph.length)
    this.tally.time(phases)
  }

  count(handed: HandedOver): void {
    for (const reason of handed.kept.values()) this.tally.stay(reason)
    for (const { reason, fate } of handed.frozen.staying) if (fate !== 'later') this.tally.stay(reason)
    this.countMoved(handed)
  }

  /** The successor serves; what is said of it now is published later, with the figures of then. */
  open({ frozen }: HandedOver, successor: number): HandoverReport {
    this.#report = {
      role: 'predecessor',
      generation: this.#installation.generation + 1,
      predecessor: process.pid,
      successor,
      listeners: [...frozen.listeners.map(({ key }) => key), ...frozen.datagrams.keys()],
      ...this.tally.figures(),
      unclaimedState: [],
    }
    return this.#report
  }

  /** Once everything that was due has moved; a second call says nothing. */
  publish(): void {
    const report = this.#report
    if (report === undefined) return
    this.#report = undefined
    Object.assign(report, this.tally.figures())
    this.#installation.env.log(reportLine(report))
    publishReport(report)
    // On a tick of its own: what a listener throws is the application's, not a failed handover.
    process.nextTick(() => {
      for (const { server } of this.#installation.servers) server.emit('handover', report)
    })
  }
}
