/**
 * What nobody could tell of an MQTT session at a handover is noted from its begin on: the packet that it began with, and how many packets are at work.
 * Only servers that have somebody who loaded aedes before they listen are looked at.
 */
import type { Server, Socket } from 'node:net'
import { Duplex, Readable } from 'node:stream'
import { serverOf } from '../../native/net-internals.js'
import { override } from '../override.js'
import type { WebSocketInternals } from '../websocket/ws.js'
import { type Broker, type Client, clientOn, type Deliver, isKnown } from './aedes.js'
import { FollowedBroker } from './broker.js'
import { PacketCutter } from './packets.js'
import type { BrokerState } from './state.js'

export interface Followed {
  readonly broker: FollowedBroker
  /** The first packet, once it has come in. */
  connect: Uint8Array | undefined
  /** Packets of this client that the broker has not done with, and messages on their way to it. */
  handling: number
  delivering: number
}

/** What is known of a server: the broker that serves its connections, and what it holds. */
export interface Place {
  readonly state: Partial<BrokerState>
  broker: FollowedBroker | undefined
}

/** `state` is what is carried for the server. Returns how to undo it. */
export function followBrokers(server: Server, state: Partial<BrokerState>): () => void {
  places.set(server, { state, broker: undefined })
  const { emit } = server
  const undo = override(server, {
    emit(this: Server, event: string, ...args: unknown[]) {
      const result = Reflect.apply(emit, this, [event, ...args])
      const client = event === 'connection' ? clientOn(args[0] as object) : undefined
      if (client) follow(client, server)
      return result
    },
  } as never)
  return () => {
    undo()
    places.delete(server)
  }
}

/** Nobody has this WebSocket yet. What reads it is found when there is something to read. */
export function followWebSocket(ws: WebSocketInternals): void {
  if (!SUBPROTOCOLS.has(ws.protocol) || !places.has(serverOf(ws._socket as Socket) as Server)) return
  const { emit } = ws
  const undo = override(ws, {
    emit(this: WebSocketInternals, event: string, ...args: unknown[]) {
      if (event !== 'message') return Reflect.apply(emit, this, [event, ...args])
      undo()
      return findStream(ws, () => ws.emit(event, ...args))
    },
  } as never)
}

/** The stream around a WebSocket, which the broker reads. */
export function streamOf(ws: WebSocketInternals): Duplex | undefined {
  return streams.get(ws)
}

function findStream<T>(ws: WebSocketInternals, act: () => T): T {
  const { push } = Readable.prototype
  const undo = override(Readable.prototype, {
    push(this: Readable, ...args: unknown[]) {
      const client = this instanceof Duplex ? clientOn(this) : undefined
      if (client) {
        streams.set(ws, this as Duplex)
        follow(client, serverOf(ws._socket as Socket) as Server)
      }
      return Reflect.apply(push, this, args)
    },
  } as never)
  try {
    return act()
  } finally {
    undo()
  }
}

export function followedOf(client: Client): Followed | undefined {
  return followed.get(client)
}

export function brokersInUse(): Iterable<Place> {
  return places.values()
}

export function hasPlace(server: Server): boolean {
  return places.has(server)
}

function follow(client: Client, server: Server): void {
  const place = places.get(server)
  if (place === undefined || followed.has(client) || !isKnown(client)) return
  place.broker ??= brokerOf(client.broker)
  if (place.broker.broker !== client.broker) return // of two brokers of one server nobody can tell whose is what is carried
  inherit(place.broker, place.state)
  const noted: Followed = { broker: place.broker, connect: undefined, handling: 0, delivering: 0 }
  followed.set(client, noted)
  keepFirstPacket(client, noted)
  countPackets(client, noted)
}

/** A broker may serve several servers, over TCP and over WebSockets; what it holds was carried for each of them, and is taken in once. */
function inherit(broker: FollowedBroker, state: Partial<BrokerState>): void {
  if (state.origin === undefined || broker.hasState) return
  for (const place of places.values()) if (place.state.origin === state.origin) place.broker ??= broker
  broker.inherit(state as BrokerState)
}

function brokerOf(broker: Broker): FollowedBroker {
  for (const place of places.values()) if (place.broker?.broker === broker) return place.broker
  return new FollowedBroker(broker)
}

function keepFirstPacket({ _parser }: Client, noted: Followed): void {
  const { parse } = _parser
  const cutter = new PacketCutter()
  const undo = override(_parser, {
    parse(this: Client['_parser'], bytes: Uint8Array) {
      const [first] = cutter.push(bytes)
      if (first) {
        noted.connect = Uint8Array.from(first)
        undo()
      }
      return parse.call(this, bytes)
    },
  } as never)
}

function countPackets(client: Client, noted: Followed): void {
  client._parser.prependListener('packet', () => noted.handling++)
  const { _nextBatch, deliver0, deliverQoS } = client
  client._nextBatch = (error) => {
    noted.handling--
    _nextBatch(error)
  }
  client.resume = () => {
    client._paused = false
    _nextBatch() // that is not the end of a packet
  }
  const counted =
    (deliver: Deliver): Deliver =>
    (packet, done) => {
      noted.delivering++
      deliver(packet, (...results) => {
        noted.delivering--
        done(...results)
      })
    }
  client.deliver0 = counted(deliver0)
  client.deliverQoS = counted(deliverQoS)
}

export const SUBPROTOCOLS: ReadonlySet<string> = new Set(['mqtt', 'mqttv3.1'])
const places = new Map<Server, Place>()
const followed = new WeakMap<Client, Followed>()
const streams = new WeakMap<WebSocketInternals, Duplex>()
