import net, { type Server, type Socket } from 'node:net'

/**
 * The only place that knows Node's private fields. Everything else asks here, by name of what it wants.
 *
 * @note Read in lib/net.js, lib/internal/stream_base_commons.js and lib/internal/streams/*.js of Node 20.20.2, 22.23.3, 24.21.0 and 26.10.0;
 * the e2e matrix runs on each. Users: attach, listener, predecessor/{enumerate,snapshot,release}, successor/{restore,resume}, protocols/raw.
 */

/** libuv's TCP handle as Node wraps it (src/tcp_wrap.cc). */
export interface TcpHandle {
  readonly fd: number
  reading: boolean
  open(fd: number): number
  listen(backlog: number): number
  readStart(): number
  readStop(): number
  close(callback?: () => void): void
  hasRef(): boolean
  getsockname(into: { address?: string; port?: number; family?: string }): number
  readonly writeQueueSize: number
  readonly bytesRead: number
  readonly bytesWritten: number
  readonly constructor: new (type: number) => TcpHandle
}

/** A listening handle: TCP or, for a path, Pipe (src/pipe_wrap.cc). */
export type ServerHandle = TcpHandle

interface BufferedWrite {
  chunk: Uint8Array | string
  encoding: BufferEncoding | 'buffer'
  callback?: (error?: Error | null) => void
}

interface ReadableState {
  buffer: { length: number; head?: unknown } & Iterable<Uint8Array | string>
  bufferIndex?: number
  decoder: { lastChar: Buffer; lastNeed: number; lastTotal: number } | null
  encoding: BufferEncoding | null
  ended: boolean
  endEmitted: boolean
  highWaterMark: number
  pipes: unknown[]
}

interface WritableState {
  getBuffer(): BufferedWrite[]
  onwrite: (error?: Error | null) => void
  writecb: ((error?: Error | null) => void) | null
  needDrain: boolean
  length: number
  highWaterMark: number
  ending: boolean
}

interface SocketInternals {
  _handle: TcpHandle | null
  _readableState: ReadableState
  _writableState: WritableState
  _server: Server | null
  server: Server | null
  connecting: boolean
  parser?: unknown
  _httpMessage?: { shouldKeepAlive: boolean } | null
}

interface ServerInternals {
  _handle: TcpHandle | null
  _connections: number
  _listen2: Listen2
  _emitCloseIfDrained(): void
  highWaterMark?: number
}

/**
 * What listen() calls once the address is resolved.
 * @note lib/net.js listenInCluster: "it is still named like this to avoid breaking code that wraps this method".
 */
export type Listen2 = (
  this: Server,
  address: string | null,
  port: number,
  addressType: number,
  backlog: number,
  fd: number | undefined,
  flags: number | undefined,
) => void

const internals = (socket: Socket): SocketInternals => socket as unknown as SocketInternals
const serverInternals = (server: Server): ServerInternals => server as unknown as ServerInternals

// ---- servers

export const listen2Of = (server: Server): Listen2 => serverInternals(server)._listen2
export const setListen2 = (server: Server, listen2: Listen2): void => {
  serverInternals(server)._listen2 = listen2
}
export const serverHandleOf = (server: Server): ServerHandle | null => serverInternals(server)._handle
export const setServerHandle = (server: Server, handle: ServerHandle | null): void => {
  serverInternals(server)._handle = handle
}
export const serverFdOf = (server: Server): number => serverInternals(server)._handle?.fd ?? -1

/** Node's own way to a bound handle, or a negative error number. @note lib/net.js exports it as `_createServerHandle` for tests and clusters. */
export function createServerHandle(
  address: string | null,
  port: number,
  addressType: number,
  flags: number | undefined,
): TcpHandle | number {
  const create = (net as unknown as { _createServerHandle(...args: unknown[]): TcpHandle | number })._createServerHandle
  return create(address, port, addressType, undefined, flags)
}

/** A handle of the same kind around a listening fd, which it owns from here. With `server` it is wired as setupListenHandle would. */
export function adoptListener(tcp: TcpConstructor, fd: number, server?: Server, onconnection?: unknown): TcpHandle {
  const handle = new tcp(TCP_SERVER)
  const error = handle.open(fd)
  if (error) throw systemError(error, 'open')
  if (server) {
    ;(handle as TcpHandle & { onconnection: unknown }).onconnection = onconnection
    setSymbolValue(handle, handle, 'owner_symbol', server)
  }
  return handle
}

export type TcpConstructor = new (type: number) => TcpHandle

/** Node does not export its handle classes: they are taken from a handle that is made for it, once. */
export function tcpConstructor(): TcpConstructor {
  constructors.tcp ??= constructorOf(createServerHandle('0.0.0.0', 0, 4, 0))
  return constructors.tcp
}

export function pipeConstructor(): TcpConstructor {
  constructors.pipe ??= constructorOf(createServerHandle(`\0tsunagi.${process.pid}.${Date.now()}`, -1, -1, 0))
  return constructors.pipe
}

const constructors: { tcp?: TcpConstructor; pipe?: TcpConstructor } = {}

function constructorOf(handle: TcpHandle | number): TcpConstructor {
  if (typeof handle === 'number') throw systemError(handle, 'bind')
  handle.close()
  return handle.constructor
}

/** @note src/tcp_wrap.h and src/pipe_wrap.h: enum SocketType { SOCKET, SERVER }. */
const TCP_SOCKET = 0
const TCP_SERVER = 1

// ---- sockets: looking

/** The fd of a live socket, or -1: connecting, destroyed, or not on a kernel socket of its own. */
export function fdOf(socket: Socket): number {
  const { _handle, connecting } = internals(socket)
  return connecting || _handle === null || typeof _handle.fd !== 'number' ? -1 : _handle.fd
}

