/**
 * By what a worker says its supervisor knows that the old one may go: node:cluster's own message when a server listens, on which PM2 stops the old
 * worker 50 ms later, or the application's 'ready'. While a predecessor is about to hand over, that would be too early: it is held until this
 * process serves. Nothing else is. Outside a handover nothing is installed, unless the supervisor waits for 'ready', which may come before the server listens.
 */
export class Announcement {
  readonly #held: unknown[][] = []
  #original: typeof process.send
  #isHolding = false
  #wrapped: typeof process.send
  #sayReady!: () => void
  /** Resolves when the application has said that it is ready. */
  readonly ready = new Promise<void>((resolve) => {
    this.#sayReady = resolve
  })

  hold(): void {
    this.watch()
    this.#isHolding = true
  }

  /** From now on it is known whether the application has said that it is ready. */
  watch(): void {
    const { send } = process
    if (send === undefined || this.#original) return
    const announcement = this
    this.#original = send
    this.#wrapped = function sendUnlessTooEarly(this: NodeJS.Process, ...message: unknown[]) {
      if (!announcement.#isHeld(message[0])) return Reflect.apply(send, this, message)
      announcement.#held.push(message)
      return true
    } as typeof process.send
    process.send = this.#wrapped as NonNullable<typeof process.send>
  }

  /** The inverse: this process serves, alone or as a successor. What was held goes out in its order. */
  release(): void {
    const send = this.#original
    if (send === undefined) return
    if (process.send === this.#wrapped) process.send = send // else somebody has wrapped it: it lets everything pass from now on
    this.#original = undefined
    this.#isHolding = false
    for (const message of this.#held.splice(0)) if (process.connected) Reflect.apply(send, process, message)
  }

  #isHeld(message: unknown): boolean {
    if (message === 'ready') this.#sayReady()
    return this.#isHolding && (message === 'ready' || isListening(message))
  }
}

/** @note lib/internal/cluster/child.js _getServer(), lib/internal/cluster/utils.js sendHelper(). */
function isListening(message: unknown): boolean {
  const { cmd, act } = (message ?? {}) as { cmd?: unknown; act?: unknown }
  return cmd === 'NODE_CLUSTER' && act === 'listening'
}
