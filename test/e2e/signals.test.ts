import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, readlinkSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { dirname, join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Client } from '../helpers/client.js'
import { hasEnded, REGISTER, startPlain, TOOK_OVER, untilToldByAnother, whoServes } from '../helpers/plain.js'
import { fixture, Line, type Settings, temporaryDirectory } from '../helpers/process.js'

describe('a reload', () => {
  const ways: [string, (line: Line) => void][] = [
    ['by SIGUSR2', (line) => line.current.kill('SIGUSR2')],
    ['by reload()', (line) => line.current.tell('reload')],
  ]

  it.each(ways)('%s starts the new version, which serves; the old one ends with exit code 0', async (_, reload) => {
    const { line, deploy } = await start()
    const client = await Client.connect(line.port)
    expect(await who(client)).toBe(`${line.current.pid} one`)
    deploy('two')
    reload(line)
    const { pid, release, args } = await untilToldByAnother(line.current, 'serving')
    expect({ release, args }).toEqual({ release: 'two', args: [] })
    expect(await who(client)).toBe(`${pid} two`)
    expect(await hasEnded(line.current)).toEqual({ code: 0, signal: null })
    expect(line.current.all('socket close')).toEqual([])
  })

  it('that is asked for before the process serves begins once it does; a second one is not begun', async () => {
    const line = await Line.start('ready.mjs', { node: REGISTER })
    const predecessor = line.current
    const successor = line.launch({ env: { WAITS: 'promise' } })
    await successor.until('server listening')
    successor.kill('SIGUSR2')
    await successor.untilSaid('a reload was asked for before this process serves: it begins once it does')
    successor.kill('SIGUSR2')
    await successor.untilSaid('A reload waits already until this process serves.')
    expect([...predecessor.all('retiring'), ...successor.all('owned')]).toEqual([])
    successor.tell('be ready')
    await successor.until('owned')
    const { pid } = await untilToldByAnother(successor, 'owned')
    expect(await hasEnded(successor)).toEqual({ code: 0, signal: null })
    expect(pid).not.toBe(predecessor.pid)
  })

  it('resolves with the report', async () => {
    const { line } = await start()
    line.current.tell('reload')
    const { pid } = await untilToldByAnother(line.current, 'serving')
    expect(await line.current.until('reloaded')).toMatchObject({ pid: line.current.pid, successor: pid })
  })

  it('can follow on a reload, five times', async () => {
    const { line, deploy } = await start()
    const client = await Client.connect(line.port)
    let pid = line.current.pid
    for (const release of ['two', 'three', 'four', 'five', 'six']) {
      deploy(release)
      process.kill(pid, 'SIGUSR2')
      pid = (await untilToldByAnother(line.current, 'serving', (told) => told['release'] === release)).pid
      expect(await who(client)).toBe(`${pid} ${release}`)
    }
  })

  const failures: [string, string, RegExp, RegExp][] = [
    ['throws at its start', 'throws', /ended with exit code 1 before it served/, /Error: there is no database\n {4}at /],
    ['exits', 'exits', /ended with exit code 3 before it served/, /^the configuration is wrong\n$/],
    ['hangs', 'hangs', /did not serve within 4000 ms/, /^$/],
  ]

  it.each(failures)(
    'to a version that %s leaves the old one serving; the error has the reason and the output',
    async (_, boot, reason, output) => {
      const { line, deploy } = await start({ mode: { reload: { timeout: 4000 } } })
      const client = await Client.connect(line.port)
      deploy('two', boot)
      line.current.tell('reload')
      const failed = await line.current.until('reload failed')
      expect(failed).toMatchObject({ pid: line.current.pid, code: 'ERR_TSUNAGI_RELOAD', serving: true })
      expect(failed['message']).toMatch(reason)
      expect(failed['output']).toMatch(output)
      expect(await who(client)).toBe(`${line.current.pid} one`)
      expect(childrenOf(line.current.pid)).toEqual([])

      deploy('three')
      line.current.tell('reload')
      expect(await untilToldByAnother(line.current, 'serving')).toMatchObject({ release: 'three' })
      expect(await who(client)).toMatch('three')
    },
  )

  it('during a reload is refused, and the first one goes on', async () => {
    const { line, deploy, gate } = await start()
    deploy('two', 'asks')
    line.current.tell('reload\nreload')
    expect(await line.current.until('reload failed')).toMatchObject({ code: 'ERR_TSUNAGI_BUSY', serving: true })
    const booting = await gate()
    process.kill(line.current.pid, 'SIGUSR2')
    await line.current.untilSaid('under way already')
    booting.write('go')
    expect(await untilToldByAnother(line.current, 'serving')).toMatchObject({ release: 'two' })
    await line.current.until('reloaded')
  })

  it('by SIGUSR2 is left to an application that listens for it', async () => {
    const line = await startPlain('server.cjs', { mode: { usr2: true }, env: { TSUNAGI_MOVE: 'raw' } })
    line.current.kill('SIGUSR2')
    await line.current.until('usr2')
    await line.current.untilSaid('use reload()')
    expect(childrenOf(line.current.pid)).toEqual([])
    expect(await whoServes(line.port)).toBe(line.current.pid)
  })

  it('by SIGUSR2 of a program without a server is what it is without tsunagi: its end', async () => {
    const child = spawn(process.execPath, [...REGISTER, '-e', 'setInterval(() => {}, 1e6); console.log("started")'], { stdio: 'pipe' })
    await once(child.stdout, 'data')
    child.kill('SIGUSR2')
    expect(await once(child, 'exit')).toEqual([null, 'SIGUSR2'])
  })

  it('starts the release that the symbolic link of the working directory leads to by now', async () => {
    const { line, current, deploy } = await startReleases()
    deploy('two')
    line.current.kill('SIGUSR2')
    const { pid, release } = await untilToldByAnother(line.current, 'serving')
    expect(release).toBe('two')
    expect(readlinkSync(`/proc/${pid}/cwd`)).toMatch(/\/two$/)
    deploy('three')
    process.kill(pid, 'SIGUSR2')
    expect(await untilToldByAnother(line.current, 'serving', (told) => told['release'] === 'three')).toMatchObject({ cwd: current })
  })

  it('starts the same command although the process has another title', async () => {
    const { line } = await start({ mode: { title: 'my server' } })
    line.current.kill('SIGUSR2')
    expect(await untilToldByAnother(line.current, 'serving')).toMatchObject({ release: 'one' })
  })

  it.each([
    ['the current', 'current', 'changed'],
    ['the initial', 'fresh', 'initial'],
  ])('gives the new version %s environment where that is asked for', async (_, env, seen) => {
    const { line } = await start({
      env: { COLOUR: 'initial' },
      mode: { reload: { env }, see: 'COLOUR', changes: { COLOUR: 'changed' } },
    })
    line.current.tell('reload')
    expect(await untilToldByAnother(line.current, 'serving')).toMatchObject({ seen })
  })

  it('gives the new version the environment that it is given', async () => {
    const { line } = await start({ mode: { reload: { env: {} }, see: 'COLOUR' }, env: { COLOUR: 'initial' } })
    line.current.tell('reload')
    expect(await line.current.until('reload failed')).toMatchObject({ code: 'ERR_TSUNAGI_RELOAD' }) // it has no PORT, for example
    expect(await whoServes(line.port)).toBeDefined()
  })
})

