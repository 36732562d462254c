import type { Socket } from 'node:net'
import { fdOf, hasHttpParser, isPlainTcp, pipesIntoItself } from '../native/net-internals.js'

/**
 * A plain TCP connection whose meaning only the application knows. Its boundary is anywhere: whatever was read and not consumed, and
 * written and not sent, moves as bytes. Its one rule: if something of this process still feeds or reads the socket, it stays.
 */

/** Why a raw connection cannot move; `passes` where that ends by itself, and 'unpipe' says so. */
export interface Obstacle {
  readonly reason: string
  readonly passes: boolean
}

/** `undefined`: it can move now. */
export function obstacleOf(socket: Socket): Obstacle | undefined {
  if (socket.connecting || fdOf(socket) < 0) return { reason: 'it has no kernel socket of its own', passes: false }
  if (!isPlainTcp(socket)) return { reason: 'it is not plain TCP', passes: false }
  if (hasHttpParser(socket)) return { reason: 'an HTTP parser reads it', passes: false }
  if (wrappedByTls(socket)) return { reason: 'TLS was started on it', passes: false }
  if (fedByPipe(socket)) return { reason: 'a stream of this process is piped into it', passes: true }
  return undefined
}

/**
 * A source that is piped in holds a position that the successor cannot know. An echo server pipes the socket into itself, which it does again there.
 * @note lib/internal/streams/readable.js pipe(): one 'unpipe' listener named so on the destination for each source.
 */
function fedByPipe(socket: Socket): boolean {
  if (socket.listenerCount('unpipe') === 0) return false
  const sources = socket.listeners('unpipe').filter(({ name }) => name === 'onunpipe').length
  return sources > (pipesIntoItself(socket) ? 1 : 0)
}

/**
 * STARTTLS: from then on bytes go through OpenSSL, which nothing here can move.
 * @note lib/_tls_wrap.js, since 22 lib/internal/tls/wrap.js: a TLSSocket leaves no other trace on the socket it wraps than its error listener.
 */
function wrappedByTls(socket: Socket): boolean {
  return socket.listenerCount('error') > 0 && socket.listeners('error').some((listener) => String(listener).includes('_emitTLSError'))
}
