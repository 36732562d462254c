import { describe, expect, it } from 'vitest'
import { pattern } from '../fixtures/pattern.mjs'
import { Client } from '../helpers/client.js'
import { Line } from '../helpers/process.js'

const ROLLING = { TSUNAGI_MODE: 'rolling' }
/** As in src/predecessor/plan.ts: the first transaction, and each that follows. */
const [CANARY, BATCH] = [64, 128]
const CONNECTIONS = 400

describe('a rolling handover', () => {
  it('moves 400 connections under ping-pong in several transactions, every byte right', async () => {
    const line = await Line.start('rolling.mjs', { env: ROLLING })
    const playing = await play(line.port, CONNECTIONS)
    const predecessor = line.current
    const successor = await line.next()
    const again = await line.next()
    await playing.stop()
    for (const process of [predecessor, successor]) {
      expect(process.all('handover')).toMatchObject([
        { moved: CONNECTIONS, movedBy: [{ rule: 'attach', connections: CONNECTIONS }], stayed: [] },
      ])
    }
    expect(await whoServesEach(playing.clients)).toEqual(new Map([[again.pid, CONNECTIONS]]))
  })

  it('lets new clients in at the successor from the first transaction on', async () => {
    const line = await Line.start('rolling.mjs', { env: ROLLING })
    const playing = await play(line.port, CONNECTIONS)
    const successor = line.launch()
    await successor.until('serving')
    const newcomer = await Client.connect(line.port)
    expect(await whoServesEach([newcomer])).toEqual(new Map([[successor.pid, 1]]))
    expect(await line.generations[0]?.exited).toEqual({ code: 0, signal: null })
    await playing.stop()
    expect(playing.clients.flatMap(({ seen }) => seen)).toEqual([])
  })

  it('tries a batch again that ran out of its budget, and moves everybody in the end', async () => {
    const line = await Line.start('rolling.mjs', { env: ROLLING })
    const clients = await connectMany(line.port, CONNECTIONS)
    const predecessor = line.current
    const successor = line.launch({ env: { ...ROLLING, TSUNAGI_FAULT: 'successor-before-ack=stop@2' } })
    await predecessor.untilSaid('It will be tried again')
    successor.kill('SIGCONT')
    expect(await predecessor.until('handover')).toMatchObject({ moved: CONNECTIONS, stayed: [] })
    expect(await whoServesEach(clients)).toEqual(new Map([[successor.pid, CONNECTIONS]]))
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
  })

  it('leaves to the predecessor what the successor has no room for, and says so', async () => {
    const line = await Line.start('rolling.mjs', { env: ROLLING })
    const clients = await connectMany(line.port, CONNECTIONS)
    const predecessor = line.current
    // Room for the first transaction, and for no batch after it.
    const successor = line.launch({ command: ['prlimit', `--nofile=${CANARY + BATCH + 40}`, process.execPath] })
    await predecessor.untilSaid(/336 connections stay and drain: the successor refused them: .*\(ERR_TSUNAGI_FD_LIMIT\)/)
    expect(await whoServesEach(clients)).toEqual(
      new Map([
        [predecessor.pid, CONNECTIONS - CANARY],
        [successor.pid, CANARY],
      ]),
    )
    for (const client of clients) client.end()
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
  })

  it('is refused where server-wide state is carried; the predecessor serves on, and an atomic one succeeds', async () => {
    const line = await Line.start('rolling.mjs', { mode: { carries: true } })
    const clients = await Client.connectMany(3, line.port)
    const predecessor = line.current
    const refused = line.launch({ env: ROLLING })
    expect(await refused.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_ROLLING_STATE', serving: true })
    expect((await refused.exited).code).toBe(1)
    expect(await whoServesEach(clients)).toEqual(new Map([[predecessor.pid, 3]]))
    const successor = line.launch({ env: { TSUNAGI_MODE: 'atomic' } })
    await successor.until('serving')
    expect(await whoServesEach(clients)).toEqual(new Map([[successor.pid, 3]]))
  })

  it('refuses a mode that does not exist', async () => {
    const line = await Line.start('rolling.mjs')
    const refused = line.launch({ env: { TSUNAGI_MODE: 'gradual' } })
    expect(await refused.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_OPTION' })
    expect((await refused.exited).code).toBe(1)
    expect(await whoServesEach([await Client.connect(line.port)])).toEqual(new Map([[line.generations[0]?.pid, 1]]))
  })
})

describe('a successor that is killed', () => {
  it.each(['successor-before-receive', 'successor-before-ack', 'successor-after-commit'])(
    'at %s of the first transaction leaves everything to the predecessor',
    async (point) => {
      const line = await Line.start('rolling.mjs', { env: ROLLING })
      const clients = await connectMany(line.port, CONNECTIONS)
      const predecessor = line.current
      await line.launch({ env: { ...ROLLING, TSUNAGI_FAULT: `${point}=kill` } }).exited
      expect(await whoServesEach(clients)).toEqual(new Map([[predecessor.pid, CONNECTIONS]]))
      const successor = line.launch()
      await successor.until('serving')
      expect(await predecessor.exited).toEqual({ code: 0, signal: null })
      expect(await whoServesEach(clients)).toEqual(new Map([[successor.pid, CONNECTIONS]]))
    },
  )

  const each: [string, NodeJS.ProcessEnv, number][] = [
    ['between two transactions takes what it owned with it', { DIE_AFTER: String(CANARY + BATCH) }, CANARY + BATCH],
    ['amid a transaction takes what it has touched with it as well', { DIE_AT: String(CANARY + BATCH + 1) }, CANARY + 2 * BATCH],
  ]

  it.each(each)('%s; the rest is served by the predecessor', async (_, env, lost) => {
    const line = await Line.start('rolling.mjs', { env: ROLLING })
    const clients = await connectMany(line.port, CONNECTIONS)
    const predecessor = line.current
    const successor = line.launch({ env: { ...ROLLING, ...env } })
    expect((await successor.exited).signal).toBe('SIGKILL')
    await predecessor.untilSaid(/connections stay and drain/)

    const outcomes = await Promise.all(clients.map((client) => whoServes(client).catch(() => 'gone')))
    expect(outcomes.filter((outcome) => outcome === 'gone')).toHaveLength(lost)
    expect(outcomes.filter((outcome) => outcome === predecessor.pid)).toHaveLength(CONNECTIONS - lost)
    const report = await predecessor.until('handover')
    expect(report).toMatchObject({ moved: CANARY + BATCH })
    for (const client of clients) client.socket.destroy()
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
  })
})

describe('server-wide state at the handover', () => {
  it('has what a handler that was at work has changed 50 ms later', async () => {
    const { line, clients, predecessor, successor } = await whileAdding(50)
    await successor.until('serving')
    expect(await clients.adder.line()).toBe('added')
    clients.adder.send('count')
    expect(await clients.adder.line()).toBe(`1 at ${successor.pid}`)
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    expect(line.generations).toHaveLength(2)
  })

  it('does not wait for one that takes too long: its connection stays, is served, and the others move', async () => {
    const { clients, predecessor, successor } = await whileAdding(undefined)
    await successor.until('serving')
    expect(await predecessor.until('handover')).toMatchObject({
      moved: 1,
      stayed: [],
      later: [{ reason: 'defer() holds it', connections: 1 }],
    })
    clients.other.send('count')
    expect(await clients.other.line()).toBe(`0 at ${successor.pid}`)
    clients.adder.send('is anybody there?')
    await clients.adder.expect('is anybody there?')
    clients.adder.end()
    await clients.adder.expectEnd()
    expect((await predecessor.exited).code).toBe(0)
  })

  it('is what it was, and everybody is read again, when the handover is given up after the quiet', async () => {
    const { clients, predecessor, successor } = await whileAdding(50, { TSUNAGI_FAULT: 'successor-before-ack=kill' })
    await successor.exited
    expect(await clients.adder.line()).toBe('added')
    for (const client of [clients.adder, clients.other]) {
      client.send('count')
      expect(await client.line()).toBe(`1 at ${predecessor.pid}`)
    }
  })
})

/** Starts a handover while a handler is at work that comes to its end so many milliseconds after the successor is ready, or never. */
async function whileAdding(ms: number | undefined, env: NodeJS.ProcessEnv = {}) {
  const line = await Line.start('quiesce.mjs', { mode: { ms: ms ?? 0 } })
  const predecessor = line.current
  const clients = { adder: await Client.connect(line.port), other: await Client.connect(line.port) }
  clients.adder.send('add')
  await predecessor.until('adding')
  const successor = line.launch({ env })
  await successor.until('booted')
  if (ms !== undefined) predecessor.tell('finish')
  return { line, clients, predecessor, successor }
}

/** Clients that send and get back until they are told to stop; what comes is compared byte by byte. */
async function play(port: number, count: number) {
  const clients = await connectMany(port, count)
  let playing = true
  const games = clients.map(async (client, seed) => {
    for (let offset = 0; playing; offset += 100) {
      const ball = pattern(100, seed, offset)
      client.send(ball)
      await client.expect(ball)
    }
  })
  const all = Promise.all(games)
  all.catch(() => {}) // whoever stops them sees it
  return {
    clients,
    async stop() {
      playing = false
      await all
    },
  }
}

async function connectMany(port: number, count: number): Promise<Client[]> {
  return Promise.all(Array.from({ length: count }, () => Client.connect(port)))
}

async function whoServes(client: Client): Promise<number> {
  client.send('who ')
  return Number(await client.read(8))
}

async function whoServesEach(clients: Client[]): Promise<Map<number, number>> {
  const counts = new Map<number, number>()
  for (const pid of await Promise.all(clients.map(whoServes))) counts.set(pid, (counts.get(pid) ?? 0) + 1)
  return counts
}
