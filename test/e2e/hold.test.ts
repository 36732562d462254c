import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Client } from '../helpers/client.js'
import { nameOf, namesOfKeepers, pidOfKeeper, untilGone } from '../helpers/keeper.js'
import { PackageCopy } from '../helpers/package-copy.js'
import { REGISTER, startPlain, whoServes } from '../helpers/plain.js'
import { Line, type Settings, temporaryDirectory } from '../helpers/process.js'

const HOLD: Settings = { env: { TSUNAGI_ON_EXIT: 'hold' } }
/** Longer than any test waits: what is to happen must happen by itself. */
const LONG: Settings = { env: { TSUNAGI_ON_EXIT: 'hold', TSUNAGI_HOLD: '50' } }

describe.each(['SIGINT', 'SIGTERM'] as const)('a process that leaves by %s', (signal) => {
  it('leaves its connections with a keeper, and the next one goes on with them', async () => {
    const line = await Line.start('counted-echo.mjs', HOLD)
    const clients = await echoed(line, 300)
    const predecessor = line.current
    predecessor.kill(signal)
    expect(await predecessor.exited).toEqual({ code: null, signal })
    for (const client of clients) client.send('two') // the kernel takes it
    const late = Client.connect(line.port)
    const successor = line.launch()
    expect(await successor.until('resumed')).toMatchObject({
      holder: 'keeper',
      predecessor: predecessor.pid,
      generation: 2,
      moved: 300,
      stayed: [],
    })
    for (const client of clients) await client.expect('two')
    await echo(await late, 'three')
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
    expect(successor.stderr).toMatch(/took 300 connections over from the keeper, left by pid/)
    expect(namesOfKeepers(line.directory)).toEqual([])
  })
})

describe('what is left with a keeper', () => {
  it('can be left and taken ten times in a row', async () => {
    const line = await Line.start('counted-echo.mjs', HOLD)
    const clients = await echoed(line, 50)
    for (let round = 2; round <= 11; round++) {
      line.current.kill('SIGINT')
      await line.current.exited
      expect(await line.launch().until('resumed')).toMatchObject({ generation: round, moved: 50 })
      for (const client of clients) await echo(client, `round ${round}`)
    }
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
  })

  it('includes bytes that were not sent, and what is written by ten megabytes', async () => {
    const line = await Line.start('answers.mjs', HOLD)
    const client = await Client.connect(line.port, { idle: true })
    client.send('big\n')
    const { pid } = line.current
    await line.current.until('serving')
    const probe = await Client.connect(line.port)
    probe.send('probe\n')
    await probe.expect(`${pid} probe\n`)
    line.current.kill('SIGINT')
    await line.current.exited
    const report = await line.launch().until('resumed')
    expect(report).toMatchObject({ moved: 2 })
    expect(report['unsentBytes']).toBeGreaterThan(1_000_000)
    await client.expect(`${pid} big\n`)
    await client.read(10_000_000)
    client.send('more\n')
    await client.expect(`${line.current.pid} more\n`)
  })

  it('includes carried state, of connections and of the server', async () => {
    const line = await Line.start('rooms.mjs', HOLD)
    const [ada, bob] = await joined(line, 'ada', 'bob')
    line.current.kill('SIGINT')
    await line.current.exited
    const successor = line.launch()
    expect(await successor.until('rooms')).toMatchObject({ kept: true, names: ['lobby'], members: 2 })
    ada.send('say hello\n')
    await bob.expect('ada: hello\n')
  })

  it('is migrated by the next version', async () => {
    const line = await Line.start('rooms.mjs', { ...HOLD, mode: { version: 1 } })
    const [ada] = await joined(line, 'ada')
    line.current.kill('SIGINT')
    await line.current.exited
    const { pid } = line.launch({ mode: { version: 2, migrate: true } })
    ada.send('who\n')
    await ada.expect(`${pid} ada ["1→2"] true true\n`)
  })

  it('is closed, and the next version serves, where that has no migrate for the state of the server', async () => {
    const line = await Line.start('rooms.mjs', { ...HOLD, mode: { serverVersion: 1 } })
    const [ada] = await joined(line, 'ada')
    line.current.kill('SIGINT')
    await line.current.exited
    const successor = line.launch({ mode: { serverVersion: 2 } })
    await successor.until('serving')
    expect(successor.stderr).toMatch(
      /was not taken over, and is closed: .*"rooms".* has version 1 in the predecessor, this code has version 2/,
    )
    await ada.expectEnd()
    const [bob] = await joined(line, 'bob')
    bob.send('who\n')
    await bob.expect(`${successor.pid} bob [] true true\n`)
  })

  it('is closed for a connection alone whose state the next version cannot take', async () => {
    const line = await Line.start('rooms.mjs', { ...HOLD, mode: { version: 1 } })
    const [ada] = await joined(line, 'ada')
    line.current.kill('SIGINT')
    await line.current.exited
    const successor = line.launch({ mode: { version: 2 } })
    const report = await successor.until('resumed')
    expect(report).toMatchObject({ moved: 0, stayed: [{ connections: 1 }] })
    expect(JSON.stringify(report)).toMatch(/no migrate function/)
    await ada.expectEnd()
  })
})

