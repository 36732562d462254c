import type { Socket } from 'node:net'
import { hasHttpParser } from '../native/net-internals.js'
import { fedByPipe, obstacleOfSocket } from './plain-tcp.js'
import { leaveNothing, type Obstacle, type Protocol, restoreTimeout } from './protocol.js'

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
