/* How a socket arrives in the successor. */
import net, { type Server, type Socket } from 'node:net'
import { internals, serverInternals, setSymbolValue, symbolValue, type TcpHandle } from './private-fields.js'
import { TCP_SOCKET, type TcpConstructor } from './servers.js'

/** A net.Socket around a handle that has no fd yet. Nothing is read until `startReading`. */
export function createParkedSocket(tcp: TcpConstructor): Socket {
  // `manualStart` keeps readableFlowing null, so that a later 'data' listener starts it; `pauseOnCreate` would not.
  const options = { handle: new tcp(TCP_SOCKET), manualStart: true, readable: true, writable: true }
  return trace(new net.Socket(options as unknown as net.SocketConstructorOpts), { resumed: false, consumed: 0, produced: 0 })
}

/**
 * What this library notes about a connection that came from a predecessor. On the socket itself and from its making on: a WeakMap of thousands that
 * grows while nobody serves them costs more than everything else that is done to them then.
 */
export interface Trace {
  /** Its handler has been run, or is about to be. */
  resumed: boolean
  /** What had been read from and written to the kernel when its present handle was opened. */
  consumed: number
  produced: number
}

export function traceOf(socket: Socket): Trace | undefined {
  return (socket as Socket & { [TRACE]?: Trace })[TRACE]
}

export function trace(socket: Socket, noted: Trace): Socket {
  ;(socket as Socket & { [TRACE]?: Trace })[TRACE] = noted
  return socket
}

const TRACE = Symbol('tsunagi.trace')

/** Gives a parked socket its connection, whose fd the handle owns then; false if libuv does not take it. Neither reads nor writes. */
export function openParkedSocket(socket: Socket, fd: number): boolean {
  return (internals(socket)._handle as TcpHandle).open(fd) === 0
}

/** Closes the handle without a word to anybody: the connection, if it has one, lives on elsewhere. */
export function closeParkedSocket(socket: Socket): void {
  const self = internals(socket)
  self._handle?.close()
  self._handle = null
}

/** What a parked socket gets to know of its connection: how it ends, and the option caches of net.Socket, whose options the kernel has already. */
export function configureParkedSocket(socket: Socket, options: { allowHalfOpen: boolean; noDelay: boolean; keepAlive: boolean }): void {
  if (options.allowHalfOpen !== socket.allowHalfOpen) socket.allowHalfOpen = options.allowHalfOpen
  if (options.noDelay) setSymbolValue(socket, socket, 'kSetNoDelay', true)
  if (options.keepAlive) setSymbolValue(socket, socket, 'kSetKeepAlive', true)
}

export function setHighWaterMarks(socket: Socket, readable: number, writable: number): void {
  internals(socket)._readableState.highWaterMark = readable
  internals(socket)._writableState.highWaterMark = writable
}

export function assignServer(socket: Socket, server: Server): void {
  internals(socket)._server = server
  internals(socket).server = server
  serverInternals(server)._connections += 1
}

/** The application has had its 'end' in the predecessor: this side of the stream is over without telling it again. */
export function markEnded(socket: Socket): void {
  const state = internals(socket)._readableState
  state.ended = true
  state.endEmitted = true
}

/** The peer's stream is over, behind what is buffered. @note As lib/internal/stream_base_commons.js onStreamRead does at EOF. */
export function endReading(socket: Socket): void {
  socket.push(null)
  socket.read(0)
}

export function setNeedDrain(socket: Socket, needDrain: boolean): void {
  internals(socket)._writableState.needDrain = needDrain
}

/**
 * Keeps a 'data' listener, or `resume()`, from starting to read: both schedule that for the next tick, unless it is scheduled already.
 * @note lib/internal/streams/readable.js: resume().
 */
export function holdFlow(socket: Socket): void {
  internals(socket)._readableState.resumeScheduled = true
}

/** The inverse, for a socket that may have gone meanwhile: reads, unless the application has paused it. @note As net.Socket's constructor does for an accepted connection. */
export function releaseFlow(socket: Socket): void {
  const { _readableState: state, _handle } = internals(socket)
  state.resumeScheduled = false
  if (_handle === null || state.endEmitted) return
  if (state.flowing) {
    state.flowing = null
    socket.resume()
  } else if (state.flowing === null && !_handle.reading) socket.read(0)
}

/**
 * Lets what is left of a timeout run out first; from the next activity on it is the full one again.
 * @note lib/internal/timers.js: a timer that is running is due by the list it was put into, refresh() puts it into that of `_idleTimeout`.
 */
export function resumeTimeout(socket: Socket, full: number, remaining: number): void {
  socket.setTimeout(remaining)
  const timer = symbolValue(socket, socket, 'timeout') as { _idleTimeout: number }
  timer._idleTimeout = full
  ;(socket as { timeout?: number }).timeout = full
}
