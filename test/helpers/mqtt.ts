import { connect, type IClientOptions, type MqttClient } from 'mqtt'
import { onTestFinished } from 'vitest'

/** A client of an MQTT broker that notes what its connection tells it, and what is published to it. */
export class MqttListener {
  readonly client: MqttClient
  readonly seen: string[] = []
  readonly #messages = new Map<string, string[]>()
  readonly #looking = new Set<() => void>()

  private constructor(client: MqttClient) {
    this.client = client
    client.on('error', ({ message }) => this.#see(message))
    for (const event of ['connect', 'close', 'reconnect', 'disconnect', 'offline'] as const) client.on(event, () => this.#see(event))
    client.on('message', (topic, payload) => {
      const texts = this.#messages.get(topic) ?? []
      this.#messages.set(topic, texts)
      texts.push(String(payload))
      this.#look()
    })
  }

  static async connect(url: string, options: IClientOptions = {}): Promise<MqttListener> {
    const client = connect(url, { reconnectPeriod: 50, username: 'ada', ...options })
    onTestFinished(() => void client.end(true))
    const listener = new MqttListener(client) // a session may have messages for it at once
    await new Promise<void>((resolve) => client.once('connect', () => resolve()))
    listener.seen.length = 0
    return listener
  }

  /** What was published under a topic, in order. */
  from(topic: string): readonly string[] {
    return this.#messages.get(topic) ?? []
  }

  get texts(): readonly string[] {
    return [...this.#messages.values()].flat()
  }

  async until(fits: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!fits()) return
        this.#looking.delete(look)
        resolve()
      }
      this.#looking.add(look)
      look()
    })
  }

  #see(what: string): void {
    this.seen.push(what)
    this.#look()
  }

  #look(): void {
    for (const look of this.#looking) look()
  }
}