describe('a handler that is at work when the process is told to leave', () => {
  it('gets to write its answer, and only then the connection is left; `onExit` of a server asks for it', async () => {
    const line = await Line.start('answers-later.mjs')
    const clients = await Client.connectMany(5, line.port)
    for (const client of clients) client.send('question')
    await line.current.until('data', () => line.current.all('data').length === 5)
    line.current.kill('SIGINT')
    for (const client of clients) await client.expect('question')
    await line.current.exited
    expect(await line.launch().until('resumed')).toMatchObject({ holder: 'keeper', moved: 5 })
    for (const client of clients) await echo(client, 'again')
  })
})

describe('the files of a version', () => {
  it('may all be gone before it leaves', async () => {
    const copy = new PackageCopy()
    const line = await Line.start(copy.fixture('counted-echo.mjs'), HOLD)
    const [client] = await echoed(line, 1)
    rmSync(copy.directory, { recursive: true })
    line.current.kill('SIGINT')
    await line.current.exited
    await line.launch({}, new PackageCopy().fixture('counted-echo.mjs')).until('resumed')
    await echo(client, 'two')
  })
})

describe('without a next process', () => {
  it('connections are ended at the end of the hold time, the address is free, and nothing is left', async () => {
    const line = await Line.start('counted-echo.mjs', { env: { TSUNAGI_ON_EXIT: 'hold', TSUNAGI_HOLD: '0.5' } })
    const clients = await echoed(line, 5)
    line.current.kill('SIGINT')
    await line.current.exited
    const keeper = pidOfKeeper(line.directory)
    expect(nameOf(keeper)).toBe('tsunagi-keeper')
    const waiting = await Client.connect(line.port) // into the backlog
    clients[0]?.send('nobody reads this')
    for (const client of [...clients, waiting]) await client.expectEnd()
    expect([...clients, waiting].flatMap(({ seen }) => seen).filter((event) => event !== 'end')).toEqual([])
    await untilGone(keeper)
    expect(readdirSync(line.directory)).toEqual([])
    await line.launch().until('serving')
    expect(line.current.all('resumed')).toEqual([])
  })

  it('a unix path is free again as well', async () => {
    const path = join(temporaryDirectory(), 'app.sock')
    const line = await startPlain('server.cjs', { env: { TSUNAGI_ON_EXIT: 'hold', TSUNAGI_HOLD: '0.3' }, mode: { path } })
    await whoServes(path)
    line.current.kill('SIGINT')
    await line.current.exited
    expect(existsSync(path)).toBe(true)
    await untilGone(pidOfKeeper(line.directory))
    expect(existsSync(path)).toBe(false)
    await line.launch().until('server listening')
  })

  it('SIGTERM to the keeper ends everything at once', async () => {
    const line = await Line.start('counted-echo.mjs', LONG)
    const [client] = await echoed(line, 1)
    line.current.kill('SIGINT')
    await line.current.exited
    process.kill(pidOfKeeper(line.directory), 'SIGTERM')
    await client.expectEnd()
  })
})

describe('a listener on a path', () => {
  it('is there for the next process', async () => {
    const path = join(temporaryDirectory(), 'app.sock')
    const line = await startPlain('server.cjs', { ...HOLD, mode: { path } })
    await whoServes(path)
    line.current.kill('SIGTERM')
    await line.current.exited
    const waiting = whoServes(path)
    const successor = line.launch()
    expect(await waiting).toBe(successor.pid)
    successor.tell('close')
    await successor.until('server close')
    expect(existsSync(path)).toBe(false)
  })
})

