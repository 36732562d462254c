import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Client } from '../helpers/client.js'
import { Line } from '../helpers/process.js'

describe('carried state', () => {
  it('of a server is refilled in place, and what was one object is one object', async () => {
    const { line, clients } = await chat(3)
    for (let handovers = 0; handovers < 2; handovers++) {
      await line.next()
      expect(await line.current.until('rooms')).toMatchObject({ kept: true, names: ['lobby'], members: 3 })
      for (const [i, client] of clients.entries()) {
        client.send('who\n')
        await client.expect(`${line.current.pid} member${i} [] true true\n`)
      }
      clients[0]?.send('say hello\n')
      for (const client of clients.slice(1)) await client.expect('member0: hello\n')
    }
    clients[0]?.end()
    await clients[0]?.expectEnd()
    await line.next()
    expect(await line.current.until('rooms')).toMatchObject({ members: 2 })
  })

  it('of connections migrates up and down again', async () => {
    const {
      line,
      clients: [client],
    } = await chat(1)
    await line.next({ mode: { version: 3, migrate: true } })
    await line.next({ mode: { version: 1, migrate: true } })
    client?.send('who\n')
    await client?.expect(`${line.current.pid} member0 ["0→3","3→1"] true true\n`)
  })

  it('of a server migrates up and down again', async () => {
    const { line } = await chat(1)
    await line.next({ mode: { serverVersion: 2, serverMigrates: true } })
    expect(await line.current.until('rooms')).toMatchObject({ names: ['lobby', 'from 0'], kept: true })
    await line.next({ mode: { serverVersion: 1, serverMigrates: true } })
    expect(await line.current.until('rooms')).toMatchObject({ names: ['lobby', 'from 0', 'from 2'], kept: true })
  })

  it('of connections in a version that nobody migrates leaves them to drain', async () => {
    const {
      line,
      clients: [client],
    } = await chat(1)
    const predecessor = line.current
    await line.nextWhileDraining({ mode: { version: 1 } })
    expect((await predecessor.until('handover'))['stayed']).toEqual([
      { connections: 1, reason: 'it carries "session" in version 0, the new code declares version 1 and no migrate function' },
    ])
    client?.send('who\n')
    await client?.expect(`${predecessor.pid} member0 [] true true\n`)
    client?.end()
    await client?.expectEnd()
    expect((await predecessor.exited).code).toBe(0)
  })

  it('of a server in a version that nobody migrates refuses the handover with both versions', async () => {
    const {
      line,
      clients: [client],
    } = await chat(1)
    const predecessor = line.current
    const successor = line.launch({ mode: { serverVersion: 7 } })
    const error = await successor.until('error')
    expect(error).toMatchObject({ code: 'ERR_TSUNAGI_STATE_VERSION', serving: true })
    expect(error['message']).toMatch(/"rooms" in version 0, the new code declares version 7/)
    expect((await successor.exited).code).toBe(1)
    client?.send('who\n')
    await client?.expect(`${predecessor.pid} member0 [] true true\n`)
    // And nothing keeps the right version from taking over.
    line.generations.pop()
    await line.next()
    client?.send('who\n')
    await client?.expect(`${line.current.pid} member0 [] true true\n`)
  })

  it('of a connection that cannot be carried is named with its path, and the connection drains', async () => {
    const {
      line,
      clients: [odd, even],
    } = await chat(2)
    odd?.send('refuse\n')
    await odd?.expect('as you like\n')
    const predecessor = line.current
    await line.nextWhileDraining()
    const [stayed] = (await predecessor.until('handover'))['stayed'] as { reason: string }[]
    expect(stayed?.reason).toMatch(/carry\(socket, "session"\)\.deep\.list\[1\] is a function/)
    // One graph: for the other, which moved, the one that stayed is not in the room any more.
    odd?.send('who\n')
    await odd?.expect(`${predecessor.pid} member0 [] true true\n`)
    even?.send('who\n')
    await even?.expect(`${line.current.pid} member1 [] true true\n`)
  })

  it('of a server that cannot be carried gives the handover up, and the predecessor serves on', async () => {
    const {
      line,
      clients: [client],
    } = await chat(1)
    const predecessor = line.current
    predecessor.tell('poison')
    await predecessor.until('poisoned')
    const successor = line.launch()
    const error = await successor.until('error')
    expect(error['message']).toMatch(/carry\(server, "rooms"\)\.get\("poison"\)\.fn is a function/)
    await successor.exited
    client?.send('who\n')
    await client?.expect(`${predecessor.pid} member0 [] true true\n`)
    expect(client?.seen).toEqual([])
  })

  it("takes a proxy's upstream connections along", async () => {
    const upstreamEvents: string[] = []
    const upstream = createServer((socket: Socket) => {
      socket.on('data', (data) => socket.write(`upstream heard ${data}`))
      upstreamEvents.push('connection')
      for (const event of ['end', 'close', 'error']) socket.on(event, () => upstreamEvents.push(event))
    }).listen(0, '127.0.0.1')
    await once(upstream, 'listening')
    onTestFinished(() => void upstream.close())
    const { port } = upstream.address() as { port: number }
    const line = await Line.start('proxy.mjs', { mode: { upstream: port } })
    const clients = await Client.connectMany(2, line.port)
    for (let generation = 1; generation <= 3; generation++) {
      for (const client of clients) {
        client.send(`hello ${generation}`)
        await client.expect(`upstream heard hello ${generation}`)
      }
      if (generation < 3) await line.next()
    }
    expect(upstreamEvents).toEqual(['connection', 'connection'])
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
    clients[0]?.end()
    await clients[0]?.closed()
  })
})

async function chat(count: number): Promise<{ line: Line; clients: Client[] }> {
  const line = await Line.start('rooms.mjs')
  const clients = await Client.connectMany(count, line.port)
  for (const [i, client] of clients.entries()) {
    client.send(`join member${i}\n`)
    await client.expect('joined\n')
  }
  return { line, clients }
}
