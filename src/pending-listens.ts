import { errorMonitor } from 'node:events'
import net, { type Server } from 'node:net'

/**
 * Calls of `listen()` that have not called back: one with a host name asks the resolver first, and a process is not ready before it knows whether it
 * got the address. Watches every server of the process until `close`, which is when this process serves.
 */
export class PendingListens {
  readonly #pending = new Set<Server>()
  readonly #original = net.Server.prototype.listen

  constructor() {
    const pending = this.#pending
    const original = this.#original
    net.Server.prototype.listen = function listen(this: Server, ...args: unknown[]) {
      const serverOnAnswer = () => {
        pending.delete(this)
        this.off('listening', serverOnAnswer)
        this.off(errorMonitor as unknown as 'error', serverOnAnswer)
      }
      pending.add(this)
      this.once('listening', serverOnAnswer)
      this.once(errorMonitor as unknown as 'error', serverOnAnswer) // a listener for 'error' itself would keep an unhandled one from being thrown
      return Reflect.apply(original, this, args)
    } as Server['listen']
  }

  get size(): number {
    return this.#pending.size
  }

  /** Puts `listen` back. */
  close(): void {
    net.Server.prototype.listen = this.#original
  }
}
