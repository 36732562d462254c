import { describe, expect, it } from 'vitest'
import { NODES } from '../helpers/nodes.js'
import { nextPlain, startPlain } from '../helpers/plain.js'
import { WebSocketClient } from '../helpers/websocket.js'

const as = (authorization: string) => ({ headers: { authorization } })

describe.each(['express', 'fastify', 'hono'])('a chat in %s that knows nothing of tsunagi, with TSUNAGI_MOVE=ws', (framework) => {
  it('goes on through three reloads: nobody is greeted again, nobody joins or leaves', async () => {
    const line = await startPlain('frameworks.mjs', { env: { TSUNAGI_MOVE: 'ws', TSUNAGI_GRACE: '5' }, mode: { framework } })
    const ada = await WebSocketClient.connect(line.port, '/chat', as('ada'))
    expect(await ada.message()).toBe('welcome ada')
    const bob = await WebSocketClient.connect(line.port, '/chat', as('bob'))
    expect(await bob.message()).toBe('welcome bob')
    if (framework !== 'hono') expect(await ada.message()).toBe('bob joined')
    for (let generation = 2; generation <= 4; generation++) {
      const predecessor = line.current
      const next = nextPlain(line)
      expect(await ada.ask(`during ${generation}`)).toBe(`ada: during ${generation}`)
      const successor = await next
      await successor.until('joined', ({ user }) => user === 'bob')
      expect(await bob.ask(`after ${generation}`)).toBe(`bob: after ${generation}`)
      expect(await ada.ask(`after ${generation}`)).toBe(`ada: after ${generation}`)
      expect(await (await fetch(`http://127.0.0.1:${line.port}/`)).text()).toBe(String(successor.pid))
      expect(predecessor.all('left')).toEqual([])
    }
    await expect(WebSocketClient.connect(line.port, '/chat')).rejects.toThrow('401')
    const eve = await WebSocketClient.connect(line.port, '/chat', as('eve'))
    expect(await eve.message()).toBe('welcome eve')
    eve.ws.close(4001)
    expect(await line.current.until('left')).toMatchObject({ user: 'eve', code: 4001 })
    expect([...ada.seen, ...bob.seen]).toEqual([])
    expect([...ada.surplus, ...bob.surplus].filter((message) => message !== 'eve joined')).toEqual([])
  })

  it.each(NODES)('goes from one Node to another and back (Node $major)', async ({ path }) => {
    const line = await startPlain('frameworks.mjs', { env: { TSUNAGI_MOVE: 'ws', TSUNAGI_GRACE: '5' }, mode: { framework } })
    const ada = await WebSocketClient.connect(line.port, '/chat', as('ada'))
    expect(await ada.message()).toBe('welcome ada')
    for (const command of [[path], [process.execPath]]) {
      await nextPlain(line, { command })
      expect(await ada.ask('still')).toBe('ada: still')
    }
    expect(ada.seen).toEqual([])
    expect(ada.surplus).toEqual([])
  })
})
