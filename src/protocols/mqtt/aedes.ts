/**
 * The private fields of aedes and mqtt-packet that are looked at, typed once. A broker leaves its client on the connection that it was given.
 *
 * @note read in aedes 1.2.0 (aedes.js, lib/client.js, lib/handlers/*.js), aedes-persistence 11.0.0, mqemitter 7.1.0 and mqtt-packet 9.0.2 (parser.js).
 */
import type { EventEmitter } from 'node:events'
import type { Duplex, Readable } from 'node:stream'
import { headOf, TYPES } from './packets.js'

export interface Broker extends EventEmitter {
  readonly id: string
  readonly clients: Record<string, Client>
  connectedClients: number
  readonly mq: object
  readonly persistence: Persistence
  publish(packet: Packet, client?: unknown, done?: Done): void
}

export interface Client extends EventEmitter {
  id: string
  clean: boolean
  readonly broker: Broker
  readonly conn: Duplex
  readonly closed: boolean
  readonly connected: boolean
  readonly connackSent: boolean
  readonly subscriptions: Record<string, Omit<Subscription, 'topic'>>
  readonly _parser: Parser
  _parsingBatch: number
  /** Number of the next message that asks for an answer. */
  _nextId: number
  /** Messages of QoS 2 that came in and are not released. */
  readonly _inboundInflight: Set<number>
  readonly _pendingDrains: unknown[]
  _drainTimer: NodeJS.Timeout | null
  _keepaliveTimer: NodeJS.Timeout | null
  readonly _keepaliveInterval: number
  _paused?: boolean
  _nextBatch: Done
  deliver0: Deliver
  deliverQoS: Deliver
  close(done?: () => void): void
  pause(): void
  resume(): void
  _handleDrain(): void
}

export type Done = (error?: unknown, ...more: unknown[]) => void
export type Deliver = (packet: Packet, done: Done) => void

export interface Parser extends EventEmitter {
  readonly packet: { cmd?: (typeof TYPES)[number]; length: number; qos: number; dup: boolean; retain: boolean }
  readonly _list: { readonly length: number; slice(): Buffer }
  /** What it reads next: 0 the first byte of a packet, 1 its length, 2 the rest. */
  readonly _stateCounter: number
  parse(bytes: Uint8Array): number
}

export interface Packet {
  readonly cmd?: string
  readonly topic: string
  readonly payload: string | Uint8Array
  readonly qos?: number
  readonly retain?: boolean
  readonly brokerId?: string
  readonly brokerCounter?: number
  readonly messageId?: number
}

export interface Subscription {
  readonly topic: string
  readonly qos: number
  readonly rh?: number
  readonly rap?: boolean
  readonly nl?: boolean
}

type Of = { readonly id: string }

export interface Persistence {
  storeRetained(packet: Packet): Promise<void>
  createRetainedStreamCombi(patterns: readonly string[]): Readable
  addSubscriptions(client: Of, subscriptions: readonly Subscription[]): Promise<void>
  subscriptionsByClient(client: Of): Promise<Subscription[] | null>
  outgoingEnqueue(subscription: { clientId: string }, packet: Packet): Promise<void>
  outgoingUpdate(client: Of, packet: Partial<Packet>): Promise<void>
  outgoingStream(client: Of): Readable
  incomingStorePacket(client: Of, packet: { readonly messageId: number }): Promise<void>
  incomingDelPacket(client: Of, packet: { readonly messageId: number }): Promise<void>
  cleanIncoming?(client: Of): Promise<void>
}

/** The broker's client on a connection, which is a socket or a stream around a WebSocket. */
export function clientOn(connection: object): Client | undefined {
  const { client } = connection as { client?: Partial<Client> }
  return client?.broker !== undefined && client._parser !== undefined ? (client as Client) : undefined
}

/** Whether this is the version that was read: what is counted and carried hangs on it. */
export function isKnown({ _parser, _inboundInflight, _pendingDrains, _nextBatch, deliver0, deliverQoS }: Client): boolean {
  const methods = [_parser.parse, _nextBatch, deliver0, deliverQoS]
  return methods.every((one) => typeof one === 'function') && _inboundInflight instanceof Set && Array.isArray(_pendingDrains)
}

/** Whether a broker passes messages on by itself, and to nobody beyond its process. */
export function passesOnAlone({ mq }: Broker): boolean {
  return mq.constructor.name === 'MQEmitter'
}

/** Whether what a broker keeps for its sessions ends with its process. */
export function keepsInMemory({ persistence }: Broker): boolean {
  const { asyncPersistence } = persistence as { asyncPersistence?: object }
  return (asyncPersistence ?? persistence).constructor.name === 'MemoryPersistence'
}

/** As much of the next packet as has come in. */
export function partialOf({ packet, _list, _stateCounter }: Parser): Uint8Array {
  if (_stateCounter === 0) return _list.slice()
  const flags = (packet.dup ? 8 : 0) | (packet.qos << 1) | (packet.retain ? 1 : 0)
  const head = headOf(TYPES.indexOf(packet.cmd ?? ''), flags, _stateCounter === 1 ? undefined : packet.length)
  return Buffer.concat([head, _list.slice()])
}

/** Starts the time within which a client has to be heard of again. @note lib/handlers/connect.js `setKeepAlive`. */
export function expectKeepalive(client: Client): void {
  client._keepaliveTimer = setTimeout(() => {
    client.broker.emit('keepaliveTimeout', client)
    client.emit('error', new Error('keep alive timeout'))
  }, client._keepaliveInterval)
}
