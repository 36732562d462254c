/**
 * Signals that mean "leave". While a successor is taking over they are this library's: a handover that succeeds is the way to leave, and the
 * application's own shutdown code would say goodbye on connections that go on. One that fails lets the application have them after all.
 * Outside a handover nothing is installed, and signals do what they do without tsunagi.
 */
export class SignalGate {
  #emit: typeof process.emit | undefined
  #held: NodeJS.Signals | 'shutdown' | undefined
  #onLeave: (() => void) | undefined

  /** A successor has come: holds signals back from now on. */
  close(): void {
    if (this.#emit) return
    const emit = process.emit
    this.#emit = emit
    for (const signal of SIGNALS) process.on(signal, processOnSignal)
    const gate = this
    process.emit = function gatedEmit(this: NodeJS.Process, event: string | symbol, ...args: unknown[]) {
      const asked = askedToLeave(event, args[0])
      return asked ? gate.#hold(asked) : Reflect.apply(emit, this, [event, ...args])
    } as typeof process.emit
  }

  /** The successor serves: from here a signal only cuts short what this process still finishes. */
  leaveBy(onLeave: () => void): void {
    this.#onLeave = onLeave
    if (this.#held) onLeave()
  }

  /** The successor has gone: the application gets what was held back. */
  open(): void {
    if (!this.#emit) return
    process.emit = this.#emit
    this.#emit = undefined
    for (const signal of SIGNALS) process.off(signal, processOnSignal)
    const held = this.#held
    this.#held = undefined
    if (held) deliver(held)
  }

  #hold(asked: NodeJS.Signals | 'shutdown'): boolean {
    if (this.#onLeave) this.#onLeave()
    else if (this.#held === undefined) this.#held = asked
    else this.open() // asked twice: whoever asks does not want to wait
    return true
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const

/** PM2 sends the message 'shutdown' where signals do not exist, or `shutdown_with_message` is set. */
function askedToLeave(event: string | symbol, message: unknown): NodeJS.Signals | 'shutdown' | undefined {
  if (event === 'message' && message === 'shutdown') return 'shutdown'
  return SIGNALS.find((signal) => signal === event)
}

function deliver(held: NodeJS.Signals | 'shutdown'): void {
  if (held === 'shutdown') process.emit('message', 'shutdown', undefined)
  else if (process.listenerCount(held) > 0) process.emit(held, held)
  else process.kill(process.pid, held) // nobody listens: what the system does by default
}

/** Makes Node catch the signal; `gatedEmit` sees it first. */
function processOnSignal(): void {}
