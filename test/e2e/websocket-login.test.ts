import { describe, expect, it } from 'vitest'
import { HANDED_OVER, nextPlain, startPlain, TOOK_OVER } from '../helpers/plain.js'
import { WebSocketClient } from '../helpers/websocket.js'

describe('an app that learns from the first message who a client is', () => {
  it('keeps what it carries for a WebSocket, and without TSUNAGI_MOVE', async () => {
    const line = await startPlain('login.mjs', { mode: { carry: true } })
    const [ada, bob] = await Promise.all(['ada', 'bob'].map(() => WebSocketClient.connect(line.port)))
    for (const [client, name] of [
      [ada, 'ada'],
      [bob, 'bob'],
    ] as const) {
      expect(await client?.message()).toBe('who are you?')
      expect(await client?.ask(name)).toBe(`hello ${name}`)
    }
    for (let said = 1; said <= 3; said++) {
      expect(await ada?.ask('this')).toBe(`ada said this, ${said} in all`)
      expect(await bob?.ask('that')).toBe(`bob said that, ${said} in all`)
      const successor = await nextPlain(line)
      expect(await successor.until('session', ({ user }) => user === 'bob')).toMatchObject({ said, resumed: true, asked: true })
    }
    expect([...(ada?.seen ?? []), ...(bob?.seen ?? [])]).toEqual([])
    expect([...(ada?.surplus ?? []), ...(bob?.surplus ?? [])]).toEqual([])
  })

  it('drains where it does not carry that: the WebSocket ends with 1012, and the client logs in again', async () => {
    const line = await startPlain('login.mjs', {})
    const client = await WebSocketClient.connect(line.port)
    expect(await client.message()).toBe('who are you?')
    expect(await client.ask('ada')).toBe('hello ada')
    const predecessor = line.current
    await nextPlain(line)
    await client.until('close')
    expect(client.seen).toEqual(['close 1012'])
    expect(client.surplus).toEqual([])
    expect(await predecessor.until('left')).toMatchObject({ user: 'ada', code: 1012 })
    const again = await WebSocketClient.connect(line.port)
    expect(await again.message()).toBe('who are you?')
    expect(await again.ask('ada')).toBe('hello ada')
    expect(await again.ask('that')).toBe('ada said that, 1 in all')
  })

  it('stays where defer(ws) holds it, and moves alone behind its answer', async () => {
    const line = await startPlain('login.mjs', { mode: { carry: true, defer: true } })
    const client = await WebSocketClient.connect(line.port)
    expect(await client.message()).toBe('who are you?')
    expect(await client.ask('ada')).toBe('hello ada')
    const predecessor = line.current
    client.ws.send('slowly')
    await predecessor.until('slow')
    await line.launch().untilSaid(TOOK_OVER)
    expect(await client.message()).toBe('ada said slowly, 1 in all')
    await predecessor.exited
    expect(await line.current.until('session')).toMatchObject({ user: 'ada', said: 1 })
    expect(await client.ask('that')).toBe('ada said that, 2 in all')
    expect(predecessor.stderr).toMatch(HANDED_OVER)
    expect(client.seen).toEqual([])
  })
})
