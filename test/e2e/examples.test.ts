import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Duplex, Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const hasNc = spawnSync('nc', ['-h']).error === undefined

let scratch: string
let environment: NodeJS.ProcessEnv
let ports: { chat: number; bulk: number; status: number }
const started: ChildProcess[] = []

beforeEach(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'tsunagi-examples-'))
  const [chat, bulk, status] = (await freePorts(3)) as [number, number, number]
  ports = { chat, bulk, status }
  environment = {
    ...process.env,
    CHAT_PORT: String(chat),
    BULK_PORT: String(bulk),
    STATUS_PORT: String(status),
    TSUNAGI_DIR: join(scratch, 'control'),
  }
})

afterEach(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL')
  rmSync(scratch, { recursive: true, force: true })
})

describe('the chat', () => {
  it('goes on over three restarts, with dist and node_modules gone before each of them', async () => {
    const clone = copyClone()
    let server = await start(clone, 1)
    const alice = await join_('alice')
    const bob = await join_('bob', 'net')
    await alice.hears('* bob is here')
    const greetings = { alice: alice.heard.length, bob: bob.heard.length }

    let said = ''
    for (let generation = 2; generation <= 4; generation++) {
      // Both in one write: once the whole line is through, the server has the half one as well.
      alice.says(`whole line ${generation}\nhalf a line before ${generation}, `, '')
      await bob.hears(`alice: whole line ${generation}\n`)
      removeBuild(clone)
      const next = copyClone()
      const successor = await start(next, generation)
      expect(await server.exited).toBe(0)
      server = successor
      alice.says('half a line after it')
      bob.says(`generation ${generation}`)
      await bob.hears(`alice: half a line before ${generation}, half a line after it\n`)
      await alice.hears(`bob: generation ${generation}\n`)
      said += `bob: generation ${generation}\n`
    }
    // Nothing else was heard, above all no second greeting.
    expect(alice.heard.slice(greetings.alice)).toBe(said)
    expect(bob.heard.slice(greetings.bob)).not.toMatch(/Welcome|\*/)
    expect(await status()).toMatchObject({ generation: 4, pid: server.child.pid, connections: { chat: 2 }, lastHandover: { moved: 2 } })
  })

  it('keeps rooms apart, before and after a restart', async () => {
    const clone = copyClone()
    const first = await start(clone, 1)
    const alice = await join_('alice')
    const bob = await join_('bob')
    const carol = await join_('carol')
    carol.says('/join garden')
    await bob.hears('* carol has gone to garden')
    await carol.hears('you are in garden, alone so far')
    await start(clone, 2)
    expect(await first.exited).toBe(0)
    carol.says('nobody hears this')
    alice.says('hello')
    await bob.hears('alice: hello\n')
    bob.says('/join garden')
    await carol.hears('* bob is here')
    carol.says('hello in here')
    await bob.hears('carol: hello in here\n')
    expect(alice.heard + bob.heard).not.toContain('nobody hears this')
    expect(carol.heard).not.toContain('alice: hello')
    expect(alice.heard).not.toContain('hello in here')
  })

  it('takes names and lines as people type them', async () => {
    await start(copyClone(), 1)
    const alice = await join_('alice')
    const second = new Person('net')
    second.says('\r\n   \nALICE\nbob', '\r\n')
    await second.hears('Please type a nickname.\nPlease type a nickname.\nSomebody here is called ALICE already.')
    await second.hears('* bob, you are in lobby, with alice.')
    second.says(`one\r\n\r\n\x1b[2Jtwo\n${'x'.repeat(5000)}`)
    await alice.hears('bob: one\nbob: [2Jtwo\n')
    await alice.hears(`bob: ${'x'.repeat(1000)}\n`)
    second.leaves()
    await alice.hears('* bob has left')
  })

  it('says so where its port is somebody else’s', async () => {
    const stranger = createServer().listen(ports.chat, '127.0.0.1')
    const { exited, output } = spawnChat(copyClone())
    expect(await exited).toBe(1)
    expect(output()).toContain(`CHAT_PORT=${ports.chat + 10} npm start`)
    stranger.close()
  })
})

describe('the bulk echo', () => {
  it('gives back every byte of a transfer that a restart falls into', async () => {
    const clone = copyClone()
    const first = await start(clone, 1)
    const socket = connect({ port: ports.bulk, host: '127.0.0.1' })
    const data = randomBytes(8_000_000)
    const echoed = createHash('sha256')
    let arrived = 0
    const done = new Promise<void>((resolve, reject) => {
      socket.on('data', (bytes) => {
        echoed.update(bytes)
        arrived += bytes.length
      })
      socket.on('error', reject)
      socket.on('close', () => resolve())
    })
    socket.write(data.subarray(0, 4_000_000))
    socket.pause() // so that bytes are under way everywhere
    await start(clone, 2)
    expect(await first.exited).toBe(0)
    socket.resume()
    socket.end(data.subarray(4_000_000))
    await done
    expect(arrived).toBe(data.length)
    expect(echoed.digest('hex')).toBe(createHash('sha256').update(data).digest('hex'))
  })
})

