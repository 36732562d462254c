import { describe, expect, it } from 'vitest'
import { nextPlain, startPlain } from '../helpers/plain.js'
import { WebSocketClient } from '../helpers/websocket.js'

const CLIENTS = 500
const OPTIONS = { perMessageDeflate: { threshold: 0 }, maxPayload: 1024 * 1024 }

/** Each client talks of itself, again and again: what its zlib stream remembers is no other's. */
function says(at: number, round: number): string {
  return `${`client ${at} repeats itself `.repeat(8 + (at % 5))} in round ${round}`
}

describe('500 WebSockets with context takeover, all in the middle of a message', () => {
  it('go on through three reloads, each with its own words', async () => {
    const line = await startPlain('websocket.mjs', { env: { TSUNAGI_MOVE: 'ws', UV_THREADPOOL_SIZE: '2' }, mode: { options: OPTIONS } })
    const clients: WebSocketClient[] = []
    for (let at = 0; at < CLIENTS; at++) {
      const headers = { authorization: `Bearer u${at}` }
      clients.push(await WebSocketClient.connect(line.port, '/', { headers, perMessageDeflate: { threshold: 0 } }))
    }
    const everybody = (act: (client: WebSocketClient, at: number) => Promise<unknown>) => Promise.all(clients.map(act))
    await everybody(async (client, at) => expect(await client.message()).toBe(`welcome u${at}`))
    for (let round = 0; round < 3; round++) {
      await everybody(async (client, at) => expect(await client.ask(says(at, round))).toBe(`u${at}: ${says(at, round)}`))
      // A third each: a frame cut in its head or payload; between two fragments; after one, in the next one's head.
      const finish = clients.map((client, at) => {
        const text = says(at, round + 100)
        if (at % 3 === 0) {
          const release = client.holdAfter(1 + (at % 40))
          client.ws.send(text)
          return release
        }
        client.ws.send(text.slice(0, 50), { fin: false })
        if (at % 3 === 1) return () => client.ws.send(text.slice(50))
        const release = client.holdAfter(100)
        client.ws.send(text.slice(50), { fin: true })
        return release
      })
      const predecessor = line.current
      await nextPlain(line)
      expect(predecessor.all('left')).toEqual([])
      for (const end of finish) end()
      await everybody(async (client, at) => expect(await client.message()).toBe(`u${at}: ${says(at, round + 100)}`))
    }
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
    expect(clients.flatMap(({ surplus }) => surplus)).toEqual([])
    expect(line.generations.flatMap((generation) => generation.all('failed'))).toEqual([])
  })
})
