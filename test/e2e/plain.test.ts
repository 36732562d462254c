import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { pattern } from '../fixtures/pattern.mjs'
import { Client } from '../helpers/client.js'
import { HANDED_OVER, REGISTER, startPlain, TOOK_OVER } from '../helpers/plain.js'
import { Line, type ServerProcess, type Settings } from '../helpers/process.js'

const ECHO = fileURLToPath(new URL('../../examples/plain/echo.js', import.meta.url))
const FIREHOSE = fileURLToPath(new URL('../../examples/plain/firehose.js', import.meta.url))
/** What examples/plain/firehose.js sends, again and again. */
const LINES = Buffer.from(Array.from({ length: 1000 }, (_, number) => `line ${number} of this endless text\n`).join(''))
const [CLIENTS, STREAMS] = [200, 8]

describe('servers that know nothing of tsunagi, with TSUNAGI_MOVE=all', () => {
  it('echo: 200 clients and 8 bulk streams go on while it is started five times in a row', async () => {
    const line = await start(ECHO, { TSUNAGI_MOVE: 'all' })
    const clients = [...(await connectMany(line.port, CLIENTS)), ...(await connectMany(line.port, STREAMS))]
    const games = run(clients.map((client, at) => () => echo(client, at, at < CLIENTS ? 100 : 200_000)))
    await startFiveTimes(line, CLIENTS + STREAMS)
    expect(Math.min(...(await games.stop()))).toBeGreaterThan(5)
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
  })

  it('firehose: 8 bulk streams go on while it is started five times in a row', async () => {
    const line = await start(FIREHOSE, { TSUNAGI_MOVE: 'all' })
    const clients = await connectMany(line.port, STREAMS)
    const games = run(clients.map((client) => () => drink(client)))
    await startFiveTimes(line, STREAMS)
    expect(Math.min(...(await games.stop()))).toBeGreaterThan(5)
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
  })
})

describe('servers that know nothing of tsunagi, without TSUNAGI_MOVE', () => {
  it('echo: no connection is moved; each is served until the grace period is over, and then ended politely', async () => {
    const line = await start(ECHO, { TSUNAGI_GRACE: '1' })
    const clients = await connectMany(line.port, CLIENTS)
    const streams = await connectMany(line.port, STREAMS)
    const games = run([
      ...clients.map((client, at) => () => echo(client, at, 100)),
      ...streams.map((client, at) => () => echo(client, at, 200_000)),
    ])
    const predecessor = line.current
    const successor = await startAgain(line)
    expect(movedBy(predecessor)).toBe(0)
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    const rounds = await games.ended() // each failed at the end of its connection, and none at a wrong byte
    expect(Math.min(...rounds)).toBeGreaterThan(1)
    expect(new Set(clients.map(({ seen }) => seen[0]))).toEqual(new Set(['end']))
    expect(new Set(streams.map(({ seen }) => seen[0]))).toEqual(new Set(['end']))
    const newcomer = await Client.connect(line.port)
    newcomer.send('as ever')
    await newcomer.expect('as ever')
    expect(successor.child.exitCode).toBeNull()
  })

  it('firehose: no connection is moved; each ends after a whole text', async () => {
    const line = await start(FIREHOSE, { TSUNAGI_GRACE: '1' })
    const streams = await connectMany(line.port, STREAMS)
    const games = run(streams.map((client) => () => drink(client)))
    const predecessor = line.current
    await startAgain(line)
    expect(movedBy(predecessor)).toBe(0)
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    await games.ended()
    expect(new Set(streams.map(({ seen }) => seen[0]))).toEqual(new Set(['end']))
    expect(new Set(streams.map(({ surplus }) => surplus.length))).toEqual(new Set([0]))
  })

  it('one that goes on writing to a connection that was ended for it is not ended by that', async () => {
    const line = await startPlain('broadcast.cjs', { env: { TSUNAGI_GRACE: '0.3' } })
    const client = await Client.connect(line.port)
    expect(await client.line()).toBe('a line')
    const predecessor = line.current
    await line.launch().untilSaid(TOOK_OVER)
    await expect(untilEnd(client)).rejects.toThrow('the connection saw end')
    expect(String(client.surplus)).toBe('')
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    expect(predecessor.stderr).not.toMatch('Error')
  })

  it('echo: a client that ends by itself within the grace period gets all that is its own, and the process leaves at once', async () => {
    const line = await start(ECHO, {})
    const clients = await connectMany(line.port, 20)
    const predecessor = line.current
    await startAgain(line)
    const sent = pattern(300_000)
    await Promise.all(
      clients.map(async (client) => {
        client.send(sent)
        client.end()
        await client.expect(sent)
        await client.expectEnd()
      }),
    )
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    expect(clients.flatMap(({ seen }) => seen).filter((event) => event.startsWith('error'))).toEqual([])
  })
})

async function start(program: string, env: NodeJS.ProcessEnv): Promise<Line> {
  // Their output is for people, and only JSON is read here.
  const settings: Settings = {
    node: [...REGISTER, '--import', 'data:text/javascript,console.log=(l)=>process.stdout.write(JSON.stringify({event:l})+"\\n")'],
    env,
  }
  const line = await Line.empty(program, settings)
  await listens(line.launch())
  return line
}

function listens(process: ServerProcess): Promise<unknown> {
  return process.until(`process ${process.pid} listens`)
}

async function startAgain(line: Line): Promise<ServerProcess> {
  const predecessor = line.current
  const successor = line.launch()
  await successor.untilSaid(TOOK_OVER)
  await predecessor.untilSaid(HANDED_OVER)
  return successor
}

async function startFiveTimes(line: Line, connections: number): Promise<void> {
  for (let i = 0; i < 5; i++) {
    const predecessor = line.current
    await startAgain(line)
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    expect(movedBy(predecessor)).toBe(connections)
  }
}

function movedBy({ stderr }: ServerProcess): number {
  return Number(HANDED_OVER.exec(stderr)?.[1])
}

async function connectMany(port: number, count: number): Promise<Client[]> {
  return Promise.all(Array.from({ length: count }, () => Client.connect(port)))
}

/** One round of a client: what it sends comes back. */
const offsets = new WeakMap<Client, number>()
async function echo(client: Client, seed: number, bytes: number): Promise<void> {
  const offset = offsets.get(client) ?? 0
  offsets.set(client, offset + bytes)
  const sent = pattern(bytes, seed, offset)
  client.send(sent)
  await client.expect(sent)
}

async function untilEnd(client: Client): Promise<void> {
  for (;;) await client.line()
}

async function drink(client: Client): Promise<void> {
  await client.expect(LINES)
}

/** Plays round after round for each until they are stopped, or the connections end; both give the number of rounds of each. */
function run(games: (() => Promise<void>)[]) {
  let running = true
  const rounds = games.map(() => 0)
  const all = Promise.allSettled(
    games.map(async (play, at) => {
      for (; running; rounds[at] = (rounds[at] ?? 0) + 1) await play()
    }),
  )
  return {
    async stop() {
      running = false
      for (const outcome of await all) if (outcome.status === 'rejected') throw outcome.reason
      return rounds
    },
    async ended() {
      for (const outcome of await all) expect(String((outcome as PromiseRejectedResult).reason)).toMatch(/the connection saw end/)
      return rounds
    },
  }
}
