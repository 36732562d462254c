import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Fleet } from '../helpers/fleet.js'
import {
  childrenOf,
  freePort,
  killChildrenOf,
  ServerProcess,
  type Settings,
  stateOf,
  temporaryDirectory,
  until,
} from '../helpers/process.js'

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const CLI = join(root, 'dist', 'cli.js')
const FLEET = join(root, 'test', 'fixtures', 'plain', 'fleet.mjs')

describe('tsunagi run', () => {
  it('replaces the server at SIGHUP, at SIGUSR2, at tsunagi reload and at SIGUSR2 to the server itself, and no client notices', async () => {
    const { run, environment, port } = await running()
    const fleet = await Fleet.connect({ raw: port, clients: { raw: 20 } })
    run.kill('SIGHUP')
    await run.untilSaid('(generation 2)')
    run.kill('SIGUSR2')
    await run.untilSaid('(generation 3)')
    const asked = await tsunagi(environment, 'reload', String(port))
    expect(asked.out).toMatch(/^process \d+ serves, generation 4: 20 connections moved\n$/)
    const server = await theServer(environment)
    process.kill(server.pid, 'SIGUSR2')
    await run.untilSaid('(generation 5)')
    await fleet.settle()
    expect(fleet.broken).toEqual([])
    const left = await servers(environment)
    expect(left).toMatchObject([{ generation: 5, state: 'serving', moving: [['TSUNAGI_MOVE=all', 20]], staying: [] }])
  })

  it.each([
    ['throws', 'throw new Error("no database")', /no database/],
    ['ends', 'process.exit(3)', /exit code 3/],
    ['is killed', 'process.kill(process.pid, "SIGKILL")', /SIGKILL/],
    ['is no program', 'this is no program', /SyntaxError/],
    ['waits for ever before it listens', 'setInterval(() => {}, 1000); await new Promise(() => {})', /did not serve within 10000 ms/],
  ])('goes on serving where the new version %s, and says why', async (_, start, why) => {
    // The good version at the end has as long as the bad one: only the one that says nothing is waited for.
    const release = await released({ options: ['--timeout', '10'] })
    const fleet = await Fleet.connect({ raw: release.port, clients: { raw: 10 } })
    release.write(`${start}\n${release.program}`)
    release.run.kill('SIGHUP')
    await release.run.untilSaid('did not take over')
    expect((await tsunagi(release.environment, 'reload', '--timeout', '10')).err).toMatch(why)
    await fleet.settle()
    expect(fleet.broken).toEqual([])
    release.write(release.program)
    release.run.kill('SIGHUP')
    await release.run.untilSaid('(generation 2)')
    await fleet.settle()
    expect(fleet.broken).toEqual([])
  })

  it('goes on serving where the new version hangs or dies in the middle of the handover', async () => {
    for (const point of ['successor-before-ready', 'successor-before-receive', 'successor-after-ack']) {
      const release = await released()
      const fleet = await Fleet.connect({ raw: release.port, clients: { raw: 10 } })
      // The library reads it when it is loaded, so the broken version starts itself over.
      release.write(
        `import { spawnSync } from 'node:child_process'
         if (!process.env.TSUNAGI_FAULT) {
           const { status } = spawnSync(process.execPath, [...process.execArgv, ...process.argv.slice(1)], { env: { ...process.env, TSUNAGI_FAULT: '${point}=kill' }, stdio: 'inherit' })
           process.exit(status ?? 1)
         }
         ${importing(FLEET)}`,
      )
      release.run.kill('SIGHUP')
      await release.run.untilSaid('did not take over')
      await fleet.settle()
      expect({ point, broken: fleet.broken }).toEqual({ point, broken: [] })
    }
  })

  it('asks a new version whether it is well through its own server, and goes on with the old one while it is not', async () => {
    const program = (status: number) => `import { createServer } from 'node:http'
      const server = createServer((request, response) => {
        if (request.url === '/healthz') response.statusCode = ${status}
        response.end(String(process.pid))
      })
      server.on('connection', (socket) => console.log(JSON.stringify({ event: 'connection', from: socket.remoteAddress ?? 'within' })))
      server.listen(Number(process.env.PORT), '127.0.0.1', () => console.log(JSON.stringify({ event: 'up' })))`
    const release = await released({
      program: program(200),
      options: ['--health', '/healthz'],
      environment: { TSUNAGI_HEALTH_TIMEOUT: '1' },
    })
    await release.run.until('up')
    const pid = async () => (await fetch(`http://127.0.0.1:${release.port}/`, { headers: { connection: 'close' } })).text()
    const first = await pid()
    release.write(program(503))
    const refused = await tsunagi(release.environment, 'reload')
    expect(refused).toMatchObject({ code: 1 })
    expect(refused.err).toMatch(/The new version is not well: GET \/healthz was answered with 503, for 1 s/)
    expect(await pid()).toBe(first)
    release.write(program(204))
    expect(await tsunagi(release.environment, 'reload')).toMatchObject({ code: 0 })
    expect(await pid()).not.toBe(first)
    expect(release.run.all('connection').some(({ from }) => from === 'within')).toBe(true)
  })

  it('reloads when a file changes, and after a crash waits for the next change', async () => {
    const release = await released({ options: ['--watch'] })
    const fleet = await Fleet.connect({ raw: release.port, clients: { raw: 5 } })
    release.write(`// changed\n${release.program}`)
    await release.run.untilSaid('(generation 2)')
    await fleet.settle()
    expect(fleet.broken).toEqual([])
    const server = await theServer(release.environment)
    process.kill(server.pid, 'SIGKILL')
    await release.run.untilSaid('started again at the next change')
    release.write(release.program)
    await until(async () => (await servers(release.environment)).length === 1)
  })

  it('ends as the program ends', async () => {
    const codes = ['process.exit(0)', 'process.exit(7)', 'process.kill(process.pid, "SIGTERM")']
    const endings = await Promise.all(
      codes.map(async (code) => {
        const directory = temporaryDirectory()
        writeFileSync(join(directory, 'server.mjs'), code)
        return new ServerProcess(CLI, { ...process.env, TSUNAGI_DIR: directory }, { args: ['run', join(directory, 'server.mjs')] }).exited
      }),
    )
    expect(endings).toEqual([
      { code: 0, signal: null },
      { code: 7, signal: null },
      { code: null, signal: 'SIGTERM' },
    ])
  })

  it('passes signals on, once, and waits for the server to leave in its own way', async () => {
    const release = await released({
      before:
        'process.on("SIGTERM", () => { console.log(JSON.stringify({ event: "asked to leave" })); setTimeout(() => process.exit(5), 300) })',
    })
    release.run.kill('SIGTERM')
    expect(await release.run.exited).toEqual({ code: 5, signal: null })
    expect(release.run.all('asked to leave')).toHaveLength(1)
  })

  it('starts a server that crashes again where --restart asks for it', async () => {
    const { run, environment } = await running({ options: ['--restart'] })
    const first = await theServer(environment)
    process.kill(first.pid, 'SIGKILL')
    await run.untilSaid('it is started again in 0.1 s')
    await until(async () => (await servers(environment)).some(({ pid }) => pid !== first.pid))
    run.kill('SIGTERM')
    expect(await run.exited).toEqual({ code: null, signal: 'SIGTERM' })
  })

  it('hands over to a server under another `tsunagi run`, and leaves with it', async () => {
    const first = await running()
    const fleet = await Fleet.connect({ raw: first.port, clients: { raw: 10 } })
    const second = launch(first.environment, { args: ['run', FLEET] })
    await second.untilSaid('took 10 connections over')
    expect(await first.run.exited).toEqual({ code: 0, signal: null })
    await fleet.settle()
    expect(fleet.broken).toEqual([])
  })

  it('runs a program without a listener, whose next version replaces it', async () => {
    const release = await released({
      program: 'setInterval(() => {}, 1000); console.log(JSON.stringify({ event: "up", pid: process.pid }))',
    })
    const { pid } = await release.run.until('up')
    release.run.kill('SIGHUP')
    await release.run.until('up', (told) => told.pid !== pid)
    await until(async () => stateOf(pid as number) === undefined)
  })
})

