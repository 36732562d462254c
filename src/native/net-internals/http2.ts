import type { ServerHttp2Session } from 'node:http2'
import type { Socket } from 'node:net'
import { symbolValue } from './private-fields.js'

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
