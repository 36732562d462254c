import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { Agent, get, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Client } from '../helpers/client.js'
import { nextPlain, REGISTER, startPlain, TOOK_OVER, whoServes } from '../helpers/plain.js'
import { fixture, freePort, Line, temporaryDirectory } from '../helpers/process.js'

const OTHER = fixture('plain/preload.cjs')
const RAW = { TSUNAGI_MOVE: 'raw' }

describe('a program that has never heard of tsunagi', () => {
  const ways: [string, string, string[], NodeJS.ProcessEnv][] = [
    ['a CommonJS program by --import', 'server.cjs', ['--import', 'tsunagi/register'], {}],
    ['a CommonJS program by -r', 'server.cjs', ['-r', 'tsunagi/register'], {}],
    ['a CommonJS program by NODE_OPTIONS', 'server.cjs', [], { NODE_OPTIONS: '--import tsunagi/register' }],
    ['an ES module by --import', 'server.mjs', ['--import', 'tsunagi/register'], {}],
    ['an ES module by -r', 'server.mjs', ['-r', 'tsunagi/register'], {}],
    ['an ES module by NODE_OPTIONS', 'server.mjs', [], { NODE_OPTIONS: '-r tsunagi/register' }],
    [
      'by --import and -r and NODE_OPTIONS at once',
      'server.mjs',
      ['-r', 'tsunagi/register', ...REGISTER],
      { NODE_OPTIONS: '-r tsunagi/register' },
    ],
    ['before another preload', 'server.cjs', ['-r', 'tsunagi/register', '-r', OTHER], {}],
    ['after another preload', 'server.cjs', ['-r', OTHER, '-r', 'tsunagi/register'], {}],
    ['by --import after another preload by -r', 'server.mjs', ['-r', OTHER, ...REGISTER], {}],
  ]

  it.each(ways)('keeps its clients when it is started again: %s', async (_, program, node, env) => {
    const line = await startPlain(program, { node, env: { ...RAW, ...env } })
    const client = await Client.connect(line.port)
    client.send('one')
    await client.expect('one')
    for (let generation = 2; generation <= 3; generation++) {
      const successor = await nextPlain(line)
      client.send('who')
      expect(await client.line()).toBe(String(successor.pid))
      expect(await whoServes(line.port)).toBe(successor.pid)
      // One listener, one file: what warms a successor up is no server of the application.
      expect(readdirSync(line.directory)).toHaveLength(1)
    }
    expect(client.seen).toEqual([])
    expect(line.generations[0]?.all('socket close')).toEqual([])
  })

  it('takes part once when register is loaded and it attaches its server itself', async () => {
    const line = await Line.start('echo.mjs', { node: REGISTER })
    const client = await Client.connect(line.port)
    const [predecessor, successor] = [line.current, await line.next()]
    client.send('still here')
    await client.expect('still here')
    expect(predecessor.all('handover')).toMatchObject([{ moved: 1, movedBy: [{ rule: 'attach', connections: 1 }] }])
    expect(successor.all('resumed')).toHaveLength(1)
  })

  it('listens and serves as ever where it runs as node -e, and takes nothing over: it is nobody’s next version', async () => {
    const port = await freePort()
    const program = `require('node:net').createServer((s) => s.end('hello\\n')).listen(${port}, '127.0.0.1', () => console.log('listening'))`
    const first = run(['-e', program])
    await once(first.child.stdout, 'data')
    expect(await greeting(port)).toBe('hello\n')
    const again = run(['-e', program], first.directory)
    await said(again.child.stderr, /EADDRINUSE/)
    expect(await again.ended).toEqual([1, null])
    expect(await greeting(port)).toBe('hello\n')
  })

  it('listens and serves as ever in a REPL', async () => {
    const port = await freePort()
    const { child, ended } = run(['-i'])
    child.stdin.write(
      `require('node:net').createServer((s) => s.end('hello\\n')).listen(${port}, '127.0.0.1', () => console.log('it ' + 'listens'))\n`,
    )
    await said(child.stdout, /it listens/)
    expect(await greeting(port)).toBe('hello\n')
    child.stdin.write('.exit\n')
    expect(await ended).toEqual([0, null])
  })

  it('that starts no server ends as ever', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [...REGISTER, '-p', '1 + 1'], { encoding: 'utf8' })
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '2\n', stderr: '' })
  })

  it('finds nothing of tsunagi among its own environment, its listeners and the names it can see', () => {
    const see = `JSON.stringify([Object.keys(process.env).filter((n) => n.startsWith('TSUNAGI')), Object.keys(globalThis), process.eventNames()])`
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TSUNAGI')))
    const [plain, registered] = [[], REGISTER].map((node) => spawnSync(process.execPath, [...node, '-p', see], { encoding: 'utf8', env }))
    const [plainSees, registeredSees] = [plain, registered].map((output) => JSON.parse(output?.stdout ?? ''))
    expect(registeredSees.slice(0, 2)).toEqual(plainSees.slice(0, 2))
    expect(registeredSees[2].filter((name: string) => !plainSees[2].includes(name))).toEqual(['exit', 'beforeExit'])
  })
})

