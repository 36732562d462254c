import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { startExample } from '../helpers/example.js'
import { MqttListener } from '../helpers/mqtt.js'
import { nextPlain, startPlain } from '../helpers/plain.js'
import { freePort, type Line } from '../helpers/process.js'

const MOVE = { TSUNAGI_MOVE: 'all', TSUNAGI_GRACE: '5' }

describe.each(['mqtt', 'ws'])('sessions of an MQTT broker that knows nothing of tsunagi, with TSUNAGI_MOVE=all (%s)', (scheme) => {
  it('50 clients that publish all the time see nothing of three reloads: no message is lost or repeated, of any QoS', async () => {
    const wsPort = await freePort()
    const line = await startExample('web/mqtt.js', { ...MOVE, WS_PORT: String(wsPort) })
    const url = urlOf(scheme, line, wsPort)
    const listener = await MqttListener.connect(url)
    for (const qos of [0, 1, 2] as const) await listener.client.subscribeAsync(`from/+/${qos}`, { qos })
    const clients = await Promise.all(Array.from({ length: 50 }, async () => MqttListener.connect(url)))
    let isOver = false
    const published = clients.map(async ({ client }, index) => {
      const qos = (index % 3) as 0 | 1 | 2
      const topic = `from/${index}/${qos}`
      let count = 0
      for (; !isOver; count++) {
        await client.publishAsync(topic, String(count), { qos })
        await listener.until(() => listener.from(topic).length > count - AHEAD)
        await delay(PACE_MS)
      }
      await listener.until(() => listener.from(topic).length >= count)
      return { topic, count }
    })
    for (let generation = 2; generation <= 4; generation++) await nextMoved(line)
    isOver = true
    for (const { topic, count } of await Promise.all(published))
      expect(listener.from(topic)).toEqual(Array.from({ length: count }, (_, number) => String(number)))
    expect([listener, ...clients].flatMap(({ seen }) => seen)).toEqual([])
  })

  it('nobody is gone and no will is published, until a client really goes; retained messages stay, and are not sent again', async () => {
    const { line, url } = await start(scheme)
    const ada = await MqttListener.connect(url, { clientId: 'ada' })
    await ada.client.subscribeAsync(['wills/#', 'retained/#', '$SYS/+/new/clients'], { qos: 1 })
    await ada.client.publishAsync('retained/one', 'kept', { retain: true, qos: 1 })
    await ada.until(() => ada.from('retained/one').length > 0)
    const will = { topic: 'wills/bob', payload: Buffer.from('bob is gone'), qos: 1, retain: false } as const
    const bob = await MqttListener.connect(url, { clientId: 'bob', will })
    for (let generation = 2; generation <= 4; generation++) {
      const predecessor = await nextMoved(line)
      expect(predecessor.all('gone').map(({ id }) => id)).toEqual(generation === 2 ? [] : ['eve'])
      const eve = await MqttListener.connect(url, { clientId: 'eve' })
      await eve.client.subscribeAsync('retained/#', { qos: 1 })
      await eve.until(() => eve.from('retained/one').length > 0)
      await eve.client.endAsync()
      await line.current.until('gone')
    }
    bob.client.options.reconnectPeriod = 0
    bob.client.stream.destroy()
    await ada.until(() => ada.from('wills/bob').length > 0)
    expect(ada.from('retained/one')).toEqual(['kept'])
    expect(ada.from('wills/bob')).toEqual(['bob is gone'])
    expect(ada.texts.filter((text) => text === 'ada' || text === 'bob')).toEqual(['bob']) // who has come, by the broker's own word
    expect(ada.seen).toEqual([])
  })

  it.each([1, 2] as const)(
    'a session that outlives its connection goes along, with what waits for its client and what it has not acknowledged (QoS %i)',
    async (qos) => {
      const { line, url } = await start(scheme)
      const session = { clientId: 'bob', clean: false }
      const ada = await MqttListener.connect(url)
      const away = await MqttListener.connect(url, session)
      await away.client.subscribeAsync('news', { qos })
      await away.client.endAsync()
      await ada.client.publishAsync('news', 'while bob is away', { qos })
      await nextMoved(line)
      const bob = await MqttListener.connect(url, session)
      await bob.until(() => bob.from('news').length > 0)
      const isHeld = holdAcknowledgement(bob)
      await ada.client.publishAsync('news', 'held', { qos })
      const acknowledge = await isHeld
      await nextMoved(line)
      acknowledge()
      await ada.client.publishAsync('news', 'last', { qos })
      await bob.until(() => bob.from('news').includes('last'))
      await bob.client.endAsync()
      const again = await MqttListener.connect(url, session)
      await ada.client.publishAsync('news', 'again', { qos })
      await again.until(() => again.from('news').includes('again'))
      expect(bob.from('news')).toEqual(['while bob is away', 'held', 'last'])
      expect(again.from('news').filter((text) => text !== 'last')).toEqual(['again']) // it may have left before that was acknowledged
      expect(ada.seen).toEqual([])
    },
  )

  it('whom the new version does not want is ended, and the others go on', async () => {
    const { line, url } = await start(scheme)
    const ada = await MqttListener.connect(url)
    const bob = await MqttListener.connect(url, { username: 'bob', reconnectPeriod: 0 })
    await ada.client.subscribeAsync('news', { qos: 1 })
    await nextPlain(line, { mode: { banned: 'bob' } })
    await bob.until(() => bob.seen.includes('close'))
    await ada.client.publishAsync('news', 'after', { qos: 1 })
    await ada.until(() => ada.from('news').length > 0)
    expect(ada.seen).toEqual([])
  })
})

