import type { Socket } from 'node:net'
import { setNeedDrain } from '../native/net-internals.js'

/**
 * Which sockets came from a predecessor, and whether their handler has asked. What a re-run 'connection' handler writes or ends before it
 * returns is discarded unless it asked first: otherwise greetings would repeat and a firehose start again. Asking is `isResumed` or `carry`.
 */
export class Resumption {
  readonly #resumed = new WeakMap<Socket, { muted: boolean }>()
  readonly #asked = new WeakSet<Socket>()

  /** Whether `socket` came from a predecessor. Its writes count from now on, and its application knows of handovers. */
  ask(socket: Socket): boolean {
    this.#asked.add(socket)
    const state = this.#resumed.get(socket)
    if (state?.muted) unmute(socket)
    if (state) state.muted = false
    return state !== undefined
  }

  hasAsked(socket: Socket): boolean {
    return this.#asked.has(socket)
  }

  /** Runs a 'connection' handler for a resumed socket, with its writes discarded until it asks. */
  runHandler(socket: Socket, handler: () => void): void {
    const state = { muted: true }
    this.#resumed.set(socket, state)
    mute(socket)
    try {
      handler()
    } finally {
      // A socket whose end() was called in the predecessor stays mute: its application was done with writing.
      if (state.muted && !socket.writableEnded) unmute(socket)
    }
  }

  adopt(socket: Socket): void {
    this.#resumed.set(socket, { muted: false })
  }
}

/** Own properties hide the stream's methods: nothing is written, callbacks are called, and beyond the high-water mark `write` says so, since a loop may wait for that. */
function mute(socket: Socket): void {
  let discarded = 0
  const own = socket as unknown as Record<string, unknown>
  own['write'] = function discard(chunk: unknown, encoding?: unknown, callback?: unknown): boolean {
    discarded += typeof chunk === 'string' ? Buffer.byteLength(chunk) : ((chunk as Uint8Array | undefined)?.length ?? 0)
    acknowledge(encoding, callback)
    if (discarded < socket.writableHighWaterMark) return true
    // 'drain' comes by itself once moved bytes have gone out, else now.
    if (socket.writableLength > 0) setNeedDrain(socket, true)
    else process.nextTick(() => socket.emit('drain'))
    return false
  }
  own['end'] = function discardEnd(chunk?: unknown, encoding?: unknown, callback?: unknown): Socket {
    acknowledge(chunk, encoding, callback)
    return socket
  }
  own['destroySoon'] = () => {}
}

function unmute(socket: Socket): void {
  const own = socket as unknown as Record<string, unknown>
  delete own['write']
  delete own['end']
  delete own['destroySoon']
}

function acknowledge(...candidates: unknown[]): void {
  const callback = candidates.find((candidate) => typeof candidate === 'function') as (() => void) | undefined
  if (callback) process.nextTick(callback, null)
}
