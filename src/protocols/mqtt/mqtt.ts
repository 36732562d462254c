import type { Socket } from 'node:net'
import { resumeReading, stopReading } from '../../native/net-internals.js'
import { obstacleOfSocket } from '../plain-tcp.js'
import { type LateSink, type Left, type Obstacle, type Protocol, restoreTimeout } from '../protocol.js'
import { raw } from '../raw.js'
import { clientOn } from './aedes.js'
import { arrive } from './arrive.js'
import { followedOf, hasPlace } from './follow.js'
import { PacketCutter } from './packets.js'
import { hasBrokers, restBrokers } from './rest.js'
import { isSessionState, leaveSession, obstacleOfSession, type SessionState, stateOfSession, stopWaiting } from './session.js'

/**
 * A connection of an aedes broker. It moves between two packets, together with all others of its broker where that comes to rest for it, and with what
 * the broker keeps in memory. Taken for a raw connection it would be closed at its next packet.
 */
export const mqtt: Protocol = {
  ...raw,
  name: 'mqtt',
  knows: (socket) => clientOn(socket) !== undefined,
  obstacleOf,
  watch,
  drain: (socket) => resumeReading(socket),
  snapshot: (socket) => ({ state: stateOf(socket) }),
  leave,
  refuse(state, attached) {
    if (!isSessionState(state)) return 'its MQTT session is malformed'
    return attached && attached.kind === 'raw' && hasPlace(attached.server) ? undefined : 'no MQTT broker is known here'
  },
  adopt(arrival, state) {
    const { socket } = arrival
    arrival.connect()
    const client = clientOn(socket)
    const followed = client && followedOf(client)
    if (followed === undefined) throw new Error('no MQTT broker has taken the connection')
    restoreTimeout(arrival)
    void arrive(client as NonNullable<typeof client>, followed.broker, state as SessionState)
  },
  late(socket, act) {
    const client = clientOn(socket)
    if (client && act.kind !== 'write') client.close()
    else raw.late(socket, act)
  },
  together: { isInUse: hasBrokers, rest: restBrokers },
}

function obstacleOf(socket: Socket): Obstacle | undefined {
  const client = clientOn(socket)
  return obstacleOfSocket(socket) ?? (client && obstacleOfSession(client))
}

function stateOf(socket: Socket): SessionState | undefined {
  const client = clientOn(socket)
  return client && stateOfSession(client)
}

/** Nothing new is read from it for a moment, or it might never be between two packets. It is read again when it drains, or by itself. */
function watch(socket: Socket, onPassed: () => void): () => void {
  let isWatched = true
  const end = Date.now() + LONGEST_MS
  stopReading(socket)
  const timer = setInterval(() => {
    const client = clientOn(socket)
    if (client) stopWaiting(client)
    if (isWatched && !obstacleOf(socket)?.passes) onPassed()
    if (Date.now() > end && !socket.destroyed) resumeReading(socket)
    if (socket.destroyed || Date.now() > end + LONGEST_MS) clearInterval(timer)
  }, POLL_MS).unref()
  return () => {
    isWatched = false
  }
}

/** What the predecessor's broker still sends goes as whole packets: the successor's has its own in between. */
function leave(socket: Socket, late: LateSink): Left {
  const client = clientOn(socket)
  const left = client && leaveSession(client)
  const cutter = new PacketCutter()
  return {
    socketSink: {
      late(kind, data) {
        if (kind !== 'write') return late.late(kind, data)
        for (const packet of cutter.push(data)) late.late('write', packet)
      },
    },
    takeBack: () => left?.takeBack(),
    letGo() {},
  }
}

const POLL_MS = 5
/** Longest that a client is not read from for the sake of a move, ms. */
const LONGEST_MS = 500
