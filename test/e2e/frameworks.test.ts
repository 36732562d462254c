import { describe, expect, it } from 'vitest'
import { startExample } from '../helpers/example.js'
import { NODES } from '../helpers/nodes.js'
import { nextPlain } from '../helpers/plain.js'
import type { ServerProcess } from '../helpers/process.js'
import { WebSocketClient } from '../helpers/websocket.js'

const MOVE = { TSUNAGI_MOVE: 'ws', TSUNAGI_GRACE: '5' }
const as = (authorization: string) => ({ headers: { authorization } })
const linesOf = (process: ServerProcess) => process.all('said').map(({ l }) => l)

describe.each(['express', 'fastify', 'hono'])('the chat of examples/%s, with TSUNAGI_MOVE=ws', (framework) => {
  // The one in Hono greets only who has come: a promise is between the upgrade and its handler, and what that sends to others is not discarded.
  const tellsOthers = framework !== 'hono'
  const greeting = (user: string) => (tellsOthers ? `${user} joined` : `welcome ${user}`)

  it('goes on through three reloads: nobody is greeted again, nobody joins or leaves', async () => {
    const line = await startExample(`${framework}/server.js`, MOVE)
    const ada = await WebSocketClient.connect(line.port, '/chat', as('ada'))
    expect(await ada.message()).toBe(greeting('ada'))
    const bob = await WebSocketClient.connect(line.port, '/chat', as('bob'))
    expect(await bob.message()).toBe(greeting('bob'))
    if (tellsOthers) expect(await ada.message()).toBe('bob joined')
    const everybodyHears = async (speaker: WebSocketClient, user: string, text: string) => {
      speaker.ws.send(text)
      for (const one of [ada, bob]) expect(await one.message()).toBe(`${user}: ${text}`)
    }
    for (let generation = 2; generation <= 4; generation++) {
      const predecessor = line.current
      const next = nextPlain(line)
      await everybodyHears(ada, 'ada', `during ${generation}`)
      const successor = await next
      await everybodyHears(bob, 'bob', `after ${generation}`)
      await everybodyHears(ada, 'ada', `after ${generation}`)
      expect(await (await fetch(`http://127.0.0.1:${line.port}/`)).text()).toBe(`process ${successor.pid}\n`)
      expect(linesOf(predecessor).sort()).toEqual(['ada is here', 'bob is here', `process ${predecessor.pid} listens`])
    }
    await expect(WebSocketClient.connect(line.port, '/chat')).rejects.toThrow('401')
    const eve = await WebSocketClient.connect(line.port, '/chat', as('eve'))
    expect(await eve.message()).toBe(greeting('eve'))
    eve.ws.close(4001)
    await line.current.until('said', ({ l }) => l === 'eve left with 4001')
    expect([...ada.seen, ...bob.seen]).toEqual([])
    expect([...ada.surplus, ...bob.surplus]).toEqual(tellsOthers ? ['eve joined', 'eve joined'] : [])
  })

  it.each(NODES)('goes from one Node to another and back (Node $major)', async ({ path }) => {
    const line = await startExample(`${framework}/server.js`, MOVE)
    const ada = await WebSocketClient.connect(line.port, '/chat', as('ada'))
    expect(await ada.message()).toBe(greeting('ada'))
    for (const command of [[path], [process.execPath]]) {
      await nextPlain(line, { command })
      expect(await ada.ask('still')).toBe('ada: still')
    }
    expect(ada.seen).toEqual([])
    expect(ada.surplus).toEqual([])
  })
})
