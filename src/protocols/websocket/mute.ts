/**
 * What a re-run 'connection' handler sends before it returns is discarded: its greeting, and what it tells all the others of somebody who has been here
 * all the time. Frames that are compressed already go out in any case: what one refers to another must not miss.
 */
import { override } from '../override.js'
import { acknowledge } from './sender.js'
import type { Sender } from './ws.js'

export class Muting {
  /** How to end it, by what the senders of one copy of `ws` have in common. */
  readonly #copies = new Map<Sender, () => void>()

  /** `isAlone`: until its end nothing but such handlers runs. Else others may send in between, who are told from them by their stack. */
  begin(sender: Sender, isAlone: boolean): void {
    const prototype = Object.getPrototypeOf(sender) as Sender
    if (this.#copies.has(prototype)) return
    const discarding = (original: (...args: never[]) => void) =>
      function discardUnlessOthers(this: Sender, ...args: unknown[]) {
        if (isAlone || isWithinUpgrade()) acknowledge(args)
        else Reflect.apply(original, this, args)
      }
    const { send, ping, pong } = prototype
    this.#copies.set(prototype, override(prototype, { send: discarding(send), ping: discarding(ping), pong: discarding(pong) }))
  }

  /** A second call does nothing. */
  end(sender: Sender): void {
    const prototype = Object.getPrototypeOf(sender) as Sender
    this.#copies.get(prototype)?.()
    this.#copies.delete(prototype)
  }
}

/** Whether a 'connection' handler is what is running. @note `ws` calls it from within its method of this name, which is never called when no upgrade is. */
function isWithinUpgrade(): boolean {
  const { stackTraceLimit, prepareStackTrace } = Error
  Error.stackTraceLimit = Number.POSITIVE_INFINITY
  Error.prepareStackTrace = (_error, sites) => sites.some((site) => site.getMethodName() === UPGRADE || site.getFunctionName() === UPGRADE)
  try {
    return (new Error('') as { stack?: unknown }).stack === true
  } finally {
    Error.stackTraceLimit = stackTraceLimit
    Error.prepareStackTrace = prepareStackTrace
  }
}

const UPGRADE = 'completeUpgrade'
