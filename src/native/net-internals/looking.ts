import { executionAsyncResource } from 'node:async_hooks'
/* What a socket shows of itself without being touched. */
import net, { type Server, type Socket } from 'node:net'
import { findSymbol, internals, symbolValue, type TcpHandle } from './private-fields.js'
import { tcpConstructor } from './servers.js'

/** The fd of a live socket, or -1: connecting, destroyed, or not on a kernel socket of its own. */
export function fdOf(socket: Socket): number {
  const { _handle, connecting } = internals(socket)
  return connecting || _handle === null || typeof _handle.fd !== 'number' ? -1 : _handle.fd
}

/** What tells a socket that is the same from one that was put together again. */
export const handleOf = (socket: Socket): object | null => internals(socket)._handle

export const serverOf = (socket: Socket): Server | null => internals(socket)._server
/** Whether its handle is one of libuv's TCP handles, not TLS or something else on top of one. */
export const isPlainTcp = (socket: Socket): boolean => internals(socket)._handle?.constructor === tcpConstructor()

/** Every socket that Node keeps the process alive for. Those that were unref'ed are missing: see `trackUnreferenced`. */
export function activeSockets(): Socket[] {
  const handles = (process as unknown as { _getActiveHandles(): unknown[] })._getActiveHandles()
  return handles.filter((handle): handle is Socket => handle instanceof net.Socket)
}

/** Bytes that Node has read and the application has not, a character that setEncoding holds in two halves included. Nothing is consumed. */
export function unreadOf(socket: Socket): Uint8Array | undefined {
  const state = internals(socket)._readableState
  const { decoder, encoding } = state
  const partial = decoder ? decoder.lastTotal - decoder.lastNeed : 0
  if (state.buffer.length === 0 && partial <= 0) return undefined
  const pieces: Uint8Array[] = []
  let index = 0
  for (const chunk of state.buffer) {
    // Since 20.12 an array of which the first `bufferIndex` entries are spent; before, a list without that field.
    if (index++ < (state.bufferIndex ?? 0) || chunk === null) continue
    pieces.push(typeof chunk === 'string' ? Buffer.from(chunk, encoding ?? 'utf8') : chunk)
  }
  if (decoder && partial > 0) pieces.push(Buffer.from(decoder.lastChar.subarray(0, partial)))
  const bytes = pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces)
  return bytes.length > 0 ? bytes : undefined
}

/** Bytes in the Writable's own buffer, in order: behind whatever libuv still holds. */
export function bufferedWritesOf(socket: Socket): Uint8Array[] {
  const state = internals(socket)._writableState
  if (state.length === 0) return []
  return state
    .getBuffer()
    .map(({ chunk, encoding }) => (typeof chunk === 'string' ? Buffer.from(chunk, encoding === 'buffer' ? 'utf8' : encoding) : chunk))
}

export const endEmitted = (socket: Socket): boolean => internals(socket)._readableState.endEmitted
export const needsDrain = (socket: Socket): boolean => internals(socket)._writableState.needDrain
/** Whether the application pipes this socket into itself, as an echo server does. */
export const pipesIntoItself = (socket: Socket): boolean => internals(socket)._readableState.pipes.includes(socket)
/** Bytes that its handle has read from the kernel, and that the kernel has taken from it: `bytesWritten` counts what libuv still holds as well. */
export function bytesThrough(socket: Socket): { read: number; written: number } {
  const { bytesRead, bytesWritten, writeQueueSize } = internals(socket)._handle as TcpHandle
  return { read: bytesRead, written: bytesWritten - writeQueueSize }
}

/** Bytes of writes that libuv holds, since the kernel has not taken them. */
export const bytesInFlight = (socket: Socket): number => (internals(socket)._handle as TcpHandle).writeQueueSize

export const isUnreferenced = (socket: Socket): boolean => internals(socket)._handle?.hasRef() === false

/** The option caches of net.Socket: the kernel's own options travel with the fd. */
export function optionsOf(socket: Socket): { noDelay: boolean; keepAlive: boolean } {
  optionSymbols ??= { noDelay: findSymbol(socket, 'kSetNoDelay'), keepAlive: findSymbol(socket, 'kSetKeepAlive') }
  const { noDelay, keepAlive } = optionSymbols
  const caches = socket as unknown as Record<symbol, unknown>
  return { noDelay: noDelay !== undefined && caches[noDelay] === true, keepAlive: keepAlive !== undefined && caches[keepAlive] === true }
}

/** Looked up once: this is asked for every connection while the server stands still. */
let optionSymbols: { noDelay: symbol | undefined; keepAlive: symbol | undefined } | undefined

/** What is left of `socket.setTimeout()`, ms. @note lib/internal/timers.js: `_idleStart` counts in the loop's time. */
export function remainingTimeoutOf(socket: Socket, loopNow: number): number {
  const timer = symbolValue(socket, socket, 'timeout') as { _idleStart: number } | null | undefined
  const full = socket.timeout ?? 0
  return timer ? Math.max(1, full - (loopNow - timer._idleStart)) : full
}

/** What is left of a timer, ms. */
export function timeLeft(timer: NodeJS.Timeout): number {
  const { _idleStart, _idleTimeout } = timer as unknown as { _idleStart: number; _idleTimeout: number }
  return Math.max(1, _idleTimeout - (loopNow() - _idleStart))
}

/** The loop's time as timers count it: a fresh timer is stamped with it. */
export function loopNow(): number {
  const timer = setTimeout(() => {}, 1)
  clearTimeout(timer)
  return (timer as unknown as { _idleStart: number })._idleStart
}

/** The code that runs now was called by setInterval. @note lib/internal/timers.js: the timer is the execution's resource, `_repeat` its interval. */
export function isInRepeatingTimer(): boolean {
  return (executionAsyncResource() as { _repeat?: number | null })._repeat != null
}
