import { describe, expect, it } from 'vitest'
import { startExample } from '../helpers/example.js'
import { NODES } from '../helpers/nodes.js'
import { nextPlain, startPlain, TOOK_OVER } from '../helpers/plain.js'
import { SocketIoClient } from '../helpers/socketio.js'

const MOVE = { TSUNAGI_MOVE: 'ws', TSUNAGI_GRACE: '5' }
const WEBSOCKET = { transports: ['websocket'] }

describe('an app with socket.io that knows nothing of tsunagi, with TSUNAGI_MOVE=ws', () => {
  const ways = [
    { how: 'a WebSocket from the begin', client: WEBSOCKET, mode: {} },
    { how: 'upgraded from polling', client: {}, mode: {} },
    { how: 'with connection state recovery', client: {}, mode: { options: { connectionStateRecovery: {} } } },
    {
      how: 'compressed',
      client: { ...WEBSOCKET, perMessageDeflate: { threshold: 0 } },
      mode: { options: { perMessageDeflate: { threshold: 0 } } },
    },
    { how: 'it looks at socket.recovered', client: WEBSOCKET, mode: { asks: true } },
  ]
  it.each(ways)('sessions, rooms and data go on through three reloads ($how)', async ({ client, mode }) => {
    const line = await startPlain('socketio.mjs', { env: MOVE, mode })
    const ada = await SocketIoClient.connect(line.port, 'ada', client)
    expect(await ada.event()).toEqual(['welcome', 'ada'])
    const bob = await SocketIoClient.connect(line.port, 'bob', client, '/admin')
    expect(await bob.event()).toEqual(['welcome', 'bob'])
    const eve = await SocketIoClient.connect(line.port, 'eve', client)
    expect(await eve.event()).toEqual(['welcome', 'eve'])
    expect(await ada.event()).toEqual(['joined', 'eve'])
    await Promise.all([ada, bob, eve].map((one) => one.upgraded()))
    expect(await ada.ask('join', 'tea')).toEqual(['tea'])
    expect(await eve.ask('join', 'tea')).toEqual(['tea'])
    const ids = [ada, bob, eve].map(({ socket }) => socket.id)
    for (let generation = 2; generation <= 4; generation++) {
      const predecessor = line.current
      const next = nextPlain(line)
      ada.socket.emit('say', 'tea', `during ${generation}`)
      for (const one of [ada, eve]) expect(await one.event()).toEqual(['said', 'ada', `during ${generation}`])
      const successor = await next
      await successor.until('joined', ({ user }) => user === 'bob')
      ada.socket.emit('say', 'tea', `after ${generation}`)
      for (const one of [ada, eve]) expect(await one.event()).toEqual(['said', 'ada', `after ${generation}`])
      expect(await bob.ask('bytes', Buffer.from([1, 2, generation]))).toEqual(Buffer.from([generation, 2, 1]))
      expect(await bob.ask('join', `${generation}`)).toHaveLength(generation - 1)
      expect(predecessor.all('left')).toEqual([])
      expect(predecessor.stderr).not.toMatch('drain')
    }
    expect([ada, bob, eve].map(({ socket }) => socket.id)).toEqual(ids)
    expect([ada, bob, eve].flatMap(({ seen }) => seen)).toEqual([])
    expect([ada, bob, eve].flatMap(({ surplus }) => surplus)).toEqual([])
    bob.socket.disconnect()
    expect(await line.current.until('left')).toMatchObject({ user: 'bob', reason: 'client namespace disconnect' })
  })

  it('the heartbeat goes on where reloads follow each other faster than its pings', async () => {
    const options = { pingInterval: 3_000, pingTimeout: 5_000 }
    const line = await startPlain('socketio.mjs', { env: MOVE, mode: { options } })
    const ada = await SocketIoClient.connect(line.port, 'ada', WEBSOCKET)
    expect(await ada.event()).toEqual(['welcome', 'ada'])
    let pings = 0
    ada.socket.io.engine.on('ping', () => pings++)
    // A client gives up when it has not been pinged for both together.
    const end = performance.now() + 1.5 * (options.pingInterval + options.pingTimeout)
    while (performance.now() < end) {
      await nextPlain(line)
      expect(await ada.ask('who')).toBe('ada')
    }
    expect(pings).toBeGreaterThan(0)
    expect(ada.seen).toEqual([])
  })

  it('an acknowledgement that the predecessor gives late reaches the client, once; who waits for one there is said', async () => {
    const line = await startPlain('socketio.mjs', { env: MOVE })
    const ada = await SocketIoClient.connect(line.port, 'ada', WEBSOCKET)
    expect(await ada.event()).toEqual(['welcome', 'ada'])
    let answer: ((text: string) => void) | undefined
    ada.socket.on('question', (done) => {
      answer = done
    })
    ada.socket.emit('ask me')
    expect((await ada.event())[0]).toBe('question')
    const slowly = ada.ask('slowly')
    expect(await ada.ask('who')).toBe('ada')
    const predecessor = line.current
    await line.launch().untilSaid(TOOK_OVER)
    expect(await ada.ask('who')).toBe('ada')
    answer?.('too late')
    predecessor.tell('go')
    expect(await slowly).toBe('slowly, ada')
    await predecessor.untilSaid('1 acknowledgements')
    ada.socket.emit('ask me')
    expect((await ada.event())[0]).toBe('question')
    answer?.('in time')
    expect(await line.current.until('answer')).toMatchObject({ answer: 'in time' })
    expect(line.current.all('answer')).toHaveLength(1)
    expect(ada.seen).toEqual([])
  })

  it('whom the new version does not want is told so', async () => {
    const line = await startPlain('socketio.mjs', { env: MOVE })
    const bob = await SocketIoClient.connect(line.port, 'bob', { ...WEBSOCKET, reconnection: false })
    expect(await bob.event()).toEqual(['welcome', 'bob'])
    await nextPlain(line, { mode: { banned: 'bob' } })
    await expect(bob.event()).rejects.toThrow('who are you?')
  })
})

