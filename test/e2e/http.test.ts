import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { pattern } from '../fixtures/pattern.mjs'
import { Client } from '../helpers/client.js'
import { ask, asking, head } from '../helpers/http.js'
import { missingNodes, NODES } from '../helpers/nodes.js'
import { Line, type Settings } from '../helpers/process.js'

describe('an attached http.Server', () => {
  it('hands its listener over: whoever connects is answered, always', async () => {
    const line = await Line.start('http.mjs')
    const first = line.current
    let done = false
    const answers: string[] = []
    const churn = async () => {
      while (!done) answers.push(await answer(await request(line.port, '/')))
    }
    const churning = Promise.all([churn(), churn(), churn(), churn()])
    for (let handovers = 0; handovers < 3; handovers++) {
      await line.next()
      const pid = String(line.current.pid)
      const since = answers.length
      while (!answers.slice(since).includes(pid)) await new Promise((resolve) => setImmediate(resolve))
    }
    done = true
    await churning
    expect([...new Set(answers)].sort()).toEqual(line.generations.map(({ pid }) => String(pid)).sort())
    expect(answers[0]).toBe(String(first.pid))
  })

  it('serves what is in flight on, and the connection moves behind it', async () => {
    const line = await Line.start('http.mjs')
    const predecessor = line.current
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    onTestFinished(() => agent.destroy())
    const slow = request(line.port, '/slow', agent)
    await predecessor.until('busy')
    await line.nextWhileDraining()
    expect(await answer(await request(line.port, '/'))).toBe(String(line.current.pid))
    predecessor.tell('release')
    const response = await slow
    expect(response.headers.connection).toBe('keep-alive')
    const { socket } = response
    expect(await answer(response)).toBe(String(predecessor.pid))
    const next = await request(line.port, '/', agent)
    expect(next.socket).toBe(socket)
    expect(await answer(next)).toBe(String(line.current.pid))
    expect((await predecessor.exited).code).toBe(0)
  })

  it('lets no keep-alive timeout end what waits for its move', async () => {
    const line = await Line.start('http.mjs', { mode: { keepAliveTimeout: 500, keepAliveTimeoutBuffer: 0 } })
    const predecessor = line.current
    const client = await Client.connect(line.port)
    client.send(asking('/slow'))
    await predecessor.until('busy')
    const successor = line.launch({ env: { TSUNAGI_FAULT: 'successor-before-receive=stop@2' } })
    await successor.until('serving')
    predecessor.tell('release')
    expect((await head(client)).pid).toBe(predecessor.pid)
    await client.expect(String(predecessor.pid))
    await successor.untilStopped()
    client.send(asking('/')) // it waits in the kernel
    await delay(3_000) // longer than the timeout, and the second that Node 20 adds
    expect(client.seen).toEqual([])
    successor.kill('SIGCONT')
    expect((await head(client)).pid).toBe(successor.pid)
    await client.expect(String(successor.pid))
    expect(client.seen).toEqual([])
  })

  it('answers when it is told to end what has waited for a successor that does not come for it', async () => {
    const line = await Line.start('http.mjs')
    const predecessor = line.current
    const client = await Client.connect(line.port)
    client.send(asking('/slow'))
    await predecessor.until('busy')
    const successor = line.launch({ env: { TSUNAGI_FAULT: 'successor-before-receive=stop@2' } })
    await successor.until('serving')
    predecessor.tell('release')
    await successor.untilStopped()
    client.send(asking('/'))
    expect((await head(client)).lines).toContain('Connection: keep-alive')
    await client.expect(String(predecessor.pid))
    predecessor.kill('SIGTERM') // as the end of the grace period
    expect((await head(client)).lines).toContain('Connection: close')
    await client.expect(String(predecessor.pid))
    await client.expectEnd()
    expect((await predecessor.exited).code).toBe(0)
  })

  it('reads an upload to its end whose reading had stopped when the successor came', async () => {
    const line = await Line.start('http.mjs')
    const predecessor = line.current
    const client = await Client.connect(line.port)
    const upload = pattern(1_000_000)
    client.send(`POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${upload.length}\r\n\r\n`)
    client.send(upload)
    await predecessor.until('full')
    const successor = line.launch({ mode: { waits: true } })
    await successor.until('server listening') // from its hello on the predecessor keeps what it reads
    predecessor.tell('read')
    expect((await head(client)).pid).toBe(predecessor.pid)
    await client.expect(String(upload.length))
    successor.tell('ready')
    await successor.until('serving')
    expect((await predecessor.exited).code).toBe(0) // and with it the connection has moved
    await ask(client, '/', successor.pid)
  })

  it('keeps idle keep-alive connections through three generations', async () => {
    const line = await Line.start('http.mjs')
    const clients = await Client.connectMany(20, line.port)
    for (let generation = 0; generation < 4; generation++) {
      if (generation > 0) await line.next()
      for (const client of clients) await ask(client, '/', line.current.pid)
    }
    const [report] = line.generations[0]?.all('handover') ?? []
    expect(report).toMatchObject({ moved: 20, movedBy: [{ rule: 'http', connections: 20 }], stayed: [] })
    for (const { seen } of clients) expect(seen).toEqual([])
  })

  it('takes a connection for idle, not for one that sends nothing: no 408, and closeIdleConnections and getConnections are right', async () => {
    const line = await Line.start('http.mjs', { mode: { headersTimeout: 50, connectionsCheckingInterval: 20, keepAliveTimeout: 60_000 } })
    const client = await Client.connect(line.port)
    await ask(client, '/', line.current.pid)
    const successor = await line.next()
    successor.tell('count')
    expect(await successor.until('counted')).toMatchObject({ connections: 1 })
    successor.tell('check') // several rounds of the server's look for clients that are too slow
    await successor.until('checked')
    expect(client.seen).toEqual([])
    await ask(client, '/', successor.pid)
    successor.tell('close idle')
    await client.expectEnd()
    expect(client.seen).toEqual(['end'])
  })

  it('lets the keep-alive timeout run on', async () => {
    const mode = { keepAliveTimeout: 6_000, keepAliveTimeoutBuffer: 0 }
    const line = await Line.start('http.mjs', { mode })
    const client = await Client.connect(line.port)
    await ask(client, '/', line.current.pid)
    const successor = line.launch({ mode: { ...mode, waits: true } })
    await successor.until('server listening')
    await delay(3_000)
    const handedOver = performance.now()
    successor.tell('ready')
    await client.expectEnd()
    // One that starts again at the handover ends later than that; one that runs on ends in half of it, and 1 s, the buffer of Node 20.
    expect(performance.now() - handedOver).toBeLessThan(6_000)
    expect(client.seen).toEqual(['end'])
  })

  it('counts the requests of a connection on: the last one that it may have says Connection: close', async () => {
    const line = await Line.start('http.mjs', { mode: { maxRequestsPerSocket: 5 } })
    const client = await Client.connect(line.port)
    for (let request = 1; request <= 5; request++) {
      if (request === 3 || request === 5) await line.next()
      client.send(asking('/'))
      expect((await head(client)).lines).toContain(request < 5 ? 'Connection: keep-alive' : 'Connection: close')
      await client.expect(String(line.current.pid))
    }
    expect(client.seen).toEqual([])
  })

  it('answers pipelined requests in order, whoever has them', async () => {
    const line = await Line.start('http.mjs')
    const predecessor = line.current
    const client = await Client.connect(line.port)
    client.send(`${asking('/slow')}${asking('/a')}${asking('/b')}`)
    await predecessor.until('busy')
    await line.nextWhileDraining()
    client.send(asking('/c'))
    predecessor.tell('release')
    await head(client)
    await client.expect(String(predecessor.pid))
    for (const path of ['/a', '/b']) expect(await head(client)).toMatchObject({ path, pid: predecessor.pid })
    expect(await head(client)).toMatchObject({ path: '/c' })
    expect((await predecessor.exited).code).toBe(0)
    expect(client.seen).toEqual([])
  })

  it.each(NODES)('keeps half a request head for the successor, on Node $major', async ({ path }) => {
    expect(missingNodes()).toBe('')
    const { line, predecessor, successor, clients, arrived } = await booting(3, { command: [path] })
    const [fresh, used, piped] = clients as [Client, Client, Client]
    await ask(used, '/', predecessor.pid)
    fresh.send('GET /a HTTP/1.1\r\nHo')
    used.send('\r\nGET /b HTTP/1.1\r\n')
    piped.send(`POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n${asking('/y')}GET /c HTT`)
    for (const path of ['/x', '/y']) expect(await head(piped)).toMatchObject({ path, pid: predecessor.pid })
    await arrived()
    used.send('X-A: b\r\nHo')
    await arrived()
    successor.tell('ready')
    await successor.until('resumed')
    expect((await predecessor.exited).code).toBe(0)
    expect(predecessor.all('handover')).toMatchObject([{ moved: 4, stayed: [] }]) // the witness too
    fresh.send('st: a\r\n\r\n')
    used.send('st: a\r\n\r\n')
    piped.send('P/1.1\r\nHost: a\r\n\r\n')
    for (const [client, path] of [
      [fresh, '/a'],
      [used, '/b'],
      [piped, '/c'],
    ] as const) {
      expect(await head(client)).toMatchObject({ path, pid: successor.pid })
      await ask(client, '/', successor.pid)
      expect(client.seen).toEqual([])
    }
    await line.next({ mode: {} })
    for (const client of clients) await ask(client, '/', line.current.pid)
  })

  it('reads the rest of a head itself where a body of known length is in the way, and the connection follows', async () => {
    const { predecessor, successor, clients, arrived } = await booting(1)
    const [client] = clients as [Client]
    client.send('POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET /c HTT')
    expect(await head(client)).toMatchObject({ path: '/x', pid: predecessor.pid })
    await arrived()
    successor.tell('ready')
    await successor.until('resumed')
    client.send('P/1.1\r\nHost: a\r\n\r\n')
    expect(await head(client)).toMatchObject({ path: '/c', pid: predecessor.pid })
    await ask(client, '/', successor.pid)
    expect((await predecessor.exited).code).toBe(0)
  })

  it('serves on, half a head included, where the successor gives up', async () => {
    const { line, predecessor, successor, clients, arrived } = await booting(2)
    const [half, idle] = clients as [Client, Client]
    await ask(idle, '/', predecessor.pid)
    half.send('GET / HTTP/1.1\r\nHo')
    await arrived()
    successor.kill()
    await successor.exited
    for (let i = 0; i < 3; i++) await ask(idle, '/', predecessor.pid)
    half.send('st: a\r\n\r\n')
    await head(half)
    await half.expect(String(predecessor.pid))
    await line.next({ mode: {} }).catch(() => {}) // counts the dead one as the predecessor
    for (const client of clients) await ask(client, '/', line.current.pid)
    expect(line.current.pid).not.toBe(predecessor.pid)
    expect([...half.seen, ...idle.seen]).toEqual([])
  })

  it.each(NODES)('serves on, on Node $major, where the successor dies before it has started anything', async ({ path }) => {
    const line = await Line.start('http.mjs', { command: [path] })
    const predecessor = line.current
    const [idle, half, reading, slow] = (await Client.connectMany(4, line.port)) as [Client, Client, Client, Client]
    await ask(idle, '/', predecessor.pid)
    reading.socket.pause()
    reading.send(asking('/large'))
    await predecessor.until('answered')
    slow.send(asking('/slow'))
    await predecessor.until('busy')
    const successor = line.launch({ mode: { waits: true }, env: { TSUNAGI_FAULT: 'successor-after-commit=kill' } })
    await successor.until('server listening')
    for (let i = 0; i < 3; i++) await ask(idle, '/', predecessor.pid)
    half.send('GET / HTTP/1.1\r\nHo')
    for (let i = 0; i < 3; i++) await ask(idle, '/', predecessor.pid)
    successor.tell('ready')
    await predecessor.until('handover-failed')
    for (let i = 0; i < 3; i++) await ask(idle, '/', predecessor.pid)
    half.send('st: a\r\n\r\n')
    await head(half)
    await half.expect(String(predecessor.pid))
    await head(reading)
    await reading.expect(pattern(30_000_000))
    await ask(reading, '/', predecessor.pid)
    predecessor.tell('release')
    await head(slow)
    await slow.expect(String(predecessor.pid))
    line.generations.pop()
    await line.next()
    for (const client of [idle, half, reading, slow]) {
      await ask(client, '/', line.current.pid)
      expect(client.seen).toEqual([])
    }
  })

  it('ends what it still serves, with its response, where the successor dies later', async () => {
    const line = await Line.start('http.mjs')
    const predecessor = line.current
    const client = await Client.connect(line.port)
    client.send(asking('/slow'))
    await predecessor.until('busy')
    const successor = await line.nextWhileDraining()
    await predecessor.until('handover')
    successor.kill()
    await successor.exited
    await predecessor.untilSaid('1 connections stay and drain')
    predecessor.tell('release')
    expect((await head(client)).lines).toContain('Connection: close')
    await client.expect(String(predecessor.pid))
    await client.expectEnd()
    expect((await predecessor.exited).code).toBe(0)
  })

  it('moves a response that is out but for a client that reads slowly', async () => {
    const line = await Line.start('http.mjs')
    const predecessor = line.current
    const client = await Client.connect(line.port, { idle: true })
    client.send(asking('/large'))
    await predecessor.until('answered')
    await line.next()
    expect(line.current.all('resumed')[0]).toMatchObject({ moved: 1 })
    expect(predecessor.all('finish')).toMatchObject([{ path: '/large' }])
    await head(client)
    await client.expect(pattern(30_000_000))
    await ask(client, '/', line.current.pid)
    expect(client.seen).toEqual([])
  })

  it('ends the connection behind such a response where the client has asked for that', async () => {
    const line = await Line.start('http.mjs')
    const client = await Client.connect(line.port, { idle: true })
    client.send('GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    await line.current.until('answered')
    await line.next()
    await head(client)
    await client.expect(pattern(30_000_000))
    await client.expectEnd()
    expect(client.seen).toEqual(['end'])
  })

  it('answers one more request of an idle connection where the policy lets it drain, and closes it', async () => {
    const line = await Line.start('http.mjs', { mode: { policy: 'drain' } })
    const predecessor = line.current
    const client = await Client.connect(line.port)
    await ask(client, '/', predecessor.pid)
    await line.nextWhileDraining()
    await predecessor.until('handover')
    client.send(asking('/'))
    expect((await head(client)).lines).toContain('Connection: close')
    await client.expect(String(predecessor.pid))
    await client.expectEnd()
    expect(client.seen).toEqual(['end'])
    expect((await predecessor.exited).code).toBe(0)
  })

  it('says Connection: close to what is in flight where the policy lets it drain', async () => {
    const line = await Line.start('http.mjs', { mode: { policy: 'drain' } })
    const predecessor = line.current
    const client = await Client.connect(line.port)
    client.send(asking('/slow'))
    await predecessor.until('busy')
    await line.nextWhileDraining()
    predecessor.tell('release')
    expect((await head(client)).lines).toContain('Connection: close')
    await client.expect(String(predecessor.pid))
    await client.expectEnd()
    expect((await predecessor.exited).code).toBe(0)
  })
})

/** A server with clients, and a successor that is only waiting for the word to take over. `arrived`: what was sent before has been read. */
async function booting(count: number, settings: Settings = {}) {
  const line = await Line.start('http.mjs', settings)
  const predecessor = line.current
  const clients = await Client.connectMany(count, line.port)
  const successor = line.launch({ mode: { waits: true } })
  await successor.until('server listening')
  const witness = await Client.connect(line.port)
  const arrived = async () => {
    for (let i = 0; i < 3; i++) await ask(witness, '/', predecessor.pid)
  }
  await arrived()
  onTestFinished(() => void witness.socket.destroy())
  return { line, predecessor, successor, clients, arrived }
}

async function request(port: number, path: string, agent: Agent | false = false): Promise<IncomingMessage> {
  const [response] = await once(get({ port, path, host: '127.0.0.1', agent }), 'response')
  return response as IncomingMessage
}

async function answer(response: IncomingMessage): Promise<string> {
  expect(response.statusCode).toBe(200)
  return text(response)
}
