/** What the `tsunagi` command and cluster workers ask a process that serves (see messages.ts for the order). */
import type { Canary } from './messages.js'

/** From `tsunagi status`: a process that wants to know, and takes nothing over. */
export interface Inquiry {
  type: 'inquiry'
}

/** How things stand in a process, as it would be frozen now. */
export interface Status {
  type: 'status'
  pid: number
  version: string
  node: string
  /** Its main module. */
  program: string
  /** TSUNAGI_NAME, '' without one. */
  name: string
  /** Seconds since it was started. */
  uptime: number
  generation: number
  state: 'serving' | 'taking over' | 'handing over' | 'retired'
  listeners: string[]
  /** Connections that would move now, by the rule that asks for it. */
  moving: [string, number][]
  /** Those that would not, by reason. */
  staying: [string, number][]
}

/** From a cluster worker that is disconnected, or a successor that gives its canary back: where it is to be found. */
export interface Come {
  type: 'come'
  address: string
  /** Why the canary has failed. */
  reason?: string
}

/** From `tsunagi reload`. */
export interface Reload {
  type: 'reload'
  /** Milliseconds that the new version may take until it serves. */
  timeout: number
  /** Its environment: as the process has it now, or as it was started with. */
  env: 'current' | 'fresh'
  canary?: Canary
}

export interface Reloaded {
  type: 'reloaded'
  successor: number
  generation: number
  /** Connections that have moved so far; those that stay, by reason; those that move alone once they are not in the middle of something any more. */
  moved: number
  staying: [string, number][]
  later: [string, number][]
}

/** From `tsunagi snapshot`. */
export interface Save {
  type: 'save'
}

export interface Saved {
  type: 'saved'
  /** The snapshot, which the next start of the address on this machine would restore. */
  file: string
  connections: number
  /** Those that could not be saved and end with the process, by reason. */
  ending: [string, number][]
}
