import type { Socket } from 'node:net'
import { fdOf, hasHttpParser, isPlainTcp, pipesIntoItself } from '../native/net-internals.js'

/**
 * A plain TCP connection whose meaning only the application knows. Its boundary is anywhere: whatever was read and not consumed, and
 * written and not sent, moves as bytes. Its one rule: if something of this process still feeds or reads the socket, it stays.
 */

/** Why a raw connection cannot move now; `undefined`: it can. */
export function reasonToStay(socket: Socket): string | undefined {
  if (socket.connecting || fdOf(socket) < 0) return 'it has no kernel socket of its own'
  if (!isPlainTcp(socket)) return 'it is not plain TCP'
  if (hasHttpParser(socket)) return 'an HTTP parser reads it'
  if (wrappedByTls(socket)) return 'TLS was started on it'
  if (fedByPipe(socket)) return 'a stream of this process is piped into it'
  return undefined
}

/**
 * A source that is piped in holds a position that the successor cannot know. An echo server pipes the socket into itself, which it does again there.
 * @note lib/internal/streams/readable.js pipe(): one 'unpipe' listener on the destination for each source.
 */
function fedByPipe(socket: Socket): boolean {
  return socket.listenerCount('unpipe') > (pipesIntoItself(socket) ? 1 : 0)
}

/**
 * STARTTLS: from then on bytes go through OpenSSL, which nothing here can move.
 * @note lib/_tls_wrap.js, since 22 lib/internal/tls/wrap.js: a TLSSocket leaves no other trace on the socket it wraps than its error listener.
 */
function wrappedByTls(socket: Socket): boolean {
  return socket.listenerCount('error') > 0 && socket.listeners('error').some((listener) => String(listener).includes('_emitTLSError'))
}
