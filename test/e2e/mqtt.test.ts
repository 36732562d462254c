import { connectAsync, type MqttClient } from 'mqtt'
import { expect, it, onTestFinished } from 'vitest'
import { startExample } from '../helpers/example.js'
import { TOOK_OVER } from '../helpers/plain.js'
import { freePort } from '../helpers/process.js'

it.each(['mqtt', 'ws'])(
  'clients of an MQTT broker are served on after a reload, and find the new one when they are ended (%s)',
  async (scheme) => {
    const wsPort = await freePort()
    const line = await startExample('web/mqtt.js', { TSUNAGI_MOVE: 'all', TSUNAGI_GRACE: '2', WS_PORT: String(wsPort) })
    const url = `${scheme}://127.0.0.1:${scheme === 'ws' ? wsPort : line.port}`
    const [ada, bob] = [await join(url), await join(url)]
    await ada.client.subscribeAsync('news', { qos: 1 })
    await tell(bob.client, ada.client, 'before')
    const predecessor = line.current
    await line.launch().untilSaid(TOOK_OVER)
    await predecessor.untilSaid('MQTT')
    if (scheme === 'mqtt') await tell(bob.client, ada.client, 'after') // both are still where they were
    await Promise.all([ada, bob].map(async ({ client }) => client.connected && happens(client, 'close')))
    await Promise.all([ada, bob].map(async ({ client }) => client.connected || happens(client, 'connect')))
    await ada.client.subscribeAsync('news', { qos: 1 })
    await tell(bob.client, ada.client, 'in the new process')
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    expect([...ada.seen, ...bob.seen]).toEqual([])
  },
  60_000,
)

async function join(url: string): Promise<{ client: MqttClient; seen: string[] }> {
  const client = await connectAsync(url, { reconnectPeriod: 50 })
  onTestFinished(() => void client.end(true))
  const seen: string[] = []
  client.on('error', (error) => seen.push(error.message))
  return { client, seen }
}

async function happens(client: MqttClient, event: 'close' | 'connect' | 'message'): Promise<unknown[]> {
  return new Promise((resolve) => client.once(event, (...about: unknown[]) => resolve(about)))
}

async function tell(from: MqttClient, to: MqttClient, text: string): Promise<void> {
  const heard = happens(to, 'message')
  await from.publishAsync('news', text, { qos: 1 })
  const [topic, payload] = await heard
  expect([topic, String(payload)]).toEqual(['news', text])
}
