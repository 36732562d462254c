import type { Socket } from 'node:net'
import type { Detached } from '../native/net-internals.js'
import type { LateSink } from '../protocols/protocol.js'

/**
 * What a moved connection looks like to the code of this process that still holds it. It is silent: no event of the connection reaches the
 * application any more. It is open: a handler that was still at work may write or end, and that goes to the successor as what it is, a write of
 * the application. Made by changing the socket's prototype once, so that nothing has to be prepared on the path of ordinary sockets.
 */

/** Turns `socket`, whose handle is gone already, into a moved one. */
export function becomeMoved(socket: Socket, sink: LateSink, { writableState }: Detached): void {
  ;(socket as Socket & Moved)[MOVED] = { sink, ended: writableState.ending, destroyed: false }
  Object.setPrototypeOf(socket, movedPrototype(Object.getPrototypeOf(socket) as object))
}

/** The inverse: the connection is this process's again. */
export function unbecomeMoved(socket: Socket): void {
  delete (socket as Partial<Moved>)[MOVED]
  Object.setPrototypeOf(socket, Object.getPrototypeOf(Object.getPrototypeOf(socket)) as object)
}

const MOVED = Symbol('tsunagi.moved')

interface Moved {
  [MOVED]: { readonly sink: LateSink; ended: boolean; destroyed: boolean }
}

/** Events that say something about the connection or its streams. Others are the application's own and go on. */
const SILENCED = new Set<string | symbol>([
  'close',
  'end',
  'error',
  'data',
  'readable',
  'finish',
  'drain',
  'timeout',
  'pause',
  'resume',
  'pipe',
  'unpipe',
  'connect',
  'ready',
])

type Callback = (error?: Error | null) => void

const methods = {
  emit(this: Socket & Moved, event: string | symbol, ...args: unknown[]): boolean {
    if (SILENCED.has(event)) return false
    const original = Object.getPrototypeOf(Object.getPrototypeOf(this)) as Socket
    return Reflect.apply(original.emit, this, [event, ...args])
  },
  write(this: Socket & Moved, chunk: unknown, encoding?: unknown, callback?: unknown): boolean {
    if (!this[MOVED].ended && !this[MOVED].destroyed) this[MOVED].sink.late('write', toBytes(chunk, encoding))
    acknowledge(typeof encoding === 'function' ? encoding : callback)
    return true
  },
  end(this: Socket & Moved, chunk?: unknown, encoding?: unknown, callback?: unknown): Socket {
    if (typeof chunk === 'function') return methods.end.call(this, undefined, undefined, chunk)
    if (!this[MOVED].ended && !this[MOVED].destroyed) {
      this[MOVED].ended = true
      this[MOVED].sink.late('end', chunk === undefined || chunk === null ? new Uint8Array() : toBytes(chunk, encoding))
    }
    acknowledge(typeof encoding === 'function' ? encoding : callback)
    return this
  },
  destroy(this: Socket & Moved): Socket {
    if (!this[MOVED].destroyed) {
      this[MOVED].destroyed = true
      this[MOVED].sink.late('destroy', new Uint8Array())
    }
    return this
  },
  destroySoon(this: Socket & Moved): void {
    methods.end.call(this)
  },
  resetAndDestroy(this: Socket & Moved): Socket {
    return methods.destroy.call(this)
  },
  read: () => null,
  cork(): void {},
  uncork(): void {},
  _unrefTimer(): void {},
}

/** Setters of net.Socket that would reach for a handle. */
const CHAINED = ['setTimeout', 'setNoDelay', 'setKeepAlive', 'pause', 'resume', 'ref', 'unref', 'setEncoding'] as const

const getters: Record<string, (this: Socket & Moved) => unknown> = {
  destroyed() {
    return this[MOVED].destroyed
  },
  writable() {
    return !this[MOVED].ended && !this[MOVED].destroyed
  },
  writableEnded() {
    return this[MOVED].ended
  },
  readable() {
    return !this[MOVED].destroyed
  },
  writableLength: () => 0,
  writableNeedDrain: () => false,
  errored: () => null,
  readyState() {
    return this[MOVED].destroyed ? 'closed' : 'open'
  },
}

const prototypes = new WeakMap<object, object>()

function movedPrototype(original: object): object {
  let prototype = prototypes.get(original)
  if (prototype === undefined) {
    prototype = Object.create(original) as object
    for (const [name, value] of Object.entries(methods))
      Object.defineProperty(prototype, name, { value, configurable: true, writable: true })
    for (const name of CHAINED) Object.defineProperty(prototype, name, { value: returnThis, configurable: true, writable: true })
    for (const [name, get] of Object.entries(getters)) Object.defineProperty(prototype, name, { get, set: ignore, configurable: true })
    prototypes.set(original, prototype)
  }
  return prototype
}

function returnThis(this: unknown): unknown {
  return this
}

function ignore(): void {}

function toBytes(chunk: unknown, encoding: unknown): Uint8Array {
  if (typeof chunk === 'string') return Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8')
  return chunk instanceof Uint8Array ? chunk : Buffer.from(String(chunk))
}

/** The bytes are on their way in another process, which is all that a write callback ever says. */
function acknowledge(callback: unknown): void {
  if (typeof callback === 'function') process.nextTick(callback as Callback, null)
}
