import { channel } from 'node:diagnostics_channel'
import type { HolderName } from '../holders/holder.js'
import type { Phase } from './phase.js'

/** What happened in one handover, as one side saw it. */
export interface HandoverReport {
  role: 'predecessor' | 'successor'
  /** 1 for the first process of a line, one more with each handover; the successor's. */
  generation: number
  predecessor: number
  /** 0 in the predecessor's report where it left before a successor was there. */
  successor: number
  /** Who held the connections between the two, where they did not run at the same time. */
  holder?: HolderName
  /** Address keys of the listeners that moved. */
  listeners: string[]
  /** Connections that moved, and by which rule. */
  moved: number
  movedBy: { rule: string; connections: number }[]
  /** Connections that did not and drain, by reason. */
  stayed: { reason: string; connections: number }[]
  /** Connections that were in the middle of something, by reason: each moves alone once that has passed, which is not counted in `moved`. */
  later: { reason: string; connections: number }[]
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
    this.phases[phase] = (this.phases[phase] ?? 0) + Math.round((now - this.#since) * 1000)
    this.#since = now
  }
}

/** Adds up the transactions of one handover. */
export class Tally {
  #moved = 0
  readonly #rules = new Map<string, number>()
  readonly #stayed = new Map<string, number>()
  readonly #later = new Map<string, number>()
  #unreadBytes = 0
  #unsentBytes = 0
  #carriedBytes = 0
  readonly #phases: HandoverReport['phases'] = {}
  /** Milliseconds that the last transaction kept this process busy. */
  lastBlockMs = 0

  move(rule: string, connections = 1): void {
    this.#moved += connections
    this.#rules.set(rule, (this.#rules.get(rule) ?? 0) + connections)
  }

  stay(reason: string, connections = 1): void {
    if (connections > 0) this.#stayed.set(reason, (this.#stayed.get(reason) ?? 0) + connections)
  }

  moveLater(reason: string): void {
    this.#later.set(reason, (this.#later.get(reason) ?? 0) + 1)
  }

  bytes(unread: number, unsent: number, carried: number): void {
    this.#unreadBytes += unread
    this.#unsentBytes += unsent
    this.#carriedBytes += carried
  }

  time(phases: HandoverReport['phases']): void {
    let total = 0
    for (const [phase, us] of Object.entries(phases) as [Phase, number][]) {
      this.#phases[phase] = (this.#phases[phase] ?? 0) + us
      total += us
    }
    this.lastBlockMs = total / 1000
  }

  figures() {
    return {
      moved: this.#moved,
      movedBy: [...this.#rules].map(([rule, connections]) => ({ rule, connections })),
      stayed: [...this.#stayed].map(([reason, connections]) => ({ reason, connections })),
      later: [...this.#later].map(([reason, connections]) => ({ reason, connections })),
      unreadBytes: this.#unreadBytes,
      unsentBytes: this.#unsentBytes,
      carriedBytes: this.#carriedBytes,
      phases: this.#phases,
    }
  }
}

/** Everyone who subscribed to `tsunagi.handover` gets the same object that the servers' events carry. */
export function publishReport(report: HandoverReport): void {
  channel('tsunagi.handover').publish(report)
}

/** The one line for people. */
export function reportLine(report: HandoverReport): string {
  const what = `${report.moved} connection${report.moved === 1 ? '' : 's'}`
  // From a holder there is no other process that would serve them on.
  const fate = report.role === 'successor' && report.holder ? 'ended' : 'drain'
  const others = [
    ...report.later.map(({ reason, connections }) => `${connections} move a little later: ${reason}`),
    ...report.stayed.map(({ reason, connections }) => `${connections} ${fate}: ${reason}`),
  ]
  const frozen = ['freeze', 'snapshot', 'send', 'receive', 'restore', 'commit'].reduce(
    (sum, phase) => sum + (report.phases[phase as Phase] ?? 0),
    0,
  )
  const { predecessor, successor, holder } = report
  const ms = `in ${(frozen / 1000).toFixed(1)} ms`
  const line =
    report.role === 'predecessor'
      ? `${holder ? `left ${what} with the ${holder}` : `handed ${what} over to pid ${successor}`} ${ms}`
      : `took ${what} over from ${holder ? `the ${holder}, left by ` : ''}pid ${predecessor} ${ms} (generation ${report.generation})`
  return [line, ...others].join('; ')
}

/** How often each comes, in the order in which they come first. */
export function counted(names: readonly string[]): [string, number][] {
  const counts = new Map<string, number>()
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  return [...counts]
}