describe('an MQTT broker over TCP', () => {
  it('half a packet moves, and its second half makes it whole', async () => {
    const { line, url } = await start('mqtt')
    const ada = await MqttListener.connect(url)
    await ada.client.subscribeAsync('news', { qos: 0 })
    const socket = connect(line.port, '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    const named = Buffer.from('\0\x03raw') // its client, and its user
    socket.write(Buffer.concat([Buffer.from([0x10, 20, 0, 4]), Buffer.from('MQTT'), Buffer.from([4, 0x82, 0, 0]), named, named]))
    await once(socket, 'data')
    const head = Buffer.from([0x30, 0xb2, 0x02, 0, 4]) // 306 bytes follow their length
    const packet = Buffer.concat([head, Buffer.from(`news${'x'.repeat(300)}`)])
    for (let cut = 1; cut <= 3; cut++) {
      socket.write(Buffer.concat([PING, packet.subarray(0, cut)]))
      await once(socket, 'data')
      await nextMoved(line)
      socket.write(packet.subarray(cut))
      await ada.until(() => ada.from('news').length === cut)
    }
    expect(ada.from('news')[2]).toBe('x'.repeat(300))
  })

  it('serves its clients on without TSUNAGI_MOVE, until the grace period is over', async () => {
    const { line, url } = await start('mqtt', { TSUNAGI_GRACE: '2' })
    const ada = await MqttListener.connect(url)
    const predecessor = line.current
    const successor = line.launch()
    await predecessor.untilSaid('nobody asked')
    await ada.until(() => ada.seen.includes('connect'))
    expect(ada.seen).toContain('close')
    await successor.until('ready')
  })
})

const PING = Buffer.from([0xc0, 0])
/** Messages of one client that are on their way at the same time. */
const AHEAD = 3
/** Several clients that only wait for each other would leave the machine to nobody else. */
const PACE_MS = 20

async function start(scheme: string, env: NodeJS.ProcessEnv = MOVE): Promise<{ line: Line; url: string }> {
  const wsPort = await freePort()
  const line = await startPlain('mqtt.mjs', { env: { ...env, WS_PORT: String(wsPort) } })
  return { line, url: urlOf(scheme, line, wsPort) }
}

function urlOf(scheme: string, { port }: Line, wsPort: number): string {
  return `${scheme}://127.0.0.1:${scheme === 'ws' ? wsPort : port}`
}

/** A reload in which everything moves. Returns the predecessor. */
async function nextMoved(line: Line): Promise<Line['current']> {
  const predecessor = line.current
  await nextPlain(line)
  expect(predecessor.stderr).not.toMatch('drain')
  return predecessor
}

/** The client has the next message and does not say so: resolves then, with what lets it say so. */
async function holdAcknowledgement({ client }: MqttListener): Promise<() => void> {
  const { handleMessage } = client
  return new Promise((resolve) => {
    client.handleMessage = (packet, callback) => {
      client.handleMessage = handleMessage
      resolve(() => handleMessage.call(client, packet, callback))
    }
  })
}
