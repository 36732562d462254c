import { once } from 'node:events'
import http from 'node:http'
import { connect } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import WebSocket from 'ws'
import { Client } from '../helpers/client.js'
import { namesOfKeepers, pidOfKeeper, untilGone, untilHolding } from '../helpers/keeper.js'
import { withMemoryLimit } from '../helpers/memory-limit.js'
import { missingNodes, NODES } from '../helpers/nodes.js'
import { NumberedTalk } from '../helpers/numbered.js'
import { PackageCopy } from '../helpers/package-copy.js'
import { describePrivileged } from '../helpers/privileged.js'
import { freePort, Line, type ServerProcess, type Settings } from '../helpers/process.js'

/** Longer than any start takes: nobody is ended by it. */
const LONG = { TSUNAGI_HOLD: '120' }
const CRASHED = 'the process crashed in the middle of what this connection was for'

describe('a process that is killed without a word', () => {
  it('costs no quiet client anything, ten times in a row; active ones are exact or closed', { timeout: 600_000 }, async () => {
    const web = await freePort()
    const line = await started({ mode: { lines: true }, env: { HTTP_PORT: String(web) } })
    const quiet = await Client.connectMany(200, line.port)
    const kept = await Promise.all(Array.from({ length: 200 }, () => KeptAlive.connect(web)))
    let active: NumberedTalk[] = []
    const all: NumberedTalk[] = []
    for (let round = 1; round <= 10; round++) {
      while (active.length < 20) {
        const talk = await NumberedTalk.connect(line.port)
        active.push(talk)
        all.push(talk)
      }
      await Promise.all(quiet.map((client) => echo(client, `round ${round}\n`)))
      await Promise.all(kept.map((client) => client.ask(`round ${round}`)))
      await atRest(line, 420)
      line.current.kill()
      await line.current.exited
      for (const client of quiet) client.send('meanwhile\n')
      const report = await line.launch().until('resumed')
      expect(report).toMatchObject({ holder: 'keeper', generation: round + 1 })
      expect(report['moved']).toBeGreaterThanOrEqual(400)
      await Promise.all(quiet.map((client) => client.expect('meanwhile\n')))
      await Promise.all(active.map((talk) => talk.goesOn()))
      active = active.filter(({ isOver }) => !isOver)
    }
    expect(quiet.flatMap(({ seen }) => seen)).toEqual([])
    expect(kept.flatMap(({ seen }) => seen)).toEqual([])
    expect(all.flatMap(({ wrong }) => wrong ?? [])).toEqual([])
    expect(all.length).toBeGreaterThan(20) // some did meet a crash
  })

  it('leaves what clients have sent to the next one, and its greeting is not repeated', async () => {
    const line = await started({ mode: { greeting: 'welcome\n' } })
    const client = await Client.connect(line.port)
    await client.expect('welcome\n')
    await atRest(line, 1)
    line.current.kill()
    client.send('nobody is there')
    client.end()
    expect(await line.launch().until('resumed')).toMatchObject({ moved: 1, stayed: [] })
    await client.expect('nobody is there')
    await client.expectEnd()
  })

  it('takes connections with it that it had not answered, and says so', async () => {
    const line = await started()
    const client = await Client.connect(line.port)
    await atRest(line, 1)
    client.send('silence')
    await atRest(line, 1)
    line.current.kill()
    expect(await line.launch().until('resumed')).toMatchObject({ moved: 0, stayed: [{ reason: CRASHED, connections: 1 }] })
    await client.closed()
    expect(client.seen).toContain('error ECONNRESET')
    expect(line.current.stderr).toMatch(`1 ended: ${CRASHED}`)
  })

  it('takes connections with it that it held, with half a line in its hands, and whose state is carried', async () => {
    const line = await started({ mode: { lines: true } })
    const client = await Client.connect(line.port)
    await echo(client, 'whole\n')
    client.send('half a li')
    await atRest(line, 1)
    line.current.kill()
    expect(await line.launch({ mode: { carries: true } }).until('resumed')).toMatchObject({ moved: 0, stayed: [{ reason: CRASHED }] })
    await client.closed()
    expect(client.surplus.length).toBe(0)

    const another = await Client.connect(line.port)
    await echo(another, 'what it carries dies with it')
    await atRest(line, 1)
    line.current.kill()
    expect(await line.launch().until('resumed')).toMatchObject({ moved: 0, stayed: [{ reason: CRASHED }] })
  })

  it('takes connections with it that were at rest when their server began to carry something', async () => {
    const line = await started()
    const client = await Client.connect(line.port)
    await echo(client, 'at rest')
    await atRest(line, 1)
    line.current.tell('carry')
    await atRest(line, 1)
    line.current.kill()
    expect(await line.launch().until('resumed')).toMatchObject({ moved: 0, stayed: [{ reason: CRASHED }] })
  })

  it.each(['successor-after-find', 'successor-before-receive', 'successor-after-open'])(
    'can be followed by one that is killed at %s',
    async (point) => {
      const line = await started()
      const client = await Client.connect(line.port)
      await echo(client, 'before')
      await atRest(line, 1)
      line.current.kill()
      await line.current.exited
      expect(await line.launch({ env: { ...LONG, TSUNAGI_FAULT: `${point}=kill` } }).exited).toMatchObject({ signal: 'SIGKILL' })
      expect(await line.launch().until('resumed')).toMatchObject({ moved: 1 })
      await echo(client, 'after')
      expect(client.seen).toEqual([])
    },
  )

  it('ends WebSockets with 1012, and responses by a reset', async () => {
    const web = await freePort()
    const line = await started({ env: { HTTP_PORT: String(web) } })
    const ws = new WebSocket(`ws://127.0.0.1:${web}`)
    await once(ws, 'open')
    ws.send('hello')
    await once(ws, 'message')
    const closed = once(ws, 'close')
    const request = http.get({ port: web, path: '/endless' }).on('error', () => {})
    const [response] = (await once(request, 'response')) as [http.IncomingMessage]
    expect(String((await once(response, 'data'))[0])).toBe('begin\n')
    const ended = once(response, 'error')
    await atRest(line, 2)
    line.current.kill()
    expect((await line.launch().until('resumed'))['stayed']).toHaveLength(2)
    expect((await closed)[0]).toBe(1012)
    expect((await ended)[0]).toMatchObject({ code: 'ECONNRESET' })
  })

  it('is one with an error of its own as well', async () => {
    const line = await started()
    const client = await Client.connect(line.port)
    await echo(client, 'before')
    await atRest(line, 1)
    line.current.tell('throw')
    expect(await line.current.exited).toMatchObject({ code: 1 })
    expect(await line.launch().until('resumed')).toMatchObject({ moved: 1 })
    await echo(client, 'after')
  })

  it('is survived again after an ordinary reload', async () => {
    const line = await started()
    const client = await Client.connect(line.port)
    const guard = pidOfKeeper(line.directory)
    await line.next()
    await untilGone(guard)
    await echo(client, 'in the second')
    await atRest(line, 1)
    line.current.kill()
    expect(await line.launch().until('resumed')).toMatchObject({ moved: 1, generation: 3 })
    await echo(client, 'in the third')
    expect(client.seen).toEqual([])
  })

  it.each(NODES.slice(1))('may be one of Node $major', async ({ path }) => {
    expect(missingNodes()).toBe('')
    const web = await freePort()
    const line = await started({ command: [path], env: { HTTP_PORT: String(web) } })
    const client = await Client.connect(line.port)
    const kept = await KeptAlive.connect(web)
    await echo(client, 'before')
    await kept.ask('before')
    await atRest(line, 2)
    line.current.kill()
    expect(await line.launch().until('resumed')).toMatchObject({ moved: 2, stayed: [] })
    await echo(client, 'after')
    await kept.ask('after')
    expect([...client.seen, ...kept.seen]).toEqual([])
    client.send('destroy')
    await client.expectEnd()
  })

  it('is forgiven for the hold time; then its clients hear that nobody comes', async () => {
    const line = await started({ env: { TSUNAGI_HOLD: '0.2' } })
    const client = await Client.connect(line.port)
    await echo(client, 'before')
    await atRest(line, 1)
    const guard = pidOfKeeper(line.directory)
    line.current.kill()
    await client.expectEnd()
    await untilGone(guard)
    expect(namesOfKeepers(line.directory)).toEqual([])
    await line.launch().until('serving')
    await echo(await Client.connect(line.port), 'as if nothing had been')
  })
})