describe('an application with shutdown code of its own', () => {
  const plain: Settings = { node: REGISTER, env: { TSUNAGI_ON_EXIT: 'hold', TSUNAGI_MOVE: 'raw' }, mode: { goodbye: 'SIGINT', exits: 3 } }

  it('hears of the signal, once, and says good-bye to nobody', async () => {
    const line = await startPlain('server.cjs', plain)
    const client = await Client.connect(line.port)
    client.send('hello')
    await client.expect('hello')
    const predecessor = line.current
    for (let i = 0; i < 3; i++) predecessor.kill('SIGINT') // one Ctrl-C, as npm passes it on
    expect(await predecessor.exited).toEqual({ code: 3, signal: null })
    expect(predecessor.all('signal')).toMatchObject([{ signal: 'SIGINT', number: 2 }])
    expect(predecessor.all('socket close')).toEqual([])
    const successor = line.launch()
    client.send('who')
    await client.expect(`${successor.pid}\n`)
    expect(client.seen).toEqual([])
  })

  it.each([0, 700])(
    'that sends itself the signal again after %i ms, once it has cleaned up, ends by it, and its connections are kept',
    async (after) => {
      const line = await startPlain('server.cjs', { ...plain, mode: { again: { signal: 'SIGTERM', after } } })
      const client = await Client.connect(line.port)
      client.send('hello')
      await client.expect('hello')
      line.current.kill('SIGTERM')
      expect(await line.current.exited).toEqual({ code: null, signal: 'SIGTERM' })
      expect(line.current.all('signal')).toHaveLength(1)
      const successor = line.launch()
      client.send('who')
      await client.expect(`${successor.pid}\n`)
    },
  )

  it('that ends by process.exit() leaves its connections too', async () => {
    const line = await startPlain('server.cjs', plain)
    const client = await Client.connect(line.port)
    client.send('hello')
    await client.expect('hello')
    line.current.tell('exit')
    expect(await line.current.exited).toEqual({ code: 0, signal: null })
    const successor = line.launch()
    client.send('who')
    await client.expect(`${successor.pid}\n`)
  })

  it('that ends by an error of its own does not', async () => {
    const line = await startPlain('server.cjs', plain)
    const client = await Client.connect(line.port)
    client.send('hello')
    await client.expect('hello')
    line.current.tell('throw')
    expect(await line.current.exited).toMatchObject({ code: 1 })
    await client.closed()
    expect(namesOfKeepers(line.directory)).toEqual([])
  })
})

describe('without TSUNAGI_ON_EXIT', () => {
  it('nothing is held', async () => {
    const line = await Line.start('counted-echo.mjs')
    const [client] = await echoed(line, 1)
    line.current.kill('SIGINT')
    await line.current.exited
    await client.closed()
    expect(namesOfKeepers(line.directory)).toEqual([])
  })
})

describe('a process that has not taken over yet', () => {
  it('ends by the signal, and its predecessor serves on', async () => {
    const line = await Line.start('ready.mjs', HOLD)
    const [client] = await Client.connectMany(1, line.port)
    const successor = line.launch({ env: { ...HOLD.env, WAITS: 'promise' } })
    await successor.until('server listening')
    successor.kill('SIGTERM')
    expect(await successor.exited).toEqual({ code: null, signal: 'SIGTERM' })
    client?.send('who')
    expect(await client?.line()).toBe(`${line.generations[0]?.pid} false`)
  })
})

async function echoed(line: Line, count: number): Promise<[Client, ...Client[]]> {
  const clients = await Client.connectMany(count, line.port)
  for (const client of clients) client.send('one')
  for (const client of clients) await client.expect('one')
  onTestFinished(() => {
    for (const { socket } of clients) socket.destroy()
  })
  return clients as [Client, ...Client[]]
}

async function echo(client: Client, text: string): Promise<void> {
  client.send(text)
  await client.expect(text)
}

async function joined(line: Line, ...names: string[]): Promise<[Client, Client]> {
  const clients = await Client.connectMany(names.length, line.port)
  for (const [i, client] of clients.entries()) {
    client.send(`join ${names[i]}\n`)
    await client.expect('joined\n')
  }
  return clients as [Client, Client]
}