describe('SIGINT and SIGTERM without a handover', () => {
  const each = (['SIGINT', 'SIGTERM'] as const).flatMap((signal) =>
    [undefined, 0, 5].map((exits) => [signal, exits === undefined ? 'no listener' : `a listener that ends with ${exits}`, exits] as const),
  )

  it.each(each)('%s with %s does what it does without tsunagi', async (signal, _, exits) => {
    const mode = exits === undefined ? {} : { goodbye: signal, exits }
    const outcomes = await Promise.all(
      [REGISTER, []].map(async (node) => {
        const line = await startPlain('server.cjs', { node, mode, env: { TSUNAGI_MOVE: 'all' } })
        const client = await Client.connect(line.port)
        await line.current.until('connection')
        line.current.kill(signal)
        const goodbye = exits === undefined ? '' : await client.line()
        await client.closed()
        const ended = await line.current.exited
        const signals = line.current.all('signal').map(({ pid: _, ...told }) => told)
        return { ended, signals, goodbye, seen: client.seen, stderr: line.current.stderr }
      }),
    )
    expect(outcomes[0]).toEqual(outcomes[1])
    expect(outcomes[0]?.ended).toEqual(exits === undefined ? { code: null, signal } : { code: exits, signal: null })
  })

  it("are the application's again after a handover that has failed", async () => {
    const line = await startPlain('server.cjs', { mode: { goodbye: 'SIGTERM', exits: 5 }, env: { TSUNAGI_MOVE: 'raw' } })
    const client = await Client.connect(line.port)
    await line.launch({ env: { TSUNAGI_FAULT: 'successor-before-ready=kill' } }).exited
    const predecessor = line.generations[0] as Line['current']
    predecessor.kill('SIGTERM')
    expect(await client.line()).toBe('goodbye')
    await client.closed()
    expect(await predecessor.exited).toEqual({ code: 5, signal: null })
  })
})

