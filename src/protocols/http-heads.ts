import type { IncomingMessage } from 'node:http'
import type { Server, Socket } from 'node:net'
import { accountOf } from '../handover/account.js'
import { type HttpParser, idleParsers, observeParser, parserOf, parsersOf, stopObserving, unconsume } from '../native/net-internals.js'

/**
 * Half a request head is inside llhttp, where nobody gets it out again. So from a successor's hello on the bytes of connections go through JavaScript, and
 * those of a head that is not complete are kept, and up to a limit those of a body that is not: they are read again in the successor. Always would cost a tenth to a fifth of each request; like this
 * nothing is done before a handover, and nothing after one that failed.
 */
export class Heads {
  readonly #taps = new WeakMap<Socket, Tap>()

  /** From now on, in slices, so that requests are served meanwhile. `limit`: bytes of a request that is half received to keep. Returns how to undo it. */
  arm(server: Server, limit: number): () => void {
    const waiting = parsersOf(server).flatMap(({ socket }) => socket ?? [])
    const tapped = new Set<WeakRef<Socket>>()
    const arm = (socket: Socket, idle: ReadonlySet<HttpParser>) => {
      const parser = parserOf(socket)
      if (this.#taps.has(socket) || parser === null) return
      this.#taps.set(socket, new Tap(socket, accountOf(socket).consumed === 0 || idle.has(parser), limit))
      tapped.add(new WeakRef(socket))
    }
    const serverOnConnection = (socket: Socket) => arm(socket, NONE)
    server.on('connection', serverOnConnection) // behind the server's own listener, which makes the parser
    let slice: NodeJS.Immediate | undefined
    const next = () => {
      const idle = idleParsers(server)
      for (const socket of waiting.splice(0, SLICE)) arm(socket, idle)
      slice = waiting.length > 0 ? setImmediate(next) : undefined
    }
    next()
    return () => {
      clearImmediate(slice)
      server.off('connection', serverOnConnection)
      for (const reference of tapped) {
        const socket = reference.deref()
        if (socket === undefined) continue
        this.#taps.get(socket)?.remove()
        this.#taps.delete(socket)
      }
    }
  }

  /** The bytes of the head that is half read; `undefined`: there is none, or not all of it is here. */
  heldBy(socket: Socket): Uint8Array[] | undefined {
    return this.#taps.get(socket)?.head
  }

  /** The last request whose head is complete, as long as all its bytes are here. */
  uploadOn(socket: Socket): Upload | undefined {
    return this.#taps.get(socket)?.upload
  }
}

/** A request from its first byte to the last that was received. */
export interface Upload {
  readonly request: IncomingMessage
  readonly pieces: Uint8Array[]
  /** `socket.bytesWritten` when its head was complete and nobody had seen it. */
  readonly written: number
}

const NONE: ReadonlySet<HttpParser> = new Set()
/** Connections that are armed in one turn of the event loop. */
const SLICE = 250

class Tap {
  readonly #socket: Socket
  readonly #onData: (bytes: Uint8Array) => void
  readonly #reconsume: (() => void) | undefined
  /** What has come since the head that is half read began, the whole of the first piece included. */
  #pieces: Uint8Array[] = []
  #isWithinHead = false
  /** Whether the piece that is being parsed begins at a message, and how many have begun in it. */
  #isAtBoundary = false
  #begun = 0
  #hasLeft = false
  #isFirstOfPiece = false
  #last: { readonly complete: boolean; readonly headers: IncomingMessage['headers'] }
  readonly #limit: number
  #upload: Upload | undefined

  /** `isBetween`: the parser stands between two messages. */
  constructor(socket: Socket, isBetween: boolean, limit: number) {
    this.#socket = socket
    this.#limit = limit
    this.#last = { complete: isBetween, headers: { 'content-length': 'not known' } }
    this.#onData = (bytes) => this.#socketOnData(bytes)
    this.#reconsume = unconsume(socket)
    socket.prependListener('data', this.#onData) // before the parser's
    observeParser(socket, {
      onBegin: () => this.#parserOnBegin(),
      onHead: (request) => this.#parserOnHead(request),
    })
  }

  get head(): Uint8Array[] | undefined {
    if (!this.#isWithinHead || this.#pieces.length === 0) return undefined
    const [first, ...rest] = this.#pieces as [Uint8Array, ...Uint8Array[]]
    const own = this.#isFirstOfPiece ? first : behindLastMessage(first, this.#last)
    return own && [own, ...rest]
  }

  get upload(): Upload | undefined {
    return this.#upload
  }

  remove(): void {
    this.#leave()
    stopObserving(this.#socket)
    this.#reconsume?.()
  }

  #leave(): void {
    this.#socket.off('data', this.#onData)
    this.#isWithinHead = false
    this.#upload = undefined
    this.#hasLeft = true
  }

  #socketOnData(bytes: Uint8Array): void {
    if (this.#isWithinHead) return void this.#pieces.push(bytes)
    this.#upload = this.#upload && grown(this.#upload, bytes, this.#limit)
    this.#pieces = [bytes]
    this.#isAtBoundary = this.#last.complete
    this.#begun = 0
  }

  #parserOnBegin(): void {
    if (this.#hasLeft) return
    this.#isWithinHead = true
    this.#isFirstOfPiece = this.#begun++ === 0 && this.#isAtBoundary
  }

  #parserOnHead(request: IncomingMessage & { upgrade?: boolean }): void {
    this.#isWithinHead = false
    this.#last = request
    // Where the first piece holds the end of another message as well, where this one begins in it is not known.
    const { bytesWritten } = this.#socket
    this.#upload = this.#isFirstOfPiece ? within({ request, pieces: this.#pieces.slice(), written: bytesWritten }, this.#limit) : undefined
    if (request.upgrade) this.#leave() // what follows is no HTTP, and none of ours
  }
}

/** With what has come since; `undefined`: it is complete, or more than is kept. */
function grown(upload: Upload, bytes: Uint8Array, limit: number): Upload | undefined {
  if (upload.request.complete) return undefined
  upload.pieces.push(bytes)
  return within(upload, limit)
}

function within(upload: Upload, limit: number): Upload | undefined {
  return upload.pieces.reduce((sum, { length }) => sum + length, 0) <= limit ? upload : undefined
}

/** A head without an end has no empty line in it; nor has what is before it, unless that is a body of which only the length is known. */
function behindLastMessage(piece: Uint8Array, { headers }: Pick<IncomingMessage, 'headers'>): Uint8Array | undefined {
  if (Number(headers['content-length'] ?? 0) !== 0) return undefined
  const end = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength).lastIndexOf('\r\n\r\n')
  return end < 0 ? undefined : piece.subarray(end + 4)
}
