import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { namesOfKeepers } from '../helpers/keeper.js'
import { missingNodes, NODES } from '../helpers/nodes.js'
import { HANDED_OVER, REGISTER, TOOK_OVER, untilToldByAnother } from '../helpers/plain.js'
import { fixture, Line, type Settings, temporaryDirectory } from '../helpers/process.js'

describe('a UDP server that is started again', () => {
  it('goes on with its socket, five times: every datagram of a steady stream arrives once, in order', async () => {
    const log = join(temporaryDirectory(), 'log')
    writeFileSync(log, '')
    const line = await start({ mode: { log } })
    const stream = await Stream.to(line.port)
    for (let generation = 2; generation <= 6; generation++) {
      await stream.advance(500)
      await next(line)
    }
    await stream.advance(500)
    const sent = await stream.stop()
    const received = readFileSync(log, 'utf8').trim().split('\n')
    expect(received.map((entry) => Number(entry.split(' ')[1]))).toEqual(Array.from({ length: sent }, (_, number) => number))
    expect([...new Set(received.map((entry) => Number(entry.split(' ')[0])))]).toEqual(line.generations.map(({ pid }) => pid))
  })

  it('goes on in every version of Node, from each to the next', async () => {
    expect(missingNodes()).toBe('')
    const line = await start()
    const client = await clientSocket()
    for (const { path } of [...NODES.slice(1), ...NODES.slice(0, 1)]) {
      const successor = await next(line, { command: [path] })
      expect(await ask(client, line.port)).toBe(String(successor.pid))
    }
  })

  it('gets what has queued while nobody could read', async () => {
    const line = await start()
    const [predecessor, client] = [line.current, await clientSocket()]
    predecessor.kill('SIGSTOP')
    await predecessor.untilStopped()
    for (const word of ['one', 'two', 'three']) client.send(word, line.port, '127.0.0.1')
    const successor = line.launch()
    predecessor.kill('SIGCONT')
    await successor.untilSaid(TOOK_OVER)
    await Promise.race([successor, predecessor].map((one) => one.until('message', ({ message }) => message === 'three')))
    const all = [...predecessor.all('message'), ...successor.all('message')].map(({ message }) => message)
    expect(all).toEqual(['one', 'two', 'three'])
  })

  it('is the predecessor’s alone until the successor serves', async () => {
    const line = await start()
    const client = await clientSocket()
    const successor = line.launch({ env: { TSUNAGI_FAULT: 'successor-before-ready=stop' } })
    await successor.untilStopped()
    expect(successor.all('listening')).toHaveLength(1)
    for (let i = 0; i < 20; i++) expect(await ask(client, line.port)).toBe(String(line.generations[0]?.pid))
    successor.kill('SIGCONT')
    await successor.untilSaid(TOOK_OVER)
    expect(await ask(client, line.port)).toBe(String(successor.pid))
  })

  it.each(['successor-before-ready', 'successor-before-ack', 'successor-after-commit'])(
    'stays with the predecessor when the successor dies at %s, and moves at the next start',
    async (point) => {
      const line = await start()
      const client = await clientSocket()
      const predecessor = line.current
      const failing = line.launch({ env: { TSUNAGI_FAULT: `${point}=kill` } })
      await failing.exited
      if (point === 'successor-after-commit') await predecessor.untilSaid('goes on serving')
      expect(await ask(client, line.port)).toBe(String(predecessor.pid))
      const successor = line.launch()
      await successor.untilSaid(TOOK_OVER)
      expect(await ask(client, line.port)).toBe(String(successor.pid))
      expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    },
  )

  it('keeps its IPv6 address, and reloads by SIGUSR2', async () => {
    const line = await start({ mode: { type: 'udp6', address: '::1' } })
    const client = await clientSocket('udp6')
    const predecessor = line.current
    predecessor.kill('SIGUSR2')
    const { pid } = await untilToldByAnother(predecessor, 'listening')
    await predecessor.untilSaid(HANDED_OVER)
    expect(await ask(client, line.port, '::1')).toBe(String(pid))
  })

  it('keeps whom it is connected to, and the groups it has joined', async () => {
    const peer = await clientSocket()
    const line = await start({ mode: { peer: peer.address().port } })
    await line.current.until('connected')
    const successor = await next(line)
    await successor.until('connected')
    peer.send('hello', line.port, '127.0.0.1')
    expect(String((await once(peer, 'message'))[0])).toBe('hello')
    const stranger = await clientSocket()
    stranger.send('let me in', line.port, '127.0.0.1')
    peer.send('still there?', line.port, '127.0.0.1')
    await successor.until('message', ({ message }) => message === 'still there?')
    expect(successor.all('message').map(({ message }) => message)).not.toContain('let me in')

    const members = await start({ mode: { address: '0.0.0.0', group: '239.255.77.1' } })
    const member = await next(members)
    const client = await clientSocket()
    client.setMulticastInterface('127.0.0.1')
    client.send('to all', members.port, '239.255.77.1')
    await member.until('message', ({ message }) => message === 'to all')
  })

  it('is connected no more where the new version does not connect', async () => {
    const peer = await clientSocket()
    const line = await start({ mode: { peer: peer.address().port } })
    await line.current.until('connected')
    await next(line, { mode: {} })
    const stranger = await clientSocket()
    expect(await ask(stranger, line.port)).toBe(String(line.current.pid))
  })

  it('that asks for its address to be shared shares it as ever', async () => {
    const line = await start({ mode: { options: { reuseAddr: true } } })
    const second = line.launch()
    await second.until('listening')
    line.generations[0]?.tell('close')
    await line.generations[0]?.exited
    expect(await ask(await clientSocket(), line.port)).toBe(String(second.pid))
    expect(second.stderr).toBe('')
  })
})