describePrivileged('memory-limit', 'a process that the kernel kills since it uses too much memory', () => {
  it('costs no quiet client anything', async () => {
    const line = await started({ command: withMemoryLimit(300) })
    const clients = await Client.connectMany(50, line.port)
    for (const client of clients) await echo(client, 'before')
    await atRest(line, 50)
    line.current.tell('use up the memory')
    expect(await line.current.exited).toEqual({ code: null, signal: 'SIGKILL' })
    expect(await line.launch({ command: [process.execPath] }).until('resumed')).toMatchObject({ moved: 50 })
    for (const client of clients) await echo(client, 'after')
  })
})

describe('while a keeper has copies', () => {
  it.each(['end', 'destroy', 'reset'])(
    'a connection that the application ends by %s is seen ended at once, though the keeper sleeps',
    async (word) => {
      const line = await started()
      const client = await Client.connect(line.port)
      await atRest(line, 1)
      const guard = pidOfKeeper(line.directory)
      process.kill(guard, 'SIGSTOP')
      try {
        client.send(word)
        if (word === 'reset') await client.closed()
        else await client.expectEnd()
        expect(client.seen[0]).toBe(word === 'reset' ? 'error ECONNRESET' : 'end')
      } finally {
        process.kill(guard, 'SIGCONT')
      }
    },
  )

  it('a listener that the application closes takes no connections any more', async () => {
    const line = await started()
    await atRest(line, 0)
    line.current.tell('stop listening')
    await line.current.until('server close')
    const refused = connect(line.port, '127.0.0.1')
    expect((await once(refused, 'error'))[0]).toMatchObject({ code: 'ECONNREFUSED' })
  })

  it.each(['exit', 'SIGTERM', 'SIGINT'])('a process that ends by %s ends its connections at once, and the keeper with it', async (way) => {
    const line = await started()
    const client = await Client.connect(line.port)
    await atRest(line, 1)
    const guard = pidOfKeeper(line.directory)
    if (way === 'exit') line.current.tell('exit')
    else line.current.kill(way as NodeJS.Signals)
    expect(await line.current.exited).toEqual(way === 'exit' ? { code: 0, signal: null } : { code: null, signal: way })
    await client.expectEnd()
    await untilGone(guard)
    expect(namesOfKeepers(line.directory)).toEqual([])
  })

  it('a process that leaves its connections to the next start leaves them with another keeper', async () => {
    const line = await started({ mode: { onExit: 'hold' } })
    const client = await Client.connect(line.port)
    await atRest(line, 1)
    const guard = pidOfKeeper(line.directory)
    line.current.kill('SIGTERM')
    await line.current.exited
    await untilGone(guard)
    expect(await line.launch().until('resumed')).toMatchObject({ moved: 1, stayed: [] })
    await echo(client, 'after')
    expect(client.seen).toEqual([])
  })

  it('one that is killed is said once, and the server serves on', async () => {
    const line = await started()
    const client = await Client.connect(line.port)
    await atRest(line, 1)
    process.kill(pidOfKeeper(line.directory), 'SIGKILL')
    await line.current.untilSaid('ERR_TSUNAGI_SURVIVE')
    await echo(client, 'still there')
    await echo(await Client.connect(line.port), 'and for new ones')
    expect(line.current.stderr.match(/ERR_TSUNAGI_SURVIVE/g)).toHaveLength(1)
    client.send('destroy')
    await client.expectEnd()
  })
})

