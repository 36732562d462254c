import { AsyncLocalStorage } from 'node:async_hooks'
import { syncBuiltinESMExports } from 'node:module'
import timers from 'node:timers'

/**
 * Once this process has handed over, what its intervals write would reach clients a second time: the successor has the same interval.
 * So `setInterval` is wrapped, at no cost until then; afterwards an interval no longer keeps the process alive, and what its callback writes
 * to moved connections, later in an awaited continuation included, is dropped. One-shot timers belong to work that was begun: they are served.
 */
export class RepeatingTimers {
  readonly #within = new AsyncLocalStorage<true>()
  readonly #original = timers.setInterval
  readonly #live = new Set<WeakRef<NodeJS.Timeout>>()
  readonly #collected = new FinalizationRegistry<WeakRef<NodeJS.Timeout>>((reference) => this.#live.delete(reference))
  #muted = false

  constructor() {
    const wrapped = ((callback: (...args: unknown[]) => void, ms?: number, ...args: unknown[]) => {
      if (typeof callback !== 'function') return this.#original(callback, ms, ...args)
      const self = this
      const timer = this.#original(
        function interval(this: unknown, ...given: unknown[]) {
          return self.#muted ? self.#within.run(true, () => callback.apply(this, given)) : callback.apply(this, given)
        },
        ms,
        ...args,
      )
      const reference = new WeakRef(timer)
      this.#live.add(reference)
      this.#collected.register(timer, reference)
      return timer
    }) as typeof setInterval
    Object.assign(wrapped, this.#original)
    timers.setInterval = wrapped
    globalThis.setInterval = wrapped
    syncBuiltinESMExports() // for `import { setInterval } from 'node:timers'`
  }

  /** Whether the code that runs now was started by an interval after `mute`. */
  get inside(): boolean {
    return this.#muted && this.#within.getStore() === true
  }

  mute(): void {
    this.#muted = true
    for (const reference of this.#live) reference.deref()?.unref()
  }

  /** The handover was taken back: intervals speak again. */
  unmute(): void {
    this.#muted = false
    for (const reference of this.#live) reference.deref()?.ref()
  }

  /** Puts `setInterval` back. */
  close(): void {
    timers.setInterval = this.#original
    globalThis.setInterval = this.#original
  }
}
