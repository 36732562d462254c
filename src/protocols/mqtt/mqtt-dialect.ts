import { override } from '../override.js'
import type { Obstacle } from '../protocol.js'
import type { Beginning, Dialect } from '../websocket/dialect.js'
import type { WebSocketInternals } from '../websocket/ws.js'
import { type Client, clientOn } from './aedes.js'
import { arrive } from './arrive.js'
import { followedOf, SUBPROTOCOLS, streamOf } from './follow.js'
import { PacketCutter } from './packets.js'
import { isSessionState, leaveSession, obstacleOfSession, type SessionState, stateOfSession, stopWaiting } from './session.js'

/** MQTT over a WebSocket: the broker reads and writes a stream around it. */
export const mqttDialect: Dialect = {
  name: 'mqtt',
  speaks: ({ protocol }) => SUBPROTOCOLS.has(protocol),
  obstacleOf(ws) {
    const client = clientOf(ws)
    if (client === undefined) return NOT_SEEN
    stopWaiting(client)
    return obstacleOfSession(client)
  },
  snapshot: (ws) => stateOfSession(clientOf(ws) as Client),
  leave(ws) {
    const client = clientOf(ws) as Client
    const { takeBack } = leaveSession(client)
    const unpack = sendWholePackets(client, ws)
    return {
      takeBack() {
        unpack()
        takeBack()
      },
      letGo() {},
    }
  },
  refuse: (state) => (isSessionState(state) ? undefined : 'its MQTT session is malformed'),
  begin: (state, request): Beginning => ({ request, received() {}, meet: (ws) => meet(ws, state as SessionState) }),
}

const NOT_SEEN: Obstacle = { reason: 'its MQTT session was not seen from its begin on', passes: false }

function clientOf(ws: WebSocketInternals): Client | undefined {
  const stream = streamOf(ws)
  return stream && clientOn(stream)
}

/** Once its handler has been run. An empty message changes nothing, and shows who reads it. */
async function meet(ws: WebSocketInternals, state: SessionState): Promise<void> {
  await new Promise(setImmediate)
  ws.emit('message', Buffer.alloc(0), true)
  const client = clientOf(ws)
  const followed = client && followedOf(client)
  if (followed) await arrive(client as Client, followed.broker, state)
  else ws.close(SERVICE_RESTART)
}

/** The successor's broker sends its own in between. */
function sendWholePackets({ conn }: Client, ws: WebSocketInternals): () => void {
  const cutter = new PacketCutter()
  return override(conn, {
    write(chunk: string | Uint8Array, encoding?: BufferEncoding) {
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk
      for (const packet of cutter.push(bytes)) ws.send(packet, { binary: true })
      return true
    },
  } as never)
}

/** @note The registry of RFC 6455: "Service Restart"; clients may connect again. */
const SERVICE_RESTART = 1012
