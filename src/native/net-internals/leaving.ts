/* How a socket leaves the predecessor, and how it is put together again. */
import net, { type Server, type Socket } from 'node:net'
import {
  internals,
  type ReadableState,
  serverInternals,
  setSymbolValue,
  systemError,
  type TcpHandle,
  type WritableState,
} from './private-fields.js'
import { TCP_SOCKET } from './servers.js'

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
