import type { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { socketUnder } from './protocols/websocket/ws.js'

/** What stands for a connection: its socket, a request or a response on it, a WebSocket of any copy of `ws`, or a socket of socket.io. */
export type ConnectionScope = Socket | { readonly socket: Socket | null } | WebSocketLike | SocketIoLike

/** A WebSocket of `ws`, as far as it is public. */
export interface WebSocketLike {
  readonly readyState: number
  terminate(): void
}

/** A socket of socket.io, as far as it is public. */
export interface SocketIoLike {
  readonly conn: { readonly transport: object }
}

/** The socket of a connection, whatever stands for it; `undefined` where nothing does. */
export function socketOf(scope: unknown): Socket | undefined {
  if (scope instanceof Socket) return scope
  const socket = (scope as { socket?: unknown } | null | undefined)?.socket
  if (socket instanceof Socket) return socket
  return (
    socketUnder(scope) ??
    socketUnder((scope as { conn?: { transport?: { socket?: unknown } } } | null | undefined)?.conn?.transport?.socket)
  )
}

/** The request where a request or its response stands for the connection. */
export function requestOfScope(scope: unknown): IncomingMessage | undefined {
  const { req, rawHeaders } = (scope ?? {}) as Partial<ServerResponse & IncomingMessage>
  if (Array.isArray(rawHeaders)) return scope as IncomingMessage
  return Array.isArray(req?.rawHeaders) ? req : undefined
}
