import { describe, expect, it } from 'vitest'
import { pattern } from '../fixtures/pattern.mjs'
import { Client } from '../helpers/client.js'
import { fixture, Line, ServerProcess } from '../helpers/process.js'

/** `node` under a limit of open descriptors, soft and hard. */
const limited = (fds: number, node = process.execPath) => ['prlimit', `--nofile=${fds}:${fds}`, node] as const

describe.each(['atomic', 'rolling'])('%s', (mode) => {
  const env = { TSUNAGI_MODE: mode }

  it('6,000 connections of two processes go on', async () => {
    const line = await Line.start('counted-echo.mjs', { command: limited(16_384), env })
    const crowds = ['left', 'right'].map((name) => crowd(line, name, 3_000))
    const everybody = { answered: 3_000, closed: 0, wrong: 0 }
    for (const one of crowds) expect(await one.until('answered')).toMatchObject(everybody)
    const predecessor = line.current
    await line.next()
    expect(predecessor.all('handover')).toMatchObject([{ moved: 6_000, stayed: [] }])
    for (const one of crowds) {
      one.tell('again')
      expect(await one.until('answered', ({ to }) => to === 'again')).toMatchObject(everybody)
    }
  })

  it('100 MB that 10 clients do not read arrive', async () => {
    const bytes = 10_000_000
    const line = await Line.start('flood.mjs', { mode: { bytes }, env })
    const clients = await Client.connectMany(10, line.port, { idle: true })
    while (line.current.all('pending').length < clients.length)
      await line.current.until('pending', () => line.current.all('pending').length === clients.length)
    const predecessor = line.current
    await line.next()
    expect(predecessor.all('handover')).toMatchObject([{ moved: 10, stayed: [] }])
    expect(predecessor.all('handover')[0]?.['unsentBytes']).toBeGreaterThan(50e6)
    const expected = pattern(bytes)
    for (const client of clients) await client.expect(expected)
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
  })
})

describe('limits of descriptors', () => {
  it('a successor that may open too few is told so, and costs nothing', async () => {
    const line = await Line.start('counted-echo.mjs')
    const clients = await Client.connectMany(100, line.port)
    const predecessor = line.current
    const successor = line.launch({ command: limited(80) })
    expect(await successor.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_FD_LIMIT', phase: 'arm', serving: true })
    expect((await successor.exited).code).toBe(1)
    await serveOn(clients)
    line.launch()
    await line.current.until('serving')
    await predecessor.exited
    await serveOn(clients)
  })

  it('a predecessor that may open no more, and has many writes in flight, refuses in time', async () => {
    const bytes = 6_000_000
    const line = await Line.start('flood.mjs', { mode: { bytes }, command: limited(100) })
    const predecessor = line.current
    const clients = await Client.connectMany(100, line.port, { idle: true })
    await clients.at(-1)?.closed() // turned away, and with it all that came after the first who was
    const accepted = clients.slice(0, predecessor.all('pending').length)
    expect(accepted.length).toBeGreaterThan(40)
    const successor = line.launch({ command: limited(1_000) })
    // On a busy machine a try may run out of its budget before that, which is tried again.
    expect(await predecessor.until('handover-failed', (told) => told.phase === 'commit')).toMatchObject({ phase: 'commit', serving: true })
    await predecessor.untilSaid('RLIMIT_NOFILE')
    expect((await successor.exited).code).toBe(1)
    const expected = pattern(bytes)
    for (const client of accepted) await client.expect(expected)
  })

  it('a predecessor that may open no more hands over', async () => {
    const line = await Line.start('counted-echo.mjs', { command: limited(100) })
    const predecessor = line.current
    const clients = await fill(line.port)
    line.launch({ command: limited(1_000) })
    await line.current.until('serving')
    await predecessor.exited
    await serveOn(clients)
    await serveOn(await Client.connectMany(10, line.port))
  })
})

describe('more descriptors in flight than the kernel allows to this user', () => {
  it('a handover waits for room and succeeds', async () => {
    const { clients, hog, predecessor, successor } = await handOverBesideHog()
    await predecessor.untilSaid(/ETOOMANYREFS.*It will be tried again/)
    hog.kill()
    await successor.until('serving')
    expect(await predecessor.until('handover')).toMatchObject({ moved: clients.length, stayed: [] })
    await serveOn(clients)
  })

  it('a handover that finds none is given up, and the next one finds what that one left', async () => {
    const { line, clients, hog, successor } = await handOverBesideHog()
    expect(await successor.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_ABORTED', serving: true })
    await serveOn(clients)
    const another = line.launch(ORDINARY)
    const error = await another.until('error')
    expect(error).toMatchObject({ code: 'ERR_TSUNAGI_REFUSED', serving: true })
    expect(error['message']).toContain('ETOOMANYREFS')
    await serveOn(clients)
    hog.kill()
    await hog.exited
    line.launch(ORDINARY)
    await line.current.until('serving')
    await serveOn(clients)
  })
})

describe('a peer that is gone', () => {
  it('a successor that dies before it is sent anything costs nothing', async () => {
    const line = await Line.start('counted-echo.mjs', { env: { TSUNAGI_FAULT: 'predecessor-before-send=stop' } })
    const clients = await Client.connectMany(10, line.port)
    const predecessor = line.current
    const successor = line.launch({ env: { TSUNAGI_FAULT: '' } })
    await predecessor.untilStopped()
    successor.kill()
    await successor.exited
    predecessor.kill('SIGCONT')
    expect(await predecessor.until('handover-failed')).toMatchObject({ code: 'ERR_TSUNAGI_ABORTED', phase: 'send', serving: true })
    await predecessor.untilSaid('EPIPE')
    await serveOn(clients)
  })
})

/** A predecessor that is limited as an ordinary user is; from the time of its welcome another process of the user has more than that in flight. */
async function handOverBesideHog() {
  const line = await Line.start('counted-echo.mjs', { command: [...UNPRIVILEGED, ...limited(500)] })
  const predecessor = line.current
  const clients = await Client.connectMany(20, line.port)
  const successor = line.launch({ ...ORDINARY, env: { TSUNAGI_FAULT: 'successor-before-ready=stop' } })
  await successor.untilStopped()
  const hog = new ServerProcess(fixture('hog.py'), process.env, { command: ['python3'] })
  await hog.until('hogging')
  successor.kill('SIGCONT')
  return { line, predecessor, clients, successor, hog }
}

const ORDINARY = { command: [process.execPath] }

/** @note unix(7): the limit does not apply to CAP_SYS_RESOURCE and CAP_SYS_ADMIN. */
const UNPRIVILEGED =
  process.geteuid?.() === 0 ? ['setpriv', '--bounding-set=-sys_resource,-sys_admin', '--inh-caps=-sys_resource,-sys_admin', '--'] : []

async function serveOn(clients: readonly Client[]): Promise<void> {
  for (const client of clients) {
    client.send('hello')
    await client.expect('hello')
  }
}

/** As many connections as the server accepts. */
async function fill(port: number): Promise<Client[]> {
  const clients: Client[] = []
  for (;;) {
    const client = await Client.connect(port)
    client.send('hello')
    try {
      await client.expect('hello')
    } catch {
      return clients // it was turned away
    }
    clients.push(client)
  }
}

function crowd(line: Line, name: string, connections: number): ServerProcess {
  return new ServerProcess(
    fixture('crowd.mjs'),
    { ...process.env, PORT: String(line.port), MODE: JSON.stringify({ name, connections }) },
    { command: limited(16_384) },
  )
}