describe('the rooms of examples/socketio', () => {
  it.each(NODES)('go from one Node to another and back, with TSUNAGI_MOVE=ws (Node $major)', async ({ path }) => {
    const line = await startExample('socketio/server.js', MOVE)
    const ada = await SocketIoClient.connect(line.port, 'ada', WEBSOCKET)
    const bob = await SocketIoClient.connect(line.port, 'bob') // polls first, as the page does
    await bob.upgraded()
    expect([await ada.event(), await ada.event(), await bob.event()]).toEqual([
      ['welcome', 'ada'],
      ['joined', 'bob'],
      ['welcome', 'bob'],
    ])
    expect([await ada.ask('join', 'tea'), await bob.ask('join', 'tea')]).toEqual([1, 2])
    for (const command of [[path], [process.execPath]]) {
      const { pid } = await nextPlain(line, { command })
      ada.socket.emit('say', 'tea', `process ${pid}`)
      for (const one of [ada, bob]) expect(await one.event()).toEqual(['said', 'ada', `process ${pid}`])
    }
    expect([...ada.seen, ...bob.seen]).toEqual([])
    expect([...ada.surplus, ...bob.surplus]).toEqual([])
  })

  it('are closed without TSUNAGI_MOVE, and a client connects again to the new version', async () => {
    const line = await startExample('socketio/server.js', {})
    const ada = await SocketIoClient.connect(line.port, 'ada', { ...WEBSOCKET, reconnectionDelay: 10 })
    expect(await ada.event()).toEqual(['welcome', 'ada'])
    const predecessor = line.current
    const successor = await nextPlain(line)
    await predecessor.until('said', ({ l }) => String(l).startsWith('ada left'))
    await successor.until('said', ({ l }) => l === 'ada is here')
    expect(ada.seen[0]).toBe('disconnect transport close')
  })
})
