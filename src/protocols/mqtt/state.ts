/**
 * What a broker that keeps it in memory holds beyond its connections: retained messages, and sessions that outlive their connection with what waits for
 * them. All of it is told and put back by the methods that every persistence has.
 */
import type { Broker, Packet, Subscription } from './aedes.js'

export interface BrokerState {
  /** Id of the broker that it was told by. */
  readonly origin: string
  readonly retained: readonly Packet[]
  readonly sessions: readonly SessionInStore[]
}

interface SessionInStore {
  readonly id: string
  readonly subscriptions: readonly Subscription[]
  readonly outgoing: readonly Partial<Packet>[]
  readonly incoming: readonly number[]
}

export interface Sessions {
  readonly sessions: Set<string>
  readonly incoming: ReadonlyMap<string, ReadonlySet<number>>
}

export async function collectState({ persistence }: Broker, { sessions, incoming }: Sessions): Promise<Omit<BrokerState, 'origin'>> {
  const retained = new Map<string, Packet>()
  for await (const packet of persistence.createRetainedStreamCombi(EVERY_TOPIC))
    retained.set((packet as Packet).topic, plain(packet) as Packet)
  const stored: SessionInStore[] = []
  for (const id of sessions) {
    const subscriptions = ((await persistence.subscriptionsByClient({ id })) ?? []).map(plainSubscription)
    const outgoing: Partial<Packet>[] = []
    for await (const packet of persistence.outgoingStream({ id })) outgoing.push(plain(packet))
    const ids = [...(incoming.get(id) ?? [])]
    if (subscriptions.length + outgoing.length + ids.length > 0) stored.push({ id, subscriptions, outgoing, incoming: ids })
  }
  return { retained: [...retained.values()], sessions: stored }
}

/** What this process has retained since its start is newer, and stays. */
export async function inheritState({ persistence }: Broker, { retained, sessions }: BrokerState): Promise<void> {
  const present = new Set<string>()
  for await (const packet of persistence.createRetainedStreamCombi(EVERY_TOPIC)) present.add((packet as Packet).topic)
  for (const packet of retained) if (!present.has(packet.topic)) await persistence.storeRetained(packet)
  for (const { id, subscriptions, outgoing, incoming } of sessions) {
    await persistence.addSubscriptions({ id }, subscriptions)
    for (const [index, packet] of outgoing.entries()) await enqueue(persistence, id, packet, index)
    for (const messageId of incoming) await persistence.incomingStorePacket({ id }, { messageId })
  }
}

/** A packet is queued without its number, which it gets when it is sent; what follows a message of QoS 2 takes the place of the message. */
async function enqueue(persistence: Broker['persistence'], id: string, packet: Partial<Packet>, index: number): Promise<void> {
  const isMessage = packet.cmd === 'publish'
  const place = isMessage
    ? { brokerId: packet.brokerId ?? '', brokerCounter: packet.brokerCounter ?? 0 }
    : { brokerId: id, brokerCounter: index + 1 }
  await persistence.outgoingEnqueue({ clientId: id }, isMessage ? (packet as Packet) : { ...place, topic: '', payload: '', qos: 2 })
  if (packet.messageId === undefined) return
  await persistence.outgoingUpdate({ id }, { ...place, messageId: packet.messageId })
  if (!isMessage) await persistence.outgoingUpdate({ id }, { ...packet })
}

function plain(packet: Packet & { clientId?: string }): Partial<Packet> {
  return defined({
    cmd: packet.cmd,
    topic: packet.topic,
    payload: packet.payload,
    qos: packet.qos,
    retain: packet.retain,
    brokerId: packet.brokerId,
    brokerCounter: packet.brokerCounter,
    messageId: packet.messageId,
  })
}

/** Of what nobody has set there is nothing, as in the original. */
export function plainSubscription({ topic, qos, rh, rap, nl }: Subscription): Subscription {
  return defined({ topic, qos, rh, rap, nl }) as Subscription
}

function defined<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as never
}

/** `#` alone leaves out what begins with `$` in some stores. */
const EVERY_TOPIC = ['#', '$SYS/#']
