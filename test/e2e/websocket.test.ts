import { describe, expect, it } from 'vitest'
import { NODES } from '../helpers/nodes.js'
import { HANDED_OVER, nextPlain, startPlain, TOOK_OVER } from '../helpers/plain.js'
import { WebSocketClient } from '../helpers/websocket.js'

const MOVE = { TSUNAGI_MOVE: 'ws', TSUNAGI_GRACE: '5' }
const DEFLATE = { perMessageDeflate: { threshold: 0, zlibDeflateOptions: { level: 6 } } }
/** As in fixtures/plain/websocket.mjs. */
const flooded = (number: number) => `${number} ${'many words '.repeat(2000)}`
const as = (user: string) => ({ headers: { authorization: `Bearer ${user}` } })
const compressing = (user: string) => ({ ...as(user), perMessageDeflate: { threshold: 0 } })

describe('an app that knows nothing of tsunagi, with TSUNAGI_MOVE=ws', () => {
  const ways = [
    { how: 'as usual', mode: {} },
    { how: 'it awaits something before it upgrades', mode: { slow: true } },
    { how: 'it awaits something before it listens', mode: { unheard: true } },
    { how: 'it compresses', mode: { options: DEFLATE } },
    { how: 'its ws is of 2019', mode: { old: true, options: DEFLATE } },
  ]
  it.each(ways)('a WebSocket goes on through three reloads: no greeting again, nobody left ($how)', async ({ mode }) => {
    const line = await startPlain('websocket.mjs', { env: MOVE, mode })
    const client = await WebSocketClient.connect(line.port, '/chat?room=1', compressing('ada'), ['chat', 'other'])
    expect(await client.message()).toBe('welcome ada')
    await line.current.until('listens')
    for (let generation = 2; generation <= 4; generation++) {
      const predecessor = line.current
      client.ws.send('sent before the reload')
      expect(await client.message()).toBe('ada: sent before the reload')
      const next = nextPlain(line)
      client.ws.send('sent during the reload')
      expect(await client.message()).toBe('ada: sent during the reload')
      const successor = await next
      expect(await successor.until('joined')).toMatchObject({ user: 'ada', url: '/chat?room=1' })
      expect(await client.ask(`hello ${generation}`)).toBe(`ada: hello ${generation}`)
      expect(await client.ask(Buffer.from([generation, 1, 2, 3]))).toEqual(Buffer.from([generation, 1, 2, 3]))
      expect(await client.ask('all')).toBe('ada to all')
      client.ws.ping(`${generation}`)
      await client.until(`pong ${generation}`)
      expect(predecessor.all('left')).toEqual([])
    }
    client.ws.close(4001, 'done')
    expect(await line.current.until('left')).toMatchObject({ user: 'ada', code: 4001, reason: 'done' })
    await client.until('close')
    expect(client.seen.filter((seen) => !seen.startsWith('pong'))).toEqual(['close 4001 done'])
    expect(client.surplus).toEqual([])
    expect(line.generations.flatMap((generation) => generation.all('failed'))).toEqual([])
  })

  it.each(NODES)('goes from one Node to another and back (Node $major)', async ({ path }) => {
    const line = await startPlain('websocket.mjs', { env: MOVE, mode: { options: DEFLATE } })
    const client = await WebSocketClient.connect(line.port, '/', compressing('ada'))
    expect(await client.message()).toBe('welcome ada')
    const words = 'what was said before is referred to later'
    expect(await client.ask(words)).toBe(`ada: ${words}`)
    for (const command of [[path], [process.execPath], [path]]) {
      await nextPlain(line, { command })
      client.ws.send(words.slice(0, 20), { fin: false })
      const finish = client.holdAfter(5)
      client.ws.send(words.slice(20))
      await nextPlain(line, { command })
      finish()
      expect(await client.message()).toBe(`ada: ${words}`)
    }
    expect(client.seen).toEqual([])
  })

  it('what the predecessor sends late arrives as messages, once and in order, among those of the successor', async () => {
    const line = await startPlain('websocket.mjs', { env: MOVE, mode: { options: DEFLATE } })
    const client = await WebSocketClient.connect(line.port, '/', compressing('ada'))
    expect(await client.message()).toBe('welcome ada')
    client.ws.send('later')
    expect(await client.ask('now')).toBe('ada: now')
    const predecessor = line.current
    await line.launch().untilSaid(TOOK_OVER)
    expect(await client.ask('the new one')).toBe('ada: the new one')
    predecessor.tell('go')
    for (const word of ['one', 'two', 'three']) expect(await client.message()).toBe(`ada, at last: ${word}`)
    expect(await client.ask('the new one again')).toBe('ada: the new one again')
    expect(client.surplus).toEqual([])
    expect(client.seen).toEqual([])
  })

  it('a close that the predecessor says late is said by the successor', async () => {
    const line = await startPlain('websocket.mjs', { env: MOVE })
    const client = await WebSocketClient.connect(line.port, '/', as('ada'))
    expect(await client.message()).toBe('welcome ada')
    client.ws.send('later bye')
    expect(await client.ask('now')).toBe('ada: now')
    const predecessor = line.current
    await line.launch().untilSaid(TOOK_OVER)
    predecessor.tell('go')
    await client.until('close')
    expect(client.seen).toEqual(['close 4002 late'])
    expect(await line.current.until('left')).toMatchObject({ user: 'ada', code: 4002 })
    expect(predecessor.all('left')).toEqual([])
  })

  it('a close handshake that is under way ends in the successor', async () => {
    const line = await startPlain('websocket.mjs', { env: MOVE })
    const client = await WebSocketClient.connect(line.port, '/', as('ada'))
    expect(await client.message()).toBe('welcome ada')
    const answer = client.holdAfter('bye'.length + 6) // its own close frame waits
    client.ws.send('bye')
    const predecessor = line.current
    await predecessor.until('joined')
    await nextPlain(line)
    answer()
    await client.until('close')
    expect(client.seen).toEqual(['close 4000 as you wish'])
    expect(await line.current.until('left')).toMatchObject({ user: 'ada', code: 4000, reason: 'as you wish' })
    expect(predecessor.all('left')).toEqual([])
  })

  it('what was agreed on with the client outlives the options of the server', async () => {
    const line = await startPlain('websocket.mjs', { env: MOVE, mode: { options: DEFLATE } })
    const compressed = await WebSocketClient.connect(line.port, '/', compressing('ada'))
    expect(await compressed.message()).toBe('welcome ada')
    const words = 'said again and again, and so compressed '.repeat(10)
    expect(await compressed.ask(words)).toBe(`ada: ${words}`)
    await nextPlain(line, { mode: { options: { perMessageDeflate: false } } })
    const plain = await WebSocketClient.connect(line.port, '/', compressing('eve'))
    expect(plain.ws.extensions).toBe('')
    expect(await plain.message()).toBe('welcome eve')
    for (const mode of [{ options: DEFLATE }, { options: {} }, { options: { perMessageDeflate: { clientNoContextTakeover: true } } }]) {
      expect(await compressed.ask(words)).toBe(`ada: ${words}`)
      expect(await plain.ask(words)).toBe(`eve: ${words}`)
      await nextPlain(line, { mode })
    }
    expect(await compressed.ask(words)).toBe(`ada: ${words}`)
    expect(await plain.ask(words)).toBe(`eve: ${words}`)
    expect([compressed, plain].flatMap(({ seen }) => seen)).toEqual([])
  })

  it('one that is never without something to compress moves as well', async () => {
    const line = await startPlain('websocket.mjs', { env: MOVE, mode: { options: DEFLATE } })
    const clients = await Promise.all(['ada', 'bob', 'eve'].map((user) => WebSocketClient.connect(line.port, '/', compressing(user))))
    for (const client of clients) {
      await client.message()
      client.ws.send('flood')
      for (let number = 0; number < 20; number++) expect(await client.message()).toBe(flooded(number))
    }
    const predecessor = line.current
    await line.launch().untilSaid(TOOK_OVER)
    await predecessor.untilSaid(HANDED_OVER)
    for (const client of clients) {
      for (let number = 20; number < 60; number++) expect(await client.message()).toBe(flooded(number))
      client.ws.send('bye')
    }
    for (const client of clients) await client.until('close')
    expect(clients.flatMap(({ seen }) => seen)).toEqual(Array(3).fill('close 4000 as you wish'))
    expect(predecessor.all('left')).toEqual([])
  })

  it('one whom the new version does not want is told so, and may connect again', async () => {
    const line = await startPlain('websocket.mjs', { env: MOVE })
    const [ada, bob] = [await WebSocketClient.connect(line.port, '/', as('ada')), await WebSocketClient.connect(line.port, '/', as('bob'))]
    for (const client of [ada, bob]) expect(await client.message()).toMatch('welcome')
    await nextPlain(line, { mode: { banned: 'bob' } })
    await bob.until('close')
    expect(bob.seen).toEqual(['close 1012'])
    expect(bob.surplus).toEqual([])
    expect(await ada.ask('still here')).toBe('ada: still here')
    expect(line.current.stderr).toMatch('401')
  })

  it('one that is taken back from a dead successor goes on where it was', async () => {
    const line = await startPlain('websocket.mjs', { env: MOVE, mode: { options: DEFLATE } })
    const client = await WebSocketClient.connect(line.port, '/', compressing('ada'))
    expect(await client.message()).toBe('welcome ada')
    expect(await client.ask('some words')).toBe('ada: some words')
    const finish = client.holdAfter(4)
    client.ws.send('some words in the middle')
    const failed = line.launch({ env: { ...MOVE, TSUNAGI_FAULT: 'successor-after-commit=kill' } })
    await failed.exited
    finish()
    expect(await client.message()).toBe('ada: some words in the middle')
    expect(await client.ask('some words again')).toBe('ada: some words again')
    line.generations.pop()
    await nextPlain(line)
    expect(await client.ask('some words at last')).toBe('ada: some words at last')
    expect(client.seen).toEqual([])
    expect(client.surplus).toEqual([])
  })
})

describe('an app that knows nothing of tsunagi, without TSUNAGI_MOVE', () => {
  it('a WebSocket ends with 1012 at once, and its client finds the new version', async () => {
    const line = await startPlain('websocket.mjs', {})
    const client = await WebSocketClient.connect(line.port, '/', as('ada'))
    expect(await client.message()).toBe('welcome ada')
    const predecessor = line.current
    const successor = await nextPlain(line)
    await client.until('close')
    expect(client.seen).toEqual(['close 1012'])
    expect(await predecessor.until('left')).toMatchObject({ user: 'ada', code: 1012 })
    const again = await WebSocketClient.connect(line.port, '/', as('ada'))
    expect(await again.message()).toBe('welcome ada')
    await successor.until('joined')
    expect(successor.all('joined')).toHaveLength(1)
  })
})
