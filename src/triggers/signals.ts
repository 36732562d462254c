import { constants } from 'node:os'

/**
 * Signals that mean "leave". While a successor is taking over they are this library's: a handover that succeeds is the way to leave, and the
 * application's own shutdown code would say goodbye on connections that go on. One that fails lets the application have them after all.
 * Outside a handover nothing is installed, and signals do what they do without tsunagi.
 */
export class SignalGate {
  #isClosed = false
  #held: NodeJS.Signals | 'shutdown' | undefined
  #onLeave: (() => void) | undefined
  #removals: (() => void)[] = []
  readonly #patience: () => number | undefined
  /** Signals that the application listens for. */
  readonly #awaited = new Set<NodeJS.Signals>()

  /**
   * `patience`: milliseconds after which the application gets what is held although the successor is not there yet, since a supervisor would kill soon.
   * Without a listener of the application there is nothing to hurry for.
   */
  constructor(patience: () => number | undefined = () => undefined) {
    this.#patience = patience
  }

  /** Whether signals are held back. */
  get isClosed(): boolean {
    return this.#isClosed
  }

  /** A successor has come: holds signals back from now on. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#removals = [this.#gateEmit(), ...SIGNALS.map((signal) => this.#gateListeners(signal))]
  }

  /** The successor serves: from here a signal only cuts short what this process still finishes. */
  leaveBy(onLeave: () => void): void {
    this.#onLeave = onLeave
    if (this.#held) onLeave()
  }

  /** The successor has gone: the application gets what was held back. */
  open(): void {
    if (!this.#isClosed) return
    this.#isClosed = false
    for (const remove of this.#removals) remove()
    const held = this.#held
    this.#held = undefined
    if (held) deliver(held)
  }

  #hold(asked: NodeJS.Signals | 'shutdown'): void {
    if (this.#onLeave) this.#onLeave()
    else if (this.#held === undefined) this.#keep(asked)
    else this.open() // asked twice: whoever asks does not want to wait
  }

  #keep(asked: NodeJS.Signals | 'shutdown'): void {
    this.#held = asked
    const patience = this.#patience()
    if (patience === undefined || !(asked === 'shutdown' || this.#awaited.has(asked))) return
    setTimeout(() => this.#onLeave ?? this.open(), patience).unref()
  }

  /**
   * The application's listeners step aside.
   * @note lib/internal/process/signal.js: a signal calls the `process.emit` of the time at which its first listener was added, so that wrapping
   * it now is not enough.
   */
  #gateListeners(signal: NodeJS.Signals): () => void {
    const aside = process.rawListeners(signal) as (() => void)[]
    if (aside.length > 0) this.#awaited.add(signal)
    const processOnSignal = () => this.#hold(signal)
    process.on(signal, processOnSignal) // before the others go: without any listener the signal would end this process
    for (const listener of aside) process.off(signal, listener)
    return () => {
      for (const listener of aside) process.on(signal, listener)
      process.off(signal, processOnSignal)
      this.#awaited.delete(signal)
    }
  }

  /** What comes as an event: a message of PM2, or a signal that the application emits itself. */
  #gateEmit(): () => void {
    const { emit } = process
    const gate = this
    const gatedEmit = function gatedEmit(this: NodeJS.Process, event: string | symbol, ...args: unknown[]) {
      const asked = gate.#isClosed ? askedToLeave(event, args[0]) : undefined
      if (asked === undefined) return Reflect.apply(emit, this, [event, ...args])
      gate.#hold(asked)
      return true
    } as typeof process.emit
    process.emit = gatedEmit
    return () => {
      if (process.emit === gatedEmit) process.emit = emit // else somebody has wrapped it: it lets everything pass from now on
    }
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
  else if (process.listenerCount(held) > 0) Reflect.apply(process.emit, process, [held, held, constants.signals[held]])
  else process.kill(process.pid, held) // nobody listens: what the system does by default
}