describe('relatives of a server never take over from it', () => {
  it.each(['fork', 'worker', 'exec'])('%s: one that wants the same port gets a plain EADDRINUSE', async (relative) => {
    const line = await startPlain('family.cjs', { mode: { relative }, env: { TSUNAGI_MOVE: 'all' } })
    const client = await Client.connect(line.port)
    expect(await line.current.until('relative')).toMatchObject({ code: 'EADDRINUSE' })
    client.send('as ever')
    await client.expect('as ever')
    expect(line.current.stderr).toBe('')
  })

  it('a worker thread serves on a port of its own, and the main thread hands over as ever', async () => {
    const line = await startPlain('family.cjs', { mode: { relative: 'worker', port: await freePort() }, env: RAW })
    expect(await line.current.until('relative')).toMatchObject({ listens: true })
    const client = await Client.connect(line.port)
    await nextPlain(line)
    client.send('as ever')
    await client.expect('as ever')
  })

  it('cluster workers share a port as ever, and a second start of the program gets EADDRINUSE as ever', async () => {
    const line = await Line.empty(fixture('plain/cluster.cjs'), { node: REGISTER, env: { TSUNAGI_MOVE: 'all' } })
    const primary = line.launch()
    const workers = [
      await primary.until('worker'),
      await primary.until('worker', ({ worker }) => worker !== primary.all('worker')[0]?.['worker']),
    ]
    const served = new Set<string>()
    for (let i = 0; i < 4; i++) served.add((await greeting(line.port)).trim())
    expect([...served].sort()).toEqual(workers.map(({ worker }) => String(worker)).sort())

    const second = line.launch()
    expect(await second.until('error')).toMatchObject({ code: 'EADDRINUSE' })
    expect(served).toContain((await greeting(line.port)).trim())
    expect(primary.all('worker exit')).toEqual([])
  })
})

describe('an http.Server under register', () => {
  it('hands its listener and idle connections over; a response in flight is finished by the process that began it, and its connection follows', async () => {
    const line = await startPlain('http.cjs')
    const predecessor = line.current
    const agent = new Agent({ keepAlive: true })
    onTestFinished(() => agent.destroy())
    const idle = await Client.connect(line.port)
    idle.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    await predecessor.until('request', ({ url }) => url === '/')
    const slow = request(line.port, '/slow', agent)
    await predecessor.until('request', ({ url }) => url === '/slow')

    const successor = line.launch()
    await successor.untilSaid(TOOK_OVER)
    idle.send('GET /again HTTP/1.1\r\nHost: a\r\n\r\n')
    await successor.until('request', ({ url }) => url === '/again')
    expect((await request(line.port, '/', agent)).body).toBe(String(successor.pid))
    predecessor.tell('answer')
    const { response, body } = await slow
    expect(body).toBe(`slowly ${predecessor.pid}`)
    expect(response.headers.connection).toBe('keep-alive')
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    expect(predecessor.stderr).toMatch('handed 1 connection over')
    expect(idle.seen).toEqual([])
  })
})

describe('a listener on a unix path', () => {
  it('stays at its path over three generations: no new client is refused, and the last process removes it', async () => {
    const path = join(temporaryDirectory(), 'app.sock')
    const line = await startPlain('server.cjs', { mode: { path }, env: RAW })
    const knocking = knock(path)
    await nextPlain(line)
    const last = await nextPlain(line)
    const { failures, pids } = await knocking.stop()
    expect(failures).toEqual([])
    expect([...pids]).toEqual(line.generations.map(({ pid }) => pid))
    expect(existsSync(path)).toBe(true)
    last.tell('close')
    await last.exited
    expect(existsSync(path)).toBe(false)
  })

  it('stays at its path when the successor fails, and is removed by the process that has served on', async () => {
    const path = join(temporaryDirectory(), 'app.sock')
    const line = await startPlain('server.cjs', { mode: { path }, env: RAW })
    const [first, failing] = [line.current, line.launch({ env: { ...RAW, TSUNAGI_FAULT: 'successor-after-commit=kill' } })]
    await failing.exited
    await first.untilSaid('goes on serving')
    expect(await whoServes(path)).toBe(first.pid)
    first.tell('close')
    await first.exited
    expect(existsSync(path)).toBe(false)
  })

  it('moves with an abstract name', async () => {
    const path = `@tsunagi-test-${process.pid}-${Date.now()}`
    const line = await startPlain('server.cjs', { mode: { path }, env: RAW })
    expect(await whoServes(path)).toBe(line.current.pid)
    const successor = await nextPlain(line)
    expect(await whoServes(path)).toBe(successor.pid)
  })
})

/** A program given on the command line. */
function run(node: string[], directory = temporaryDirectory()) {
  const child = spawn(process.execPath, [...REGISTER, ...node], { env: { ...process.env, TSUNAGI_DIR: directory }, stdio: 'pipe' })
  const ended = once(child, 'exit')
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return { child, ended, directory }
}

async function said(stream: NodeJS.ReadableStream, what: RegExp): Promise<void> {
  let all = ''
  for await (const chunk of stream) {
    all += chunk
    if (what.test(all)) return
  }
  throw new Error(`it said ${all} and not ${what}`)
}

async function greeting(port: number): Promise<string> {
  return text(connect(port, '127.0.0.1'))
}

async function request(port: number, path: string, agent: Agent): Promise<{ response: IncomingMessage; body: string }> {
  const [response] = (await once(get({ host: '127.0.0.1', port, path, agent }), 'response')) as [IncomingMessage]
  return { response, body: await text(response) }
}

/** New clients all the time, one after the other. */
function knock(path: string): { stop(): Promise<{ failures: string[]; pids: Set<number> }> } {
  const failures: string[] = []
  const pids = new Set<number>()
  let stopped = false
  const ended = (async () => {
    while (!stopped)
      await whoServes(path).then(
        (pid) => pids.add(pid),
        (error) => failures.push(String(error)),
      )
    await whoServes(path).then((pid) => pids.add(pid))
  })()
  return {
    async stop() {
      stopped = true
      await ended
      return { failures, pids }
    },
  }
}
