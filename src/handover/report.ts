import { channel } from 'node:diagnostics_channel'
import type { Phase } from './phase.js'

/** What happened in one handover, as one side saw it. */
export interface HandoverReport {
  role: 'predecessor' | 'successor'
  /** 1 for the first process of a line, one more with each handover; the successor's. */
  generation: number
  predecessor: number
  successor: number
  /** Address keys of the listeners that moved. */
  listeners: string[]
  /** Connections that moved. */
  moved: number
  /** Connections that did not, by reason. */
  stayed: { reason: string; connections: number }[]
  /** Bytes that moved in buffers: read and not consumed, written and not sent, carried state. */
  unreadBytes: number
  unsentBytes: number
  carriedBytes: number
  /** Names of carried server state that nobody asked for in the successor. */
  unclaimedState: string[]
  /** Microseconds by phase. */
  phases: Partial<Record<Phase, number>>
}

/** Measures phases in microseconds. */
export class PhaseTimer {
  readonly phases: Partial<Record<Phase, number>> = {}
  readonly #now: () => number
  #since: number

  constructor(now: () => number) {
    this.#now = now
    this.#since = now()
  }

  /** Ends a phase that began where the last one ended. */
  end(phase: Phase): void {
    const now = this.#now()
    this.phases[phase] = Math.round((now - this.#since) * 1000)
    this.#since = now
  }
}

/** Counts reasons. */
export function countReasons(reasons: Iterable<string>): { reason: string; connections: number }[] {
  const counts = new Map<string, number>()
  for (const reason of reasons) counts.set(reason, (counts.get(reason) ?? 0) + 1)
  return [...counts].map(([reason, connections]) => ({ reason, connections }))
}

/** Everyone who subscribed to `tsunagi.handover` gets the same object that the servers' events carry. */
export function publishReport(report: HandoverReport): void {
  channel('tsunagi.handover').publish(report)
}

/** The one line for people. */
export function reportLine(report: HandoverReport): string {
  const what = `${report.moved} connection${report.moved === 1 ? '' : 's'}`
  const stayed = report.stayed.map(({ reason, connections }) => `${connections} drain: ${reason}`).join('; ')
  const frozen = ['freeze', 'snapshot', 'send', 'receive', 'restore', 'commit'].reduce(
    (sum, phase) => sum + (report.phases[phase as Phase] ?? 0),
    0,
  )
  const line =
    report.role === 'predecessor'
      ? `handed ${what} over to pid ${report.successor} in ${(frozen / 1000).toFixed(1)} ms`
      : `took ${what} over from pid ${report.predecessor} in ${(frozen / 1000).toFixed(1)} ms (generation ${report.generation})`
  return stayed ? `${line}; ${stayed}` : line
}
