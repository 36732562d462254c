/**
 * What a re-run 'connection' handler sends before it returns is discarded: its greeting, and what it tells all the others of somebody who has been here
 * all the time. Handlers run one after another, so while one is at work nothing that its copy of `ws` sends is meant.
 */
import { acknowledge, override } from './sender.js'
import type { Sender } from './ws.js'

export class Muting {
  /** How to end it, by what the senders of one copy of `ws` have in common. */
  readonly #copies = new Map<Sender, () => void>()

  begin(sender: Sender): void {
    const prototype = Object.getPrototypeOf(sender) as Sender
    if (this.#copies.has(prototype)) return
    const discard = (...args: unknown[]) => acknowledge(args)
    const { close } = prototype
    const methods = { send: discard, ping: discard, pong: discard, sendFrame: discard }
    let undo = override(prototype, methods)
    const undoClose = override(prototype, {
      // A handler that closes decides anew: one that always closes has done so before, and its WebSocket came as closing.
      close(this: Sender, ...args: unknown[]) {
        undo()
        Reflect.apply(close, this, args)
        undo = override(prototype, methods)
      },
    })
    this.#copies.set(prototype, () => {
      undo()
      undoClose()
    })
  }

  /** A second call does nothing. */
  end(sender: Sender): void {
    const prototype = Object.getPrototypeOf(sender) as Sender
    this.#copies.get(prototype)?.()
    this.#copies.delete(prototype)
  }
}
