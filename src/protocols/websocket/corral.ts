/**
 * A WebSocket that is always in the middle of something would never move. So one that waits for its turn is corralled for a moment: it is not read from,
 * what the application sends is kept, and what zlib or a Blob is at work on comes to its end. What was kept goes along, in order.
 */
import type { Socket } from 'node:net'
import { resumeReading, stopReading } from '../../native/net-internals.js'
import { endsByItself, isQuiescent } from './quiescence.js'
import { type Act, divert, perform } from './sender.js'
import type { WebSocketInternals } from './ws.js'

export class Corral {
  /** What the application has sent while it was closed, copied. */
  readonly acts: Act[] = []
  readonly #ws: WebSocketInternals
  readonly #socket: Socket
  readonly #obstacleAbove: () => unknown
  readonly #onQuiescent: () => void
  #timer: NodeJS.Timeout | undefined
  #undivert: (() => void) | undefined
  #closedAt = 0

  /** What is spoken on it may need to go on for a while: `obstacleAbove`. Calls back when the WebSocket is quiescent, perhaps more than once: it opens now and then if it does not move. */
  constructor(ws: WebSocketInternals, socket: Socket, obstacleAbove: () => unknown, onQuiescent: () => void) {
    this.#ws = ws
    this.#socket = socket
    this.#obstacleAbove = obstacleAbove
    this.#onQuiescent = onQuiescent
    this.#look()
  }

  /** It moves: what was kept goes along. */
  leave(): void {
    clearTimeout(this.#timer)
    this.#undivert?.()
    this.#undivert = undefined
  }

  /** Everything as before; what was kept is sent here. */
  open(): void {
    if (this.#undivert) resumeReading(this.#socket)
    this.leave()
    for (const act of this.acts.splice(0)) perform(this.#ws, act)
  }

  #look(): void {
    if (this.#socket.destroyed) return this.leave()
    let next = POLL_MS
    if (this.#undivert && Date.now() - this.#closedAt > LONGEST_MS) {
      this.open()
      next = LONGEST_MS
    } else if (this.#undivert === undefined && !endsByItself(this.#ws) && !this.#obstacleAbove()) this.#close()
    if (this.#undivert && isQuiescent(this.#ws)) {
      this.#onQuiescent()
      next = LONGEST_MS
    }
    this.#timer = setTimeout(() => this.#look(), next).unref()
  }

  #close(): void {
    this.#closedAt = Date.now()
    this.#undivert = divert(this.#ws, (act) => this.acts.push('data' in act ? { ...act, data: Uint8Array.from(act.data) } : act))
    stopReading(this.#socket)
  }
}

const POLL_MS = 2
/** Longest that a client is not served for the sake of a move, ms. A transaction takes a few. */
const LONGEST_MS = 500