describe('a UDP server that leaves before the next one comes', () => {
  it('leaves its socket with a keeper, five times: what comes meanwhile is there when the next one starts', async () => {
    const line = await start(HOLD)
    const client = await clientSocket()
    for (let round = 1; round <= 5; round++) {
      await serves(line)
      line.current.kill('SIGINT')
      expect(await line.current.exited).toEqual({ code: null, signal: 'SIGINT' })
      const words = ['one', 'two', 'three'].map((word) => `${word} of ${round}`)
      for (const word of words) client.send(word, line.port, '127.0.0.1')
      const successor = line.launch()
      await successor.until('message', ({ message }) => message === words[2])
      expect(successor.all('message').map(({ message }) => message)).toEqual(words)
      expect(namesOfKeepers(line.directory)).toEqual([])
    }
  })

  it('leaves it for the hold time: then its address is free', async () => {
    const line = await start({ env: { ...HOLD.env, TSUNAGI_HOLD: '1' } })
    await serves(line)
    line.current.kill('SIGINT')
    await line.current.exited
    while (namesOfKeepers(line.directory).length > 0) await delay(20)
    await line.launch().until('listening')
    await serves(line)
    expect(line.current.stderr).toBe('')
  })

  it('leaves it in place, where the next version is this process', async () => {
    const line = await start({ env: { TSUNAGI_RELOAD: 'in-place' } })
    const client = await clientSocket()
    const server = line.current
    await serves(line)
    server.kill('SIGUSR2')
    await server.untilSaid('(generation 2)')
    expect(await ask(client, line.port)).toBe(String(server.pid))
    expect(server.all('listening').map(({ port }) => port === line.port)).toEqual([true, false, true]) // the second one was the trial's
  })
})

/** One that is told to leave before it serves has nothing to leave. */
async function serves(line: Line): Promise<void> {
  expect(await ask(await clientSocket(), line.port)).toBe(String(line.current.pid))
}

/** Longer than any test waits. */
const HOLD: Settings = { env: { TSUNAGI_ON_EXIT: 'hold', TSUNAGI_HOLD: '50' } }

async function start(settings: Settings = {}): Promise<Line> {
  const line = await Line.empty(fixture('plain/datagrams.cjs'), { node: REGISTER, ...settings })
  await line.launch().until('listening')
  return line
}

async function next(line: Line, settings: Settings = {}): Promise<Line['current']> {
  const predecessor = line.current
  const successor = line.launch(settings)
  await successor.untilSaid(TOOK_OVER)
  expect(await predecessor.exited).toEqual({ code: 0, signal: null })
  return successor
}

async function clientSocket(type: 'udp4' | 'udp6' = 'udp4'): Promise<Socket> {
  const socket = createSocket(type)
  onTestFinished(() => void socket.close())
  socket.bind(0, type === 'udp4' ? '127.0.0.1' : '::1')
  await once(socket, 'listening')
  return socket
}

async function ask(client: Socket, port: number, host = '127.0.0.1'): Promise<string> {
  client.send('who', port, host)
  return String((await once(client, 'message'))[0])
}

/** Numbered datagrams without a pause, with so few unanswered that no queue can overflow: one that is lost stops it. */
class Stream {
  readonly #socket: Socket
  readonly #port: number
  #sent = 0
  #answered = 0
  #isStopped = false

  static async to(port: number): Promise<Stream> {
    return new Stream(await clientSocket(), port)
  }

  private constructor(socket: Socket, port: number) {
    this.#socket = socket
    this.#port = port
    socket.on('message', () => {
      this.#answered++
      if (!this.#isStopped) this.#send()
    })
    for (let i = 0; i < WINDOW; i++) this.#send()
  }

  #send(): void {
    this.#socket.send(String(this.#sent++), this.#port, '127.0.0.1')
  }

  async advance(datagrams: number): Promise<void> {
    for (const goal = this.#answered + datagrams; this.#answered < goal; ) await once(this.#socket, 'message')
  }

  /** How many were sent, once all are answered. */
  async stop(): Promise<number> {
    this.#isStopped = true
    while (this.#answered < this.#sent) await once(this.#socket, 'message')
    return this.#sent
  }
}

const WINDOW = 32