describe('tsunagi run as process 1', () => {
  it('reloads with overlap, reaps orphans, stops at SIGTERM, and leaves no zombie', async () => {
    const release = await released({
      command: ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child', process.execPath],
      before: `import { spawn } from 'node:child_process'
        spawn('sh', ['-c', 'sleep 0.2 & exit 0']).on('exit', () => console.log(JSON.stringify({ event: 'orphaned' })))`,
    })
    const fleet = await Fleet.connect({ raw: release.port, clients: { raw: 20 } })
    await release.run.until('orphaned')
    const [supervisor] = childrenOf(release.run.pid)
    for (let generation = 2; generation <= 4; generation++) {
      process.kill(supervisor as number, 'SIGHUP')
      await release.run.untilSaid(`(generation ${generation})`)
      await fleet.settle()
    }
    expect(fleet.broken).toEqual([])
    // The servers that have left and the orphans they have left behind.
    await until(async () => childrenOf(supervisor as number).length === 1)
    process.kill(supervisor as number, 'SIGTERM')
    expect((await release.run.exited).code).toBe(128 + 15)
  })
})

interface Running {
  options?: string[]
  command?: readonly string[]
  environment?: NodeJS.ProcessEnv
}

async function running({ options = [], command, environment: more = {} }: Running = {}, script = FLEET) {
  const directory = temporaryDirectory()
  const port = await freePort()
  const environment = { ...process.env, TSUNAGI_DIR: directory, TSUNAGI_MOVE: 'all', PORT: String(port), ...more }
  const settings: Settings = { args: ['run', ...options, script], spawn: { cwd: dirname(script) }, ...(command ? { command } : {}) }
  const run = launch(environment, settings)
  if (script === FLEET) await run.until('raw listening')
  return { run, environment, port }
}

