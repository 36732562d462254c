import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Client } from '../helpers/client.js'
import { missingNodes, NODES } from '../helpers/nodes.js'
import { PackageCopy } from '../helpers/package-copy.js'
import { Line, type ServerProcess, type Settings, stateOf } from '../helpers/process.js'

const NO_PREBUILDS = 'where the package has no addon for this system'

interface Where {
  readonly name: string
  readonly addon: boolean
  readonly settings: (copy: PackageCopy) => Settings
  readonly said: RegExp
}

const WHERES: readonly Where[] = [
  { name: NO_PREBUILDS, addon: false, settings: () => ({}), said: /No native build was found/ },
  // What node-gyp-build goes by, since this is no Alpine.
  { name: 'in Alpine', addon: true, settings: () => ({ env: { LIBC: 'musl' } }), said: /libc=musl/ },
  {
    name: 'on macOS',
    addon: true,
    settings(copy) {
      const preload = join(copy.directory, 'macos.cjs')
      writeFileSync(preload, "Object.defineProperty(process, 'platform', { value: 'darwin' })")
      return { node: ['--require', preload] }
    },
    said: /on Linux only, and this is darwin/,
  },
]

describe.each(WHERES)('$name', ({ addon, settings, said }) => {
  const start = (plan: Plan = {}, more: Settings = {}) => startIn(new PackageCopy({ addon }), settings, plan, more)

  it('a server works as ever, and that is said once', async () => {
    const { line } = await start()
    const client = await Client.connect(line.port)
    client.send('hello')
    await client.expect('hello')
    expect(line.current.stderr).toMatch(said)
    expect(line.current.stderr.match(/tsunagi: /g)).toHaveLength(1)
  })

  it('reload() gives the listener to the new version; connections drain', async () => {
    const { line, first } = await start()
    const client = await Client.connect(line.port)
    client.send('before')
    await client.expect('before')
    line.current.tell('reload')
    const second = await servesNext(line.current, first)
    expect(await line.current.until('reloaded')).toMatchObject({ successor: second, moved: 0, stayed: [{ connections: 1 }] })
    await line.current.until('retiring', ({ pid }) => pid === first)

    const newcomer = await Client.connect(line.port)
    newcomer.send('after')
    await newcomer.expect('after')
    await line.current.until('connection', ({ pid, resumed }) => pid === second && resumed === false)
    client.send('still here')
    await client.expect('still here')
    client.end()
    await client.expectEnd()
    await line.current.until('drained', ({ pid }) => pid === first)
    expect((await hasLeft(line.current)).code).toBe(0)
    expect(newcomer.seen).toEqual([])
  })

  it('a new version that fails costs nothing', async () => {
    const { line, plan } = await start()
    plan({ broken: true })
    line.current.tell('reload')
    expect(await line.current.until('reload failed')).toMatchObject({
      code: 'ERR_TSUNAGI_RELOAD',
      message: expect.stringContaining('exit code 3'),
      output: expect.stringContaining('has a flaw'),
      serving: true,
    })
    const client = await Client.connect(line.port)
    client.send('hello')
    await client.expect('hello')
  })
})

describe(NO_PREBUILDS, () => {
  const start = (plan: Plan = {}, more: Settings = {}) => startIn(new PackageCopy({ addon: false }), () => ({}), plan, more)

  it('no client is turned away by 3 reloads', async () => {
    const { line, first } = await start()
    let serving = first
    for (let reload = 0; reload < 3; reload++) {
      process.kill(serving, 'SIGUSR2')
      const clients = Array.from({ length: 50 }, async (_, i) => {
        const client = await Client.connect(line.port)
        client.send(`client ${i}`)
        await client.expect(`client ${i}`)
        client.end()
        await client.expectEnd()
      })
      await Promise.all(clients)
      serving = await servesNext(line.current, serving)
    }
  })

  it('a listener that the new version does not want is closed', async () => {
    const { line, first, plan } = await start({ hosts: ['127.0.0.1', '127.0.0.2'] })
    plan({ hosts: ['127.0.0.1'] })
    process.kill(first, 'SIGUSR2')
    await servesNext(line.current, first)
    await line.current.until('retiring')
    const socket = connect(line.port, '127.0.0.2')
    expect((await once(socket, 'error'))[0]).toMatchObject({ code: 'ECONNREFUSED' })
  })

  it('a listener on a path is not given away, and goes on', async () => {
    const path = join(new PackageCopy({ addon: false }).directory, 'server.sock')
    const { line } = await start({ hosts: [path] })
    line.current.tell('reload')
    expect(await line.current.until('reload failed')).toMatchObject({ message: expect.stringContaining(path) })
    const socket = connect(path)
    await once(socket, 'connect')
    socket.destroy()
  })

  it('a version that is started by hand finds the address taken, as ever', async () => {
    const { line } = await start()
    const second = line.launch()
    await second.untilSaid('EADDRINUSE')
  })

  it.skipIf(missingNodes() !== '').each(NODES.slice(1))('Node $major reloads, too', async ({ path }) => {
    const { line, first } = await start({}, { command: [path] })
    process.kill(first, 'SIGUSR2')
    await servesNext(line.current, first)
    expect((await hasLeft(line.current)).code).toBe(0)
  })
})

interface Plan {
  broken?: boolean
  hosts?: string[]
}

/** A server in an application of its own, with `tsunagi/register` before it, and how to say what its next version does. */
async function startIn(copy: PackageCopy, settings: Where['settings'], first: Plan, more: Settings) {
  const file = join(copy.directory, 'plan.json')
  const plan = (next: Plan) => writeFileSync(file, JSON.stringify({ hosts: ['127.0.0.1'], ...next }))
  plan(first)
  const { env, node = [], ...rest } = settings(copy)
  const line = await Line.start(copy.fixture('without-addon.mjs'), {
    ...rest,
    ...more,
    node: [...node, '--import', 'tsunagi/register'],
    env: { ...env, PLAN: file },
    spawn: { cwd: copy.directory },
  })
  return { line, first: line.current.pid, plan }
}

/** The process that serves after this one. It writes to the same pipes, and is ended with the test. */
async function servesNext(server: ServerProcess, pid: number): Promise<number> {
  const before = server.all('serving').findIndex((told) => told['pid'] === pid)
  const next = (await server.until('serving', (told) => server.all('serving').indexOf(told) > before))['pid'] as number
  onTestFinished(() => {
    if (stateOf(next)) process.kill(next, 'SIGKILL')
  })
  return next
}

async function hasLeft({ child }: ServerProcess): Promise<{ code: number | null }> {
  if (child.exitCode === null) await once(child, 'exit')
  return { code: child.exitCode }
}