describe('the server of the README', () => {
  it('goes on as it says', async () => {
    const clone = copyClone()
    const [code] = /(?<=```js\n)[\s\S]+?(?=```)/.exec(readFileSync(join(root, 'README.md'), 'utf8')) as RegExpExecArray
    writeFileSync(join(clone, 'readme.js'), code.replace('4000', String(ports.chat)))
    const first = spawnChat(clone, 'readme.js')
    while (!(await answers(ports.chat)));
    const ann = new Person('net')
    await ann.hears('Who are you?\n')
    ann.says('ann')
    await ann.hears('ann, 0 lines so far\n')
    const second = spawnChat(clone, 'readme.js')
    await second.prints('(generation 2)')
    expect(await first.exited).toBe(0)
    ann.says('hello')
    await ann.hears('ann, 1 lines so far\n')
    expect(ann.heard).toBe('Who are you?\nann, 0 lines so far\nann, 1 lines so far\n')
  })
})

describe('the status page', () => {
  it('is for people and for programs', async () => {
    const { child } = await start(copyClone(), 1)
    expect(await status()).toEqual({ generation: 1, pid: child.pid, connections: { chat: 0, bulk: 0 }, lastHandover: null })
    expect(await page({ accept: 'text/html' })).toMatch('<title>tsunagi chat</title>')
  })
})

/** What `git clone` and `npm ci` leave, as far as the server needs it; each call makes it anew at the same place. */
function copyClone(): string {
  const clone = join(scratch, 'clone')
  for (const part of [
    'package.json',
    'dist',
    'prebuilds',
    'examples',
    join('node_modules', 'node-gyp-build'),
    join('node_modules', 'ws'),
  ]) {
    cpSync(join(root, part), join(clone, part), { recursive: true })
  }
  return clone
}

function removeBuild(clone: string): void {
  for (const part of ['dist', 'node_modules', 'prebuilds']) rmSync(join(clone, part), { recursive: true })
}

async function start(clone: string, generation: number) {
  const server = spawnChat(clone)
  await server.prints(`process ${server.child.pid} serves, generation ${generation}\n`)
  return server
}

function spawnChat(clone: string, script = 'examples/chat/server.js') {
  const child = spawn(process.execPath, [script], { cwd: clone, env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
  started.push(child)
  const output = collect(child.stdout, child.stderr)
  const exited = new Promise<number | null>((resolve) => child.on('close', resolve))
  const prints = (text: string) =>
    Promise.race([
      output.contains(text),
      exited.then((code) => {
        throw new Error(`the server ended with code ${code}:\n${output.text}`)
      }),
    ])
  return { child, exited, prints, output: () => output.text }
}

/** Somebody at the other end of a terminal. */
class Person {
  readonly #input: Writable
  readonly #output: ReturnType<typeof collect>

  constructor(by: 'nc' | 'net' = 'nc') {
    if (by === 'nc' && hasNc) {
      const nc = spawn('nc', ['-N', '127.0.0.1', String(ports.chat)], { stdio: ['pipe', 'pipe', 'inherit'] })
      started.push(nc)
      this.#input = nc.stdin
      this.#output = collect(nc.stdout)
    } else {
      const socket: Duplex = connect({ port: ports.chat, host: '127.0.0.1' })
      this.#input = socket
      this.#output = collect(socket)
    }
  }

  get heard(): string {
    return this.#output.text
  }

  says(text: string, end = '\n'): void {
    this.#input.write(`${text}${end}`)
  }

  async hears(text: string): Promise<void> {
    await this.#output.contains(text)
  }

  leaves(): void {
    this.#input.end()
  }
}

async function join_(nick: string, by?: 'nc' | 'net'): Promise<Person> {
  const person = new Person(by)
  await person.hears('Your nickname?\n')
  person.says(nick)
  await person.hears(`* ${nick}, you are in lobby`)
  return person
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' }, () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}

/** What streams have said so far, and a promise for what they will. */
function collect(...streams: Readable[]) {
  const waiting = new Set<() => void>()
  const collected = {
    text: '',
    contains: (wanted: string) =>
      new Promise<void>((resolve) => {
        const look = () => {
          if (!collected.text.includes(wanted)) return
          waiting.delete(look)
          resolve()
        }
        waiting.add(look)
        look()
      }),
  }
  for (const stream of streams) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      collected.text += text
      for (const look of [...waiting]) look()
    })
  }
  return collected
}

async function status() {
  return JSON.parse(await page({ accept: 'application/json' })) as { pid: number }
}

function page(headers: Record<string, string>): Promise<string> {
  return new Promise((resolve, reject) => {
    get({ port: ports.status, host: '127.0.0.1', agent: false, headers }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk) => {
        text += chunk
      })
      response.on('end', () => resolve(text))
    }).on('error', reject)
  })
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<Server>((resolve) =>
          createServer().listen(0, '127.0.0.1', function (this: Server) {
            resolve(this)
          }),
        ),
    ),
  )
  const found = servers.map((server) => (server.address() as { port: number }).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return found
}
