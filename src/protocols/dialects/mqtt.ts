import type { Socket } from 'node:net'
import { obstacleOfSocket } from '../plain-tcp.js'
import { leaveNothing, type Obstacle, type Protocol } from '../protocol.js'
import { raw } from '../raw.js'
import type { Dialect } from '../websocket/dialect.js'

const OBSTACLE: Obstacle = { reason: 'an MQTT session is known by its first packet, which is not kept', passes: false }

/**
 * A connection of an aedes broker. Its session begins with a packet that the broker does not keep, so it drains: it is served until the grace period is
 * over, and its client connects again with its session. Taken for a raw connection it would be closed at its next packet.
 *
 * @note aedes 1.2.0, lib/client.js: the broker's client is on its connection.
 */
export const mqtt: Protocol = {
  ...raw,
  name: 'mqtt',
  knows: (socket) => {
    const { client } = socket as Socket & { client?: { broker?: unknown; _parser?: unknown } }
    return client?.broker !== undefined && client._parser !== undefined
  },
  obstacleOf: (socket) => obstacleOfSocket(socket) ?? OBSTACLE,
  leave: (_socket, late) => leaveNothing(late),
}

/** The same over a WebSocket. */
export const mqttDialect: Dialect = {
  name: 'mqtt',
  speaks: ({ protocol }) => protocol === 'mqtt' || protocol === 'mqttv3.1',
  obstacleOf: () => OBSTACLE,
  snapshot: () => null,
  leave: () => ({ takeBack() {}, letGo() {} }),
  refuse: () => OBSTACLE.reason,
  begin: (_state, request) => ({ request, received() {}, meet: () => undefined }),
}
