/**
 * One broker. What it would do to the sessions that arrive, as if they began, does not happen; and while they arrive, what is published waits: a message
 * reaches all of those that it would have reached in the predecessor.
 */
import { Readable } from 'node:stream'
import { override } from '../override.js'
import { type Broker, type Done, keepsInMemory, type Packet, type Subscription } from './aedes.js'
import { type BrokerState, collectState, inheritState } from './state.js'

export class FollowedBroker {
  readonly broker: Broker
  /** Sessions that arrive, with what they have subscribed to. */
  readonly arriving = new Map<string, readonly Subscription[]>()
  /** Those that outlive their connection, by the client's id. */
  readonly sessions = new Set<string>()
  /** Messages of QoS 2 that came in and are not released, by the client's id. */
  readonly incoming = new Map<string, Set<number>>()
  /** Messages that are being passed on. */
  publishing = 0
  /** What was inherited is in place. */
  inherited: Promise<void> = Promise.resolve()
  /** Whether it has taken in what was carried, or has been asked for what it holds itself. */
  hasState = false
  #arrivals = 0
  #isReleasing = false
  readonly #waiting: (() => void)[] = []

  constructor(broker: Broker) {
    this.broker = broker
    this.#follow()
    this.#followPersistence()
  }

  inherit(state: BrokerState): void {
    this.hasState = true
    if (!keepsInMemory(this.broker)) return
    this.begin()
    this.inherited = inheritState(this.broker, state).finally(() => this.end())
  }

  /** What is to be carried. */
  async collect(): Promise<BrokerState> {
    this.hasState = true
    const held = keepsInMemory(this.broker) ? await collectState(this.broker, this) : { retained: [], sessions: [] }
    return { origin: this.broker.id, ...held }
  }

  /** From here until `end`, which follows each of these, what is published waits. */
  begin(): void {
    this.#arrivals++
  }

  end(): void {
    if (--this.#arrivals === 0) this.#release()
  }

  /** One in each turn: a message that is stored for sessions first would be overtaken by one that is not, and its broker drops what was overtaken. */
  #release(): void {
    const publish = this.#arrivals === 0 && this.#waiting.shift()
    if (!publish) return
    this.#isReleasing = true
    publish()
    setImmediate(() => {
      this.#isReleasing = false
      this.#release()
    })
  }

  #follow(): void {
    const { broker } = this
    const publish = broker.publish.bind(broker)
    override(broker, {
      publish: (packet: Packet, client?: unknown, done?: Done) => {
        if (typeof client === 'function') return broker.publish(packet, null, client as Done)
        if (this.#greets(packet)) return void setImmediate(() => done?.())
        const act = () => {
          this.publishing++
          publish(packet, client, (...results) => {
            this.publishing--
            done?.(...results)
          })
        }
        if (this.#arrivals > 0 || this.#isReleasing) this.#waiting.push(act)
        else act()
      },
    } as never)
  }

  /** Whoever watches who comes and goes sees nobody who has been here all the time. */
  #greets({ topic, payload }: Packet): boolean {
    return this.arriving.size > 0 && topic === `$SYS/${this.broker.id}/new/clients` && this.arriving.has(String(payload))
  }

  #followPersistence(): void {
    const { arriving, sessions, incoming } = this
    const { persistence } = this.broker
    const original = Object.fromEntries(
      FOLLOWED.map((name) => [name, persistence[name]?.bind(persistence)]),
    ) as unknown as typeof persistence
    override(persistence, {
      addSubscriptions(client, subscriptions) {
        sessions.add(client.id)
        return original.addSubscriptions(client, subscriptions)
      },
      // As of a session that was here: it has been sent all that was to be sent.
      subscriptionsByClient: (client) => {
        const known = arriving.get(client.id)
        return known ? Promise.resolve([...known]) : original.subscriptionsByClient(client)
      },
      outgoingStream: (client) => (arriving.has(client.id) ? Readable.from([]) : original.outgoingStream(client)),
      incomingStorePacket(client, packet) {
        const ids = incoming.get(client.id) ?? new Set()
        incoming.set(client.id, ids.add(packet.messageId))
        return original.incomingStorePacket(client, packet)
      },
      incomingDelPacket(client, packet) {
        incoming.get(client.id)?.delete(packet.messageId)
        return original.incomingDelPacket(client, packet)
      },
      ...(original.cleanIncoming && {
        cleanIncoming: async (client: { id: string }) => {
          incoming.delete(client.id)
          return original.cleanIncoming?.(client)
        },
      }),
    } satisfies Partial<typeof persistence> as never)
  }
}

const FOLLOWED = [
  'addSubscriptions',
  'subscriptionsByClient',
  'outgoingStream',
  'incomingStorePacket',
  'incomingDelPacket',
  'cleanIncoming',
] as const