/** Its servers live on without it: they are ended first. */
function launch(environment: NodeJS.ProcessEnv, settings: Settings): ServerProcess {
  const run = new ServerProcess(CLI, environment, settings)
  onTestFinished(() => killChildrenOf(run.pid))
  return run
}

/** A server whose program can be written over. */
async function released({ before = '', program = importing(FLEET), ...settings }: Running & { before?: string; program?: string } = {}) {
  const folder = join(temporaryDirectory(), 'app')
  mkdirSync(folder)
  const script = join(folder, 'server.mjs')
  const write = (text: string) => writeFileSync(script, text)
  write(`${before}\n${program}`)
  const started = await running(settings, script)
  if (program === importing(FLEET)) await started.run.until('raw listening')
  return { ...started, program, write }
}

function importing(path: string): string {
  return `await import(${JSON.stringify(path)})` // where it stands, not before everything else
}

async function servers(environment: NodeJS.ProcessEnv): Promise<{ pid: number; generation: number }[]> {
  const { out } = await tsunagi(environment, 'status', '--json')
  const lines = out.split('\n').filter(Boolean)
  return lines.map((line) => JSON.parse(line))
}

async function theServer(environment: NodeJS.ProcessEnv): Promise<{ pid: number }> {
  const [server] = await servers(environment)
  if (server === undefined) throw new Error('no server answers')
  return server
}

async function tsunagi(env: NodeJS.ProcessEnv, ...args: string[]): Promise<{ out: string; err: string; code: number }> {
  const child = spawn(process.execPath, [CLI, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk) => {
    out += chunk
  })
  child.stderr.on('data', (chunk) => {
    err += chunk
  })
  const [code] = await once(child, 'close')
  return { out, err, code }
}
