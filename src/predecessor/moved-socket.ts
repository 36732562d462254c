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
  const moved = socket as Socket & MovedState
  moved[SINK] = sink
  moved[ENDED] = writableState.ending
  moved[DESTROYED] = false
  Object.setPrototypeOf(socket, movedPrototype(Object.getPrototypeOf(socket) as object))
}

/** The inverse: the connection is this process's again. */
export function unbecomeMoved(socket: Socket): void {
  const moved: Partial<MovedState> = socket as Socket & MovedState
  delete moved[SINK]
  delete moved[ENDED]
  delete moved[DESTROYED]
  Object.setPrototypeOf(socket, Object.getPrototypeOf(Object.getPrototypeOf(socket)) as object)
}

const SINK = Symbol('tsunagi.sink')
const ENDED = Symbol('tsunagi.ended')
const DESTROYED = Symbol('tsunagi.destroyed')

interface MovedState {
  [SINK]: LateSink
  [ENDED]: boolean
  [DESTROYED]: boolean
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
  emit(this: Socket & MovedState, event: string | symbol, ...args: unknown[]): boolean {
    if (SILENCED.has(event)) return false
    const original = Object.getPrototypeOf(Object.getPrototypeOf(this)) as Socket
    return Reflect.apply(original.emit, this, [event, ...args])
  },
  write(this: Socket & MovedState, chunk: unknown, encoding?: unknown, callback?: unknown): boolean {
    if (!this[ENDED] && !this[DESTROYED]) this[SINK].late('write', toBytes(chunk, encoding))
    acknowledge(typeof encoding === 'function' ? encoding : callback)
    return true
  },
  end(this: Socket & MovedState, chunk?: unknown, encoding?: unknown, callback?: unknown): Socket {
    if (typeof chunk === 'function') return methods.end.call(this, undefined, undefined, chunk)
    if (!this[ENDED] && !this[DESTROYED]) {
      this[ENDED] = true
      this[SINK].late('end', chunk === undefined || chunk === null ? new Uint8Array() : toBytes(chunk, encoding))
    }
    acknowledge(typeof encoding === 'function' ? encoding : callback)
    return this
  },
  destroy(this: Socket & MovedState): Socket {
    if (!this[DESTROYED]) {
      this[DESTROYED] = true
      this[SINK].late('destroy', new Uint8Array())
    }
    return this
  },
  destroySoon(this: Socket & MovedState): void {
    methods.end.call(this)
  },
  resetAndDestroy(this: Socket & MovedState): Socket {
    return methods.destroy.call(this)
  },
  read: () => null,
  cork(): void {},
  uncork(): void {},
  _unrefTimer(): void {},
}

/** Setters of net.Socket that would reach for a handle. */
const CHAINED = ['setTimeout', 'setNoDelay', 'setKeepAlive', 'pause', 'resume', 'ref', 'unref', 'setEncoding'] as const

const getters: Record<string, (this: Socket & MovedState) => unknown> = {
  destroyed() {
    return this[DESTROYED]
  },
  writable() {
    return !this[ENDED] && !this[DESTROYED]
  },
  writableEnded() {
    return this[ENDED]
  },
  readable() {
    return !this[DESTROYED]
  },
  writableLength: () => 0,
  writableNeedDrain: () => false,
  errored: () => null,
  readyState() {
    return this[DESTROYED] ? 'closed' : 'open'
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