export const serverOf = (socket: Socket): Server | null => internals(socket)._server
/** The response that an HTTP connection is busy with. */
export const httpMessageOf = (socket: Socket): { shouldKeepAlive: boolean } | null => internals(socket)._httpMessage ?? null
export const hasHttpParser = (socket: Socket): boolean => internals(socket).parser != null
/** Whether its handle is one of libuv's TCP handles, not TLS or something else on top of one. */
export const isPlainTcp = (socket: Socket): boolean => internals(socket)._handle?.constructor.name === 'TCP'

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

/** The loop's time as timers count it: a fresh timer is stamped with it. */
export function loopNow(): number {
  const timer = setTimeout(() => {}, 1)
  clearTimeout(timer)
  return (timer as unknown as { _idleStart: number })._idleStart
}

// ---- sockets: leaving (predecessor)

/** What a moved socket consisted of, so that it can be put together again. */
export interface Detached {
  readonly handle: TcpHandle
  readonly readableState: ReadableState
  readonly writableState: WritableState
  readonly server: Server | null
}

/**
 * Takes the handle away from a moved socket, so that late completions of libuv reach a dead stand-in and never the application.
 * The handle stays open: reading was stopped before, and what it wrote was moved.
 */
export function detach(socket: Socket, standIn: Socket): Detached {
  const self = internals(socket)
  const detached = {
    handle: self._handle as TcpHandle,
    readableState: self._readableState,
    writableState: self._writableState,
    server: self._server,
  }
  setSymbolValue(detached.handle, detached.handle, 'owner_symbol', standIn)
  self._handle = null
  self._readableState = internals(standIn)._readableState
  self._writableState = internals(standIn)._writableState
  self._server = null
  if (detached.server) serverInternals(detached.server)._connections -= 1
  return detached
}

/** Undoes `stopReading` of the addon, of which JS knows nothing. */
export function resumeReading(socket: Socket): void {
  const { _handle } = internals(socket)
  if (_handle?.reading) _handle.readStart()
}

/**
 * The inverse of `detach`. With `fd` the handle was closed, because libuv still held `unsent` bytes of a write in flight: it gets a new
 * one, and that write goes on there before anything that is buffered behind it.
 */
export function reattach(socket: Socket, detached: Detached, again?: { fd: number; unsent: Uint8Array }): void {
  const self = internals(socket)
  const { readableState, writableState, server } = detached
  let { handle } = detached
  if (again) {
    const onread = (handle as unknown as { onread: unknown }).onread
    handle = new handle.constructor(TCP_SOCKET)
    const error = handle.open(again.fd)
    if (error) throw systemError(error, 'open')
    ;(handle as unknown as { onread: unknown }).onread = onread
  }
  setSymbolValue(handle, detached.handle, 'owner_symbol', socket)
  self._handle = handle
  self._readableState = readableState
  self._writableState = writableState
  self._server = server
  if (server) serverInternals(server)._connections += 1
  if (again && again.unsent.length > 0) socket._write(again.unsent, 'buffer' as BufferEncoding, writableState.onwrite)
  // JS believes that a handle with `reading` set reads; libuv was told to stop.
  if (again || handle.reading) {
    handle.reading = true
    handle.readStart()
  }
}

/** Callbacks of writes whose bytes were moved: of the write in flight, then of those in the buffer. */
export function pendingWriteCallbacks({ writableState }: Detached): ((error?: Error | null) => void)[] {
  if (writableState.length === 0 && !writableState.writecb) return []
  const buffered = writableState.getBuffer().map(({ callback }) => callback)
  return [writableState.writecb, ...buffered].filter((callback) => typeof callback === 'function')
}

/** A socket that is destroyed already. Its states stand in for those of moved sockets: whatever happens late to a destroyed stream is ignored. */
export function deadSocket(): Socket {
  const socket = new net.Socket()
  socket.destroy()
  return socket
}

// ---- sockets: arriving (successor)

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

export function setNeedDrain(socket: Socket, needDrain: boolean): void {
  internals(socket)._writableState.needDrain = needDrain
}

/** Starts reading unless the application has paused it. @note As net.Socket's constructor does for an accepted connection. */
export function startReading(socket: Socket): void {
  if (socket.readableFlowing !== false && !internals(socket)._handle?.reading) socket.read(0)
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

// ---- symbols: Node's private symbols are found by their description, once

const symbols = new Map<string, symbol>()

function symbolValue(holder: object, sample: object, description: string): unknown {
  const symbol = findSymbol(sample, description)
  return symbol && (holder as Record<symbol, unknown>)[symbol]
}

/** A handle that is made later has no owner yet to learn the symbol from. */
export function learnOwnerSymbol(handle: ServerHandle): void {
  findSymbol(handle, 'owner_symbol')
}

function setSymbolValue(holder: object, sample: object, description: string, value: unknown): void {
  const symbol = findSymbol(sample, description)
  if (symbol === undefined) throw new Error(`Node's private symbol "${description}" was not found: this version of Node is not known`)
  ;(holder as Record<symbol, unknown>)[symbol] = value
}

function findSymbol(sample: object, description: string): symbol | undefined {
  let symbol = symbols.get(description)
  if (symbol === undefined) {
    symbol = Object.getOwnPropertySymbols(sample).find((candidate) => candidate.description === description)
    if (symbol) symbols.set(description, symbol)
  }
  return symbol
}

function systemError(errno: number, syscall: string): Error {
  return Object.assign(new Error(`${syscall} failed with ${errno}`), { errno, syscall })
}
