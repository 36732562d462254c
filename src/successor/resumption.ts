import { Socket } from 'node:net'
import { setNeedDrain, traceOf } from '../native/net-internals.js'

/**
 * Which sockets came from a predecessor, and whether their handler has asked. What a re-run 'connection' handler writes or ends before it
 * returns is discarded unless it asked first: otherwise greetings would repeat and a firehose start again. Asking is `isResumed` or `carry`.
 */
export class Resumption {
  readonly #asked = new WeakSet<Socket>()
  /** The socket whose handler runs now and has not asked. Handlers are run one after another in one synchronous pass. */
  #muted: Socket | undefined
  #discarded = 0
  /** Of protocols that discard in their own way: how to end that, until their handler has returned. */
  readonly #unmutes = new WeakMap<Socket, () => void>()

  #passEnds: (() => void)[] | undefined

  /** Whether `socket` came from a predecessor. Its writes count from now on, and its application knows of handovers. */
  ask(socket: Socket): boolean {
    this.#asked.add(socket)
    if (this.#muted === socket && !socket.writableEnded) this.#muted = undefined
    this.#unmutes.get(socket)?.()
    return traceOf(socket)?.resumed === true
  }

  hasAsked(socket: Socket): boolean {
    return this.#asked.has(socket)
  }

  /** Calls back once the handlers of this synchronous pass have all been run; outside of one it does nothing, and is false. */
  onPassEnd(callback: () => void): boolean {
    this.#passEnds?.push(callback)
    return this.#passEnds !== undefined
  }

  /** Calls back if the application asks. */
  onAsk(socket: Socket, unmute: () => void): void {
    this.#unmutes.set(socket, unmute)
  }

  adopt(socket: Socket): void {
    const noted = traceOf(socket)
    if (noted) noted.resumed = true
  }

  /**
   * For the time of `pass`, the methods that write are replaced for all sockets; those of other sockets than the muted one go through.
   * Nothing is put on the sockets themselves: they will be in use for long.
   */
  during(pass: () => void): void {
    const prototype = Socket.prototype
    const { write, end, destroySoon } = prototype
    const own = (['write', 'end', 'destroySoon'] as const).map((name) => [name, Object.getOwnPropertyDescriptor(prototype, name)] as const)
    const self = this
    prototype.write = function mutedWrite(this: Socket, ...args: unknown[]) {
      return this === self.#muted ? self.#discard(this, args) : Reflect.apply(write, this, args)
    } as typeof write
    prototype.end = function mutedEnd(this: Socket, ...args: unknown[]) {
      if (this !== self.#muted) return Reflect.apply(end, this, args)
      acknowledge(args)
      return this
    } as typeof end
    prototype.destroySoon = function mutedDestroySoon(this: Socket) {
      if (this !== self.#muted) Reflect.apply(destroySoon, this, [])
    }
    this.#passEnds = []
    try {
      pass()
    } finally {
      this.#muted = undefined
      for (const callback of this.#passEnds) callback()
      this.#passEnds = undefined
      for (const [name, descriptor] of own) {
        if (descriptor) Object.defineProperty(prototype, name, descriptor)
        else delete (prototype as Partial<Socket>)[name]
      }
    }
  }

  /** Runs a 'connection' handler for a resumed socket, within `during`. */
  runHandler(socket: Socket, handler: () => void): void {
    this.adopt(socket)
    this.#muted = socket
    this.#discarded = 0
    try {
      handler()
    } finally {
      // Its application was done with writing in the predecessor: an error for what this handler writes later would only hurt.
      if (this.#muted === socket && socket.writableEnded) silence(socket)
      this.#muted = undefined
    }
  }

  /** Nothing is written, callbacks are called, and beyond the high-water mark it says so, since a loop may wait for that. */
  #discard(socket: Socket, args: unknown[]): boolean {
    const [chunk] = args
    this.#discarded += typeof chunk === 'string' ? Buffer.byteLength(chunk) : ((chunk as Uint8Array | undefined)?.length ?? 0)
    acknowledge(args)
    if (this.#discarded < socket.writableHighWaterMark) return true
    // 'drain' comes by itself once moved bytes have gone out, else now.
    if (socket.writableLength > 0) setNeedDrain(socket, true)
    else process.nextTick(() => socket.emit('drain'))
    return false
  }
}

function silence(socket: Socket): void {
  const own = socket as unknown as Record<string, unknown>
  own['write'] = (...args: unknown[]) => {
    acknowledge(args)
    return true
  }
  own['end'] = (...args: unknown[]) => {
    acknowledge(args)
    return socket
  }
}

function acknowledge(args: unknown[]): void {
  const callback = args.find((candidate) => typeof candidate === 'function') as (() => void) | undefined
  if (callback) process.nextTick(callback, null)
}
