import { writeSync } from 'node:fs'
import type { ServerHttp2Session } from 'node:http2'
import type { Socket } from 'node:net'
import { isPlainTcp } from './looking.js'
import { internals, symbolValue } from './private-fields.js'

/**
 * The sockets under a session, the one that it writes to first, then the one under its TLS. `session.socket` is a proxy that lets nobody write.
 * @note lib/internal/http2/core.js keeps it under the symbol 'socket'; lib/internal/tls/wrap.js keeps the socket under a TLSSocket as `_parent`.
 */
export function socketsUnder(session: ServerHttp2Session): Socket[] {
  const socket = symbolValue(session, session, 'socket') as (Socket & { _parent?: Socket | null }) | undefined
  if (socket == null) return []
  return socket._parent ? [socket, socket._parent] : [socket]
}

export function openStreamsOf(session: ServerHttp2Session): number {
  const state = symbolValue(session, session, 'state') as { streams?: Map<number, unknown> } | undefined
  return state?.streams?.size ?? 0
}

/**
 * Writes a few bytes to the kernel behind the back of whatever uses the handle, between two turns: what it has written before is whole there then.
 * False where that is not certain, or where there is TLS in between. Through the handle it would not do: the session takes the end of any write for its own,
 * and ends the process if it has none.
 */
export function writePast(socket: Socket, bytes: Uint8Array): boolean {
  const { _handle } = internals(socket)
  if (_handle === null || !isPlainTcp(socket) || _handle.writeQueueSize > 0) return false
  try {
    return writeSync(_handle.fd, bytes) === bytes.length
  } catch {
    return false // the kernel has no room, or the client has gone
  }
}
