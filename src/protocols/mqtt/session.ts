/**
 * One MQTT session before it moves: whether it is between two packets, what has to be known of it, and how its broker forgets it without a word.
 */
import { Socket } from 'node:net'
import { override } from '../override.js'
import type { Obstacle } from '../protocol.js'
import { type Client, expectKeepalive, partialOf, passesOnAlone, type Subscription } from './aedes.js'
import { type Followed, followedOf } from './follow.js'
import { plainSubscription } from './state.js'

export interface SessionState {
  /** The packet that it began with. */
  readonly connect: Uint8Array
  readonly id: string
  readonly clean: boolean
  /** Number of the next message that asks for an answer. */
  readonly nextId: number
  readonly subscriptions: readonly Subscription[]
  /** Messages of QoS 2 that came in and are not released. */
  readonly incoming: readonly number[]
  /** As much of the next packet as has come in. */
  readonly partial: Uint8Array
}

export function obstacleOfSession(client: Client): Obstacle | undefined {
  const followed = followedOf(client)
  if (followed === undefined) return stays('its MQTT session was not seen from its begin on')
  if (client.closed) return stays('its MQTT session has ended')
  if (!passesOnAlone(client.broker)) return stays('its MQTT broker is one of several: messages would reach it from two of them')
  if (!client.connected || followed.connect === undefined) return passes('its MQTT session is being established')
  return isAtWork(client, followed) ? passes('an MQTT packet is at work') : undefined
}

/** What a stream around a WebSocket still holds cannot be told; what a socket holds goes along. */
function isAtWork({ conn, _pendingDrains }: Client, { handling, delivering }: Followed): boolean {
  const isHeld = !(conn instanceof Socket) && conn.readableLength + conn.writableLength > 0
  return isHeld || handling > 0 || delivering > 0 || _pendingDrains.length > 0
}

/** A message that waits for its client to read is in the write buffer, and goes along: nobody has to wait for it. */
export function stopWaiting(client: Client): void {
  if (client._pendingDrains.length > 0) client._handleDrain()
}

export function stateOfSession(client: Client): SessionState {
  const followed = followedOf(client) as Followed
  return {
    connect: followed.connect as Uint8Array,
    id: client.id,
    clean: client.clean,
    nextId: client._nextId,
    subscriptions: Object.entries(client.subscriptions).map(([topic, subscription]) => plainSubscription({ ...subscription, topic })),
    incoming: [...client._inboundInflight, ...(followed.broker.incoming.get(client.id) ?? [])],
    partial: partialOf(client._parser),
  }
}

export function isSessionState(state: unknown): state is SessionState {
  const { connect, id, clean, nextId, subscriptions, incoming, partial } = (state ?? {}) as Partial<SessionState>
  const areBytes = connect instanceof Uint8Array && partial instanceof Uint8Array
  const isNamed = typeof id === 'string' && typeof clean === 'boolean' && Number.isInteger(nextId)
  const areSubscriptions = Array.isArray(subscriptions) && subscriptions.every(({ topic, qos }) => typeof topic === 'string' && qos >= 0)
  return areBytes && isNamed && areSubscriptions && Array.isArray(incoming) && incoming.every(Number.isInteger)
}

/**
 * It has moved: its broker neither ends it nor says that it has gone. What is still published here goes to it as ever, which means there: such messages
 * get numbers that the successor does not use.
 */
export function leaveSession(client: Client): { takeBack(): void } {
  const { broker, conn, id, _nextId } = client
  const isCounted = broker.clients[id] === client
  if (isCounted) {
    delete broker.clients[id]
    broker.connectedClients--
  }
  if (client._keepaliveTimer) clearTimeout(client._keepaliveTimer)
  client._nextId = ((_nextId + HALF) % MOST_IDS) + 1
  const undo = override(client, {
    close(done?: () => void) {
      conn.end() // only the application wants that now
      done?.()
    },
  } as never)
  return {
    takeBack() {
      undo()
      client._nextId = _nextId
      if (client._keepaliveTimer) expectKeepalive(client)
      if (!isCounted) return
      broker.clients[id] = client
      broker.connectedClients++
    },
  }
}

function stays(reason: string): Obstacle {
  return { reason, passes: false }
}

function passes(reason: string): Obstacle {
  return { reason, passes: true }
}

const MOST_IDS = 65_535
const HALF = 32_768
