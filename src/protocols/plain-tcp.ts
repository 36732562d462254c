import { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import { fdOf, isPlainTcp, pipesIntoItself } from '../native/net-internals.js'
import type { Obstacle } from './protocol.js'

/** What keeps a connection here whatever is spoken on it. */
export function obstacleOfSocket(socket: Socket): Obstacle | undefined {
  if (socket.connecting || fdOf(socket) < 0) return { reason: 'it has no kernel socket of its own', passes: false }
  if (!isPlainTcp(socket)) return { reason: 'it is not plain TCP', passes: false }
  if (wrappedByTls(socket)) return { reason: 'TLS was started on it', passes: false }
  return undefined
}

/**
 * STARTTLS: from then on bytes go through OpenSSL, which nothing here can move.
 * @note lib/_tls_wrap.js, since 22 lib/internal/tls/wrap.js: a TLSSocket leaves no other trace on the socket it wraps than its error listener.
 */
function wrappedByTls(socket: Socket): boolean {
  return socket.listenerCount('error') > 0 && socket.listeners('error').some((listener) => String(listener).includes('_emitTLSError'))
}

/**
 * A source that is piped in holds a position that the successor cannot know. An echo server pipes the socket into itself, which it does again there.
 * @note lib/internal/streams/readable.js pipe(): one 'unpipe' listener named so on the destination for each source.
 */
export function fedByPipe(destination: Writable): boolean {
  if (destination.listenerCount('unpipe') === 0) return false
  const sources = destination.listeners('unpipe').filter(({ name }) => name === 'onunpipe').length
  return sources > (destination instanceof Socket && pipesIntoItself(destination) ? 1 : 0)
}
