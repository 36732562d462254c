/**
 * The private fields of `ws` that are looked at, typed once. Any copy in the process will do, however it was loaded: a live WebSocket is found by what
 * its library leaves on the socket, and everything else hangs on it.
 *
 * @note read in ws 6.2.7, 8.21.3 and 8.23.0: lib/websocket.js `setSocket`, lib/receiver.js, lib/sender.js, lib/permessage-deflate.js.
 */
import type { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import type { InflateRaw } from 'node:zlib'
import { timeLeft } from '../../native/net-internals.js'

export interface WebSocketInternals extends EventEmitter {
  readyState: number
  _socket: Socket | null
  _receiver: Receiver
  _sender: Sender
  _extensions: Record<string, PerMessageDeflate>
  protocol: string
  _closeFrameReceived: boolean
  _closeFrameSent: boolean
  _closeTimer: NodeJS.Timeout | null
  close(code?: number, reason?: string | Uint8Array): void
  terminate(): void
  send(data: string | Uint8Array, options: SendOptions, callback?: (error?: Error) => void): void
  ping(data: Uint8Array, mask: boolean): void
  pong(data: Uint8Array, mask: boolean): void
}

export interface SendOptions {
  binary?: boolean
  compress?: boolean
  fin?: boolean
  mask?: boolean
}

export interface Receiver {
  readonly writableLength: number
  _extensions: Record<string, PerMessageDeflate>
  readonly _buffers: Uint8Array[]
  readonly _state: number
  readonly _opcode: number
  readonly _fin: boolean
  readonly _masked: boolean
  readonly _mask: Uint8Array | undefined
  readonly _compressed: boolean
  readonly _payloadLength: number
  readonly _totalPayloadLength: number
  /** Opcode of the message whose fragments are coming in, 0 outside of one. */
  readonly _fragmented: number
  readonly _fragments: Uint8Array[]
  readonly errored?: Error | null
}

export interface Sender {
  _extensions: Record<string, PerMessageDeflate>
  readonly _queue: unknown[]
  /** 0 where nothing is being compressed or read; before 8.18 `_deflating` said so. */
  readonly _state?: number
  readonly _deflating?: boolean
  /** Whether the next `send` begins a message, and whether the one under way is compressed. */
  _firstFragment: boolean
  _compress: boolean
  send(data: unknown, options: SendOptions, callback?: Callback): void
  ping(data: unknown, mask: boolean, callback?: Callback): void
  pong(data: unknown, mask: boolean, callback?: Callback): void
  close(code: number | undefined, data: unknown, mask: boolean, callback?: Callback): void
  sendFrame(list: Uint8Array[], callback?: Callback): void
}

export type Callback = (error?: Error) => void

export interface PerMessageDeflate {
  params: DeflateParameters | null
  _isServer: boolean
  _threshold: number
  _maxPayload: number
  _options?: { zlibInflateOptions?: { dictionary?: Uint8Array | undefined } }
  _inflate: InflateRaw | null
  decompress(data: Uint8Array, fin: boolean, callback: (error: Error | null, data?: Uint8Array) => void): void
}

/** What client and server have agreed on. @note RFC 7692, 7.1. */
export interface DeflateParameters {
  server_no_context_takeover?: boolean
  client_no_context_takeover?: boolean
  server_max_window_bits?: number
  client_max_window_bits?: number
}

/** The WebSocket on a socket, while it is open or closing. */
export function webSocketOn(socket: Socket): WebSocketInternals | undefined {
  const properties = socket as unknown as Record<symbol, unknown>
  for (const symbol of Object.getOwnPropertySymbols(socket)) {
    if (symbol.description !== 'websocket') continue
    const found = properties[symbol] as WebSocketInternals | undefined
    if (found?._receiver && found._sender && found._socket === socket) return found
  }
  return undefined
}

/** The socket under a WebSocket of any copy of `ws`; `undefined` for anything else. */
export function socketUnder(value: unknown): Socket | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { _socket, _receiver, _sender } = value as Partial<WebSocketInternals>
  return _socket && _receiver && _sender ? _socket : undefined
}

export function deflateOf({ _extensions }: { _extensions: Record<string, PerMessageDeflate> }): PerMessageDeflate | undefined {
  return _extensions[DEFLATE]
}

/** Puts another permessage-deflate, or none, in the place of what was agreed on now. */
export function setDeflate(ws: WebSocketInternals, deflate: PerMessageDeflate | undefined): void {
  const extensions = deflate ? { [DEFLATE]: deflate } : {}
  ws._extensions = extensions
  ws._receiver._extensions = extensions
  ws._sender._extensions = extensions
}

/** Before 7.3 what is a getter today was an ordinary property. */
function setProperty(ws: WebSocketInternals, name: 'protocol' | 'readyState', value: unknown): void {
  Object.assign(ws, { [`_${name}` in ws ? `_${name}` : name]: value })
}

export function setSubprotocol(ws: WebSocketInternals, subprotocol: string): void {
  setProperty(ws, 'protocol', subprotocol)
}

export function setReadyState(ws: WebSocketInternals, state: number): void {
  setProperty(ws, 'readyState', state)
}

/** This side has sent its close frame: what is left is to wait for the other's, at most `left` ms. @note lib/websocket.js `setCloseTimer`. */
export function expectClose(ws: WebSocketInternals, left: number): void {
  const socket = ws._socket as Socket
  setReadyState(ws, READY_STATE.closing)
  ws._closeFrameSent = true
  ws._closeTimer = setTimeout(() => socket.destroy(), left)
}

export function stopCloseTimer({ _closeTimer }: WebSocketInternals): void {
  if (_closeTimer) clearTimeout(_closeTimer)
}

export function closeTimeLeft({ _closeTimer }: WebSocketInternals): number {
  return _closeTimer ? timeLeft(_closeTimer) : 0
}

export const READY_STATE = { open: 1, closing: 2 } as const
/** States of a receiver. */
export const RECEIVER = { info: 0, length16: 1, length64: 2, mask: 3, data: 4 } as const
const DEFLATE = 'permessage-deflate'
