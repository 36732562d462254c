import type { Socket } from 'node:net'
import { hasHttpParser, pipesIntoItself, resumeTimeout } from '../native/net-internals.js'
import { obstacleOfSocket } from './plain-tcp.js'
import { type Arrival, leaveNothing, type Obstacle, type Protocol } from './protocol.js'

/**
 * A plain TCP connection whose meaning only the application knows. Its boundary is anywhere: whatever was read and not consumed, and
 * written and not sent, moves as bytes. Its one rule: if something of this process still feeds or reads the socket, it stays.
 */
export const raw: Protocol = {
  name: 'raw',
  kind: 'raw',
  knows: (_socket, attached) => attached === undefined || attached.kind === 'raw',
  obstacleOf,
  watch(socket, onPassed) {
    // Not in the handler that unpipes: what it writes next belongs before the move.
    const socketOnUnpipe = () => setImmediate(onPassed)
    socket.on('unpipe', socketOnUnpipe)
    return () => socket.off('unpipe', socketOnUnpipe)
  },
  drain() {}, // it is served until its peer ends
  snapshot: () => undefined,
  leave: (_socket, late) => leaveNothing(late),
  refuse: (_state, attached) => (attached === undefined || attached.kind === 'raw' ? undefined : 'its server speaks another protocol here'),
  adopt(arrival) {
    arrival.connect()
    restoreTimeout(arrival)
  },
  late(socket, { kind, data }) {
    if (kind === 'destroy') socket.destroy()
    else if (socket.writableEnded) return
    else if (kind === 'end') socket.end(data)
    else if (data.length > 0) socket.write(data)
  },
}

function obstacleOf(socket: Socket): Obstacle | undefined {
  const obstacle = obstacleOfSocket(socket)
  if (obstacle) return obstacle
  if (hasHttpParser(socket)) return { reason: 'an HTTP parser reads it', passes: false }
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

/** A handler that sets the same timeout, as it did when the connection was new, does not mean to start it again. */
function restoreTimeout({ socket, timeout }: Arrival): void {
  if (timeout && (!socket.timeout || socket.timeout === timeout.full)) resumeTimeout(socket, timeout.full, timeout.remaining)
}
