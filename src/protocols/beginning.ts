import { isInRepeatingTimer } from '../native/net-internals.js'
import { asLatin1 } from './event-stream.js'
import type { Obstacle } from './protocol.js'

/**
 * Whether the next process would repeat what an event stream began with. What comes in the turn of the head is a greeting, and kept to itself there. A
 * greeting that comes later, when its handler has waited for something, looks like any event, and nobody can tell which it is. Its one rule: in doubt the stream stays. So its
 * first event tells: with an id (then Last-Event-ID says what is missing), from an interval, in company of an older stream that gets the same, or
 * later than a handler waits, it was none.
 */
export class Beginning {
  #isTold: boolean | undefined
  #isTurnOfHead = true
  readonly #since = performance.now()

  /** `isTold`: the stream has begun in another process, which knew. */
  constructor(isTold: boolean) {
    if (isTold) this.#isTold = true
    else youngUntil = this.#since + GREETING_MS
    setImmediate(() => {
      this.#isTurnOfHead = false
    })
  }

  wrote(chunk: unknown, encoding: unknown): void {
    if (this.#isTold !== undefined && performance.now() >= youngUntil) return
    const text = asLatin1(chunk, encoding)
    if (!EVENT.test(text)) return
    if (this.#isTold !== undefined) return void thisTurn().older.add(text)
    if (this.#isTurnOfHead || this.#left() <= 0 || ID.test(text) || isInRepeatingTimer()) this.#isTold = true
    else thisTurn().first.set(this, text)
  }

  obstacle(): (Obstacle & { readonly left?: number }) | undefined {
    if (this.#isTold === false) return { reason: LATE_GREETING, passes: false }
    const left = this.#left()
    return this.#isTold || left <= 0 ? undefined : { reason: 'it has just begun', passes: true, left }
  }

  /** The turn of its first event is over. */
  decide(isTold: boolean): void {
    this.#isTold ??= isTold
  }

  #left(): number {
    return this.#since + GREETING_MS - performance.now()
  }
}

/** What was written to event streams in this turn of the event loop, while some of them are young. */
interface Turn {
  readonly older: Set<string>
  /** Streams that have had their first event in it. */
  readonly first: Map<Beginning, string>
}

let turn: Turn | undefined
let youngUntil = 0

function thisTurn(): Turn {
  if (turn) return turn
  const older = new Set<string>()
  const first = new Map<Beginning, string>()
  turn = { older, first }
  setImmediate(() => {
    turn = undefined
    for (const [beginning, text] of first) beginning.decide(older.has(text))
  })
  return turn
}

const LATE_GREETING =
  'its first event came later than its head: whether the next version repeats it is not known (isResumed tells the handler)'
const EVENT = /^(data|event|id)\b/m
const ID = /^id\b/m
/** A handler that has not greeted by then does not greet. */
const GREETING_MS = 2_000