describe.each(['SIGINT', 'SIGTERM'] as const)('%s while a successor boots', (signal) => {
  it('is held, and not delivered when the handover succeeds', async () => {
    const { line, deploy, gate } = await start({ mode: { listens: signal } })
    const client = await Client.connect(line.port)
    deploy('two', 'asks')
    line.launch()
    const booting = await gate()
    const [predecessor, successor] = line.generations as [Line['current'], Line['current']]
    predecessor.kill(signal)
    expect(await who(client)).toBe(`${predecessor.pid} one`)
    booting.write('go')
    await successor.until('serving')
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    expect(predecessor.all('signal')).toEqual([])
    expect(await who(client)).toBe(`${successor.pid} two`)
  })

  it('is delivered when the handover fails', async () => {
    const { line, deploy, gate } = await start({ mode: { listens: signal } })
    const client = await Client.connect(line.port)
    deploy('two', 'asks')
    line.launch()
    const booting = await gate()
    const predecessor = line.generations[0] as Line['current']
    predecessor.kill(signal)
    expect(await who(client)).toBe(`${predecessor.pid} one`)
    expect(predecessor.all('signal')).toEqual([])
    booting.write('throw')
    expect(await predecessor.until('signal')).toMatchObject({ signal, number: signal === 'SIGINT' ? 2 : 15 })
    expect(await client.line()).toBe('goodbye')
    expect(await predecessor.exited).toEqual({ code: 7, signal: null })
  })

  it('ends a process without a listener when the handover fails', async () => {
    const { line, deploy, gate } = await start()
    const client = await Client.connect(line.port)
    deploy('two', 'asks')
    line.launch()
    const booting = await gate()
    const predecessor = line.generations[0] as Line['current']
    predecessor.kill(signal)
    expect(await who(client)).toBe(`${predecessor.pid} one`)
    booting.write('throw')
    expect(await predecessor.exited).toEqual({ code: null, signal })
  })

  it('given twice is delivered at once: whoever asks does not want to wait', async () => {
    const { line, deploy, gate } = await start({ mode: { listens: signal } })
    const client = await Client.connect(line.port)
    deploy('two', 'asks')
    line.launch()
    await gate()
    const predecessor = line.generations[0] as Line['current']
    predecessor.kill(signal)
    expect(await who(client)).toBe(`${predecessor.pid} one`)
    predecessor.kill(signal)
    await predecessor.until('signal')
    expect(await predecessor.exited).toEqual({ code: 7, signal: null })
  })
})

describe('a signal to a predecessor that drains', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)('%s ends it with 0 and without a goodbye', async (signal) => {
    const line = await startPlain('server.cjs', { mode: { goodbye: signal, exits: 5 } })
    const draining = await Client.connect(line.port)
    const predecessor = line.current
    const successor = line.launch({ env: { TSUNAGI_MOVE: 'raw' } })
    await successor.untilSaid(TOOK_OVER)
    const moved = await Client.connect(line.port)
    await successor.until('connection')
    const last = line.launch()
    await last.untilSaid(TOOK_OVER)
    predecessor.kill(signal)
    await draining.expectEnd()
    draining.end()
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    expect(predecessor.all('signal')).toEqual([])

    expect(await successor.exited).toEqual({ code: 0, signal: null })
    moved.send('who')
    expect(await moved.line()).toBe(String(last.pid))
  })
})

/** An application of which versions can be deployed, and a gate at which one of them waits for a word. */
async function start({ mode = {}, ...settings }: Settings = {}) {
  const folder = temporaryDirectory()
  const release = join(folder, 'release.json')
  const deploy = (name: string, boot = 'serves') => writeFileSync(release, JSON.stringify({ name, boot }))
  deploy('one')
  const gateServer = createServer().listen(join(folder, 'gate'))
  await once(gateServer, 'listening')
  onTestFinished(() => void gateServer.close())
  const line = await Line.start('releases.mjs', { ...settings, node: REGISTER, mode: { ...mode, release, gate: join(folder, 'gate') } })
  return {
    line,
    deploy,
    /** Resolves when a version waits there. */
    gate: async () => {
      const [socket] = (await once(gateServer, 'connection')) as [Socket]
      onTestFinished(() => void socket.destroy())
      return socket
    },
  }
}

/** Releases as deployment tools lay them out: a folder for each, and a link that leads to the present one. */
async function startReleases() {
  const folder = temporaryDirectory()
  const current = join(folder, 'current')
  const program = fixture('releases.mjs')
  const deploy = (name: string) => {
    const release = join(folder, name)
    mkdirSync(join(release, 'node_modules'), { recursive: true })
    symlinkSync(dirname(dirname(dirname(program))), join(release, 'node_modules', 'tsunagi'))
    writeFileSync(join(release, 'release.json'), JSON.stringify({ name, boot: 'serves' }))
    writeFileSync(join(release, 'server.mjs'), `await import(${JSON.stringify(program)})\n`)
    symlinkSync(release, `${current}.new`)
    renameSync(`${current}.new`, current)
  }
  deploy('one')
  const line = await Line.empty('./server.mjs', { node: REGISTER, spawn: { cwd: current }, env: { PWD: current } })
  await line.launch().until('serving')
  return { line, current, deploy }
}

async function who(client: Client): Promise<string> {
  client.send('who')
  return client.line()
}

function childrenOf(pid: number): string[] {
  const file = `/proc/${pid}/task/${pid}/children`
  return existsSync(file) ? readFileSync(file, 'utf8').split(' ').filter(Boolean) : []
}