it('without the addon a server that asks for it works as ever, and what it does not get is said once, with a code', async () => {
  const copy = new PackageCopy({ addon: false })
  const line = await Line.start(copy.fixture('counted-echo.mjs'), { env: { TSUNAGI_SURVIVE: '1' }, spawn: { cwd: copy.directory } })
  await echo(await Client.connect(line.port), 'hello')
  expect(line.current.stderr.match(/ERR_TSUNAGI_SURVIVE/g)).toHaveLength(1)
})

it('the next version is told by the address in use that the old one is alive, if that does not answer', async () => {
  const line = await started()
  await atRest(line, 0)
  process.kill(line.current.pid, 'SIGSTOP')
  const second = line.launch()
  expect(await second.until('error')).toMatchObject({ code: expect.stringMatching(/ERR_TSUNAGI_LOOKUP|EADDRINUSE/) })
  process.kill(line.generations[0]?.pid as number, 'SIGCONT')
})

async function started(settings: Settings = {}): Promise<Line> {
  const line = await Line.start('survive.mjs', { ...settings, env: { ...LONG, ...settings.env } })
  // The end of a test is a crash to the server's keeper, which would hold for long.
  onTestFinished(() => endKeeperIn(line.directory))
  return line
}

function endKeeperIn(directory: string): void {
  try {
    if (namesOfKeepers(directory).length > 0) process.kill(pidOfKeeper(directory), 'SIGKILL')
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (!['ESRCH', 'ECONNREFUSED', 'ENOENT'].includes(code)) throw error // it has ended before
  }
}

async function echo(client: Client, text: string): Promise<void> {
  client.send(text)
  await client.expect(text)
}

/**
 * Resolves once the keeper has that many connections and everything that has come to the server before was looked at: what a client says now is heard in
 * a later turn of its loop, and answered in one that is later still.
 */
async function atRest(line: Line, connections: number): Promise<void> {
  const listeners = line.settings.env?.['HTTP_PORT'] ? 2 : 1
  await untilHolding(pidOfKeeper(line.directory), connections + listeners)
  await turn(line.current)
  await turn(line.current)
}

async function turn(server: ServerProcess): Promise<void> {
  const before = server.all('turn').length
  server.tell('turn')
  await server.until('turn', () => server.all('turn').length > before)
}

/** An HTTP client that keeps its one connection. */
class KeptAlive {
  readonly seen: string[] = []
  readonly #client: Client

  private constructor(client: Client) {
    this.#client = client
  }

  static async connect(port: number): Promise<KeptAlive> {
    return new KeptAlive(await Client.connect(port))
  }

  async ask(text: string): Promise<void> {
    const client = this.#client
    client.send(`POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${text.length}\r\n\r\n${text}`)
    while ((await client.line()).trim() !== '');
    await client.expect(text)
    this.seen.splice(0, Infinity, ...client.seen)
  }
}
