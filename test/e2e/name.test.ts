import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Client } from '../helpers/client.js'
import { fixture, freePort, killChildrenOf, Line, type ServerProcess } from '../helpers/process.js'

const TIMEOUT = 120_000
const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url))

describe('a name', () => {
  it(
    'brings 100 connections from blue to green on another port and back to blue, migrated up and down, none broken',
    async () => {
      const { line, clients } = await blue(100)
      const [bluePort, greenPort] = [line.port, await freePort()]
      const [versionOne, versionTwo] = [
        { version: 1, migrate: true, serverVersion: 1, serverMigrates: true },
        { version: 2, migrate: true, serverVersion: 2, serverMigrates: true },
      ]
      const green = await line.next(at(greenPort, { mode: versionTwo }))
      expect((await green.until('rooms'))['members']).toBe(100)
      await expectAll(clients, green, ['1→2'])
      const late = await Client.connect(greenPort)
      late.send('join late\n')
      await late.expect('joined\n')
      // Whoever still knows blue's port only is let in for a moment, and by green.
      const behind = await Client.connect(bluePort)
      behind.send('who\n')
      await behind.expect(`${green.pid}  [] false true\n`)

      const back = await line.next(at(bluePort, { mode: versionOne }))
      const [report, theirs] = await Promise.all([back.until('resumed'), green.until('handover')])
      expect(report).toMatchObject({ moved: 102, stayed: [], generation: 3 })
      expect(theirs).toMatchObject({ moved: 102, stayed: [], listeners: [`tcp4 127.0.0.1:${greenPort}`] })
      expect(await back.until('rooms')).toMatchObject({ names: ['lobby', 'from 1', 'from 2'], members: 101, kept: true })
      await expectAll(clients, back, ['1→2', '2→1'])
      late.send('who\n')
      await late.expect(`${back.pid} late ["2→1"] true true\n`)
      const fresh = await Client.connect(bluePort)
      fresh.send('who\n')
      await fresh.expect(`${back.pid}  [] false true\n`)
      expect([...clients, late, behind].flatMap(({ seen }) => seen)).toEqual([])
    },
    TIMEOUT,
  )

  it("resets nobody who waits in the backlog of blue when it leaves, and refuses blue's port a little later", async () => {
    const line = await Line.empty('shop.mjs', { host: '127.0.0.1' })
    const old = line.launch(at(line.port))
    await old.until('serving')
    const green = line.launch(at(await freePort(), { env: { TSUNAGI_FAULT: 'successor-after-commit=stop' } }))
    await green.untilStopped()
    // Nobody accepts now: blue has let go of its listener, and green has not come to it.
    const waiting = await Client.connectMany(20, line.port)
    for (const client of waiting) client.send('GET / HTTP/1.1\r\nHost: shop\r\n\r\n')
    green.kill('SIGCONT')
    for (const client of waiting) expect(await answer(client)).toBe(String(green.pid))
    expect((await old.exited).code).toBe(0)
    const late: Client[] = []
    while ((await refused(line.port, late)) === 'connected') await ask(late.at(-1) as Client)
    expect(await refused(line.port)).toBe('ECONNREFUSED')
    for (const client of waiting) expect(await ask(client)).toBe(String(green.pid))
    expect([...waiting, ...late].flatMap(({ seen }) => seen)).toEqual([])
  })

  it('says who is left with blue and why, and blue leaves when they have gone', async () => {
    const { line, clients } = await blue(3)
    const predecessor = line.current
    clients[1]?.send('refuse\n')
    await clients[1]?.expect('as you like\n')
    await line.nextWhileDraining(at(await freePort(), { mode: { version: 1, serverVersion: 1 } }))
    const [stayed] = (await predecessor.until('handover'))['stayed'] as { connections: number; reason: string }[]
    expect(stayed).toMatchObject({
      connections: 1,
      reason: expect.stringMatching(/carry\(socket, "session"\)\.deep\.list\[1\] is a function/),
    })
    clients[1]?.send('who\n')
    await clients[1]?.expect(`${predecessor.pid} member1 [] true true\n`)
    clients[0]?.send('who\n')
    await clients[0]?.expect(`${line.current.pid} member0 [] true true\n`)
    clients[1]?.end()
    await clients[1]?.expectEnd()
    expect((await predecessor.exited).code).toBe(0)
  })

  it('costs nothing where the new version cannot take the state: it ends with the reason, blue serves on', async () => {
    const { line, clients } = await blue(2)
    const predecessor = line.current
    const green = line.launch(at(await freePort(), { mode: { version: 1, serverVersion: 7 } }))
    expect(await green.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_STATE_VERSION', serving: true })
    expect((await green.exited).code).toBe(1)
    await expectAll(clients, predecessor, [])
    line.generations.pop()
    const right = await line.next(at(await freePort(), { mode: { version: 1, serverVersion: 1 } }))
    await expectAll(clients, right, [])
  })

  it('brings everything back to blue where green dies after the commit', async () => {
    const { line, clients } = await blue(5)
    const predecessor = line.current
    const env = { ...at(0).env, TSUNAGI_FAULT: 'successor-after-commit=kill' }
    const green = line.launch({ mode: { version: 1, serverVersion: 1 }, env: { ...env, PORT: String(await freePort()) } })
    expect((await green.exited).signal).toBe('SIGKILL')
    await expectAll(clients, predecessor, [])
    line.generations.pop()
    const next = await line.next(at(await freePort(), { mode: { version: 1, serverVersion: 1 } }))
    await expectAll(clients, next, [])
  })

  it('joins two `tsunagi run --name`, and a green that is not well costs nothing', async () => {
    const line = await Line.empty('shop.mjs', { host: '127.0.0.1' })
    const run = (port: number, mode = {}) => {
      const args = ['run', '--name', 'shop', '--health', '/healthz', fixture('shop.mjs')]
      const started = line.launch({ host: '127.0.0.1', mode, env: { PORT: String(port), TSUNAGI_HEALTH_TIMEOUT: '1' }, args }, CLI)
      // Its server would live on without it.
      onTestFinished(() => killChildrenOf(started.pid))
      return started
    }
    const old = run(line.port)
    await old.until('serving')
    const client = await Client.connect(line.port)
    const first = await ask(client)
    const unwell = run(await freePort(), { unwell: true })
    expect(await unwell.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_HEALTH' })
    expect((await unwell.exited).code).toBe(1)
    expect(await ask(client)).toBe(first)
    const well = run(await freePort())
    await well.until('resumed')
    const second = await ask(client)
    expect(Number(second)).toBeGreaterThan(0)
    expect(second).not.toBe(first)
    expect((await old.exited).code).toBe(0)
    expect(await ask(client)).toBe(second)
    expect(client.seen).toEqual([])
  })

  it('pairs the servers in their order, and only where both have as many', async () => {
    const line = await Line.empty('shop.mjs', { host: '127.0.0.1' })
    const seconds = [await freePort(), await freePort()]
    const old = line.launch(at(line.port, { mode: { second: seconds[0] } }))
    await old.until('serving')
    const [http, raw] = [await Client.connect(line.port), await Client.connect(seconds[0] as number)]
    expect(await ask(http)).toBe(String(old.pid))
    const lone = line.launch(at(await freePort()))
    expect(await lone.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_REFUSED', serving: true })
    expect((await lone.exited).code).toBe(1)
    for (const current of [old, undefined]) {
      if (current) line.generations.pop()
      const { pid } = current ?? (await line.next(at(await freePort(), { mode: { second: seconds[1] } })))
      expect(await ask(http)).toBe(String(pid))
      raw.send('hello\n')
      await raw.expect(`${pid} hello\n`)
    }
  })

  it('stays with a process whose child inherits it and listens elsewhere', async () => {
    const line = await Line.empty('shop.mjs', { host: '127.0.0.1' })
    const old = line.launch(at(line.port, { mode: { fork: await freePort() } }))
    await Promise.all([old.until('serving'), old.until('child serving')])
    const client = await Client.connect(line.port)
    const green = await line.nextWhileDraining(at(await freePort()))
    expect(await green.until('resumed')).toMatchObject({ predecessor: old.pid, moved: 1 })
    expect(await ask(client)).toBe(String(green.pid))
  })

  it('does not join two processes of other names, nor one without', async () => {
    const { line, clients } = await blue(1)
    const predecessor = line.current
    for (const name of ['other', '']) {
      const stranger = line.launch({ env: { TSUNAGI_NAME: name, PORT: String(await freePort()) } })
      await stranger.until('serving')
      expect(stranger.all('resumed')).toEqual([])
      await expectAll(clients, predecessor, [])
    }
  })
})

function at(port: number, { mode, env }: { mode?: Record<string, unknown>; env?: NodeJS.ProcessEnv } = {}) {
  return { ...(mode && { mode }), host: '127.0.0.1', env: { TSUNAGI_NAME: 'shop', PORT: String(port), ...env } }
}

async function blue(count: number): Promise<{ line: Line; clients: Client[] }> {
  const line = await Line.empty('rooms.mjs', { host: '127.0.0.1' })
  await line.launch(at(line.port, { mode: { version: 1, serverVersion: 1 } })).until('serving')
  const clients = await Client.connectMany(count, line.port)
  for (const [i, client] of clients.entries()) {
    client.send(`join member${i}\n`)
    await client.expect('joined\n')
  }
  return { line, clients }
}

async function expectAll(clients: Client[], at: ServerProcess, came: string[]): Promise<void> {
  for (const client of clients) client.send('who\n')
  for (const [i, client] of clients.entries()) await client.expect(`${at.pid} member${i} ${JSON.stringify(came)} true true\n`)
  expect(clients.flatMap(({ seen }) => seen)).toEqual([])
}

/** Who answers on a connection that is kept alive. */
async function ask(client: Client): Promise<string> {
  client.send('GET / HTTP/1.1\r\nHost: shop\r\n\r\n')
  return answer(client)
}

async function answer(client: Client): Promise<string> {
  let line = await client.line()
  while (line !== '\r') line = await client.line()
  return client.line()
}

async function refused(port: number, connected: Client[] = []): Promise<string> {
  return Client.connect(port).then(
    (client) => {
      connected.push(client)
      return 'connected'
    },
    ({ code }: NodeJS.ErrnoException) => String(code),
  )
}
