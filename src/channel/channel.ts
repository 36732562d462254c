import { TsunagiError } from '../errors.js'
import { decode, encode, type Received } from './codec.js'
import { encodeFrame, FrameReader } from './frame.js'
import type { Message, MessageOf, MessageType } from './messages.js'

/** What a channel needs from below: bytes and descriptors in, bytes and descriptors out. */
export interface Transport {
  /** Writes all of `chunks`, the descriptors with the first byte. Throws when that takes longer than `timeoutMs`. */
  send(chunks: readonly Uint8Array[], fds: readonly number[], timeoutMs: number): void
  /** Waits up to `timeoutMs` (-1: without end) for bytes; 0 bytes: the peer closed. `undefined`: nothing came in time. */
  receive(into: Uint8Array, timeoutMs: number): { bytes: number; fds: number[] } | undefined
  /** Calls back on the event loop whenever something can be received, until the returned function is called. */
  watch(onReadable: () => void): () => void
  closeFds(fds: readonly number[]): void
  close(): void
}

/**
 * The conversation with one other process. It can be read in two ways, never both at once: by `receive`, which blocks this thread
 * (the frozen block and the look-up), or by `listen`, on the event loop. Closing it tells the listener why. Idle, it does not hold the process open.
 */
export class Channel {
  readonly #transport: Transport
  readonly #reader = new FrameReader()
  #stopWatching: (() => void) | undefined
  #listener: ChannelListener | undefined
  #closed = false

  constructor(transport: Transport) {
    this.#transport = transport
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Sends one message; returns once the kernel has all of it. */
  send(message: Message, options: { segments?: readonly Uint8Array[]; fds?: readonly number[]; timeoutMs?: number } = {}): void {
    if (this.#closed) throw closedError()
    const frame = encode(message, options.segments, options.fds)
    try {
      this.#transport.send(encodeFrame(frame), frame.fds, options.timeoutMs ?? DEFAULT_SEND_TIMEOUT)
    } catch (error) {
      // Part of the frame may be out: whatever followed would be read as the rest of it.
      if ((error as NodeJS.ErrnoException).code === 'ETIMEDOUT') this.close(error as Error)
      throw error
    }
  }

  /** Blocks until a whole message is here. Throws ERR_TSUNAGI_CHANNEL_CLOSED when the peer is gone; `undefined` after `timeoutMs`. */
  receive(timeoutMs: number, now: () => number = () => performance.now()): Received | undefined {
    if (this.#closed) throw closedError()
    const end = timeoutMs < 0 ? Number.POSITIVE_INFINITY : now() + timeoutMs
    for (;;) {
      const left = timeoutMs < 0 ? -1 : Math.max(0, Math.ceil(end - now()))
      const piece = this.#transport.receive(this.#reader.room, left)
      if (piece === undefined) return undefined
      const received = this.#take(piece)
      if (received) return received
    }
  }

  /** Blocks for the one kind of message that may come now; any other kind is a breach of protocol. */
  expect<T extends MessageType>(type: T, timeoutMs: number): (Received & { message: MessageOf<T> }) | undefined {
    const received = this.receive(timeoutMs)
    if (received === undefined) return undefined
    if (received.message.type !== type) {
      this.closeFds(received.fds)
      throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', `The other process sent "${received.message.type}" where "${type}" was due.`)
    }
    return received as Received & { message: MessageOf<T> }
  }

  /** Delivers messages on the event loop from now on. */
  listen(listener: ChannelListener): void {
    this.#listener = listener
    this.#stopWatching ??= this.#transport.watch(() => this.#transportOnReadable())
  }

  /** Delivers what has arrived so far, for whoever has learned of the peer's death before its last words. */
  deliverNow(): void {
    this.#transportOnReadable()
  }

  /** Stops delivering, so that `receive` may be used. */
  pause(): void {
    this.#stopWatching?.()
    this.#stopWatching = undefined
    this.#listener = undefined
  }

  closeFds(fds: readonly number[]): void {
    if (fds.length > 0) this.#transport.closeFds(fds)
  }

  /** Closes the channel and every descriptor that arrived and was not taken. The listener's `onClose` is called with the reason. */
  close(reason: Error = closedError()): void {
    if (this.#closed) return
    this.#closed = true
    const listener = this.#listener
    this.pause()
    this.closeFds(this.#reader.looseFds.splice(0))
    this.#transport.close()
    listener?.onClose(reason)
  }

  #transportOnReadable(): void {
    while (this.#listener !== undefined && !this.#closed) {
      const received = this.#receiveOrClose()
      if (received === undefined) return
      try {
        this.#listener.onMessage(received)
      } catch (error) {
        this.close(error as Error)
        // A breach of protocol is the peer's; anything else is a fault of our own that nobody may swallow.
        if (!(error instanceof TsunagiError)) throw error
      }
    }
  }

  /** The next whole message, or `undefined` where there is none now; at the end of the stream, or for one that makes no sense, the channel closes. */
  #receiveOrClose(): Received | undefined {
    try {
      for (;;) {
        const piece = this.#transport.receive(this.#reader.room, 0)
        if (piece === undefined) return undefined
        const received = this.#take(piece)
        if (received) return received
      }
    } catch (error) {
      this.close(error as Error)
      return undefined
    }
  }

  #take(piece: { bytes: number; fds: number[] }): Received | undefined {
    if (piece.bytes === 0) throw closedError()
    const frame = this.#reader.advance(piece.bytes, piece.fds)
    if (frame === undefined) return undefined
    try {
      return decode(frame)
    } catch (error) {
      this.closeFds(frame.fds)
      throw error
    }
  }
}

export interface ChannelListener {
  /** Takes ownership of the received descriptors. */
  onMessage(received: Received): void
  onClose(reason: Error): void
}

/** A message that the kernel does not take within this many milliseconds means that the peer does not read. */
const DEFAULT_SEND_TIMEOUT = 5_000

function closedError(): TsunagiError {
  return new TsunagiError('ERR_TSUNAGI_CHANNEL_CLOSED', 'The other process closed the channel of the handover, or has died.')
}
