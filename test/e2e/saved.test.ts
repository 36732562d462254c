import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { OwnNetwork } from '../helpers/own-network.js'
import { describePrivileged } from '../helpers/privileged.js'
import type { Line } from '../helpers/process.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

describePrivileged('net-namespace', 'the experiment of the talk', () => {
  test('goes as the example says', { timeout: 60_000 }, async () => {
    const script = spawn('sh', [join(ROOT, 'examples/saved/experiment.sh')], { stdio: ['ignore', 'pipe', 'pipe'] })
    onTestFinished(() => void script.kill())
    const [output, errors] = await Promise.all([text(script.stdout), text(script.stderr), once(script, 'close')])
    const lines = output
      .replaceAll(/process \d+/g, 'process N')
      .trim()
      .split('\n')
    expect(lines, errors).toEqual([
      'process N listens',
      'nc hears: before',
      'process N is stopped',
      'nobody is there: 0 TCP sockets on this host, for five seconds',
      'process N listens',
      'process N goes on with 10.7.0.2',
      'nc hears: in the gap',
      'nc hears: after',
      'connections of the server now: 1; packets held: 0',
    ])
  })
})

/** The server of the example with one client, stopped. */
async function stopped(network: OwnNetwork, env: NodeJS.ProcessEnv = {}): Promise<{ line: Line; client: Client }> {
  const line = await network.line(join(ROOT, 'examples/saved/echo.js'), { host: '127.0.0.1' })
  const first = plain(network, line, { env })
  await first.says('listens')
  const client = new Client(network, line)
  client.write('before ')
  await client.hears('before ')
  process.kill(first.pid, 'SIGINT')
  await first.ended
  return { line, client }
}

/** A program that writes words, not the lines of JSON of a fixture. */
function plain(network: OwnNetwork, line: Line, { shell = 'exec "$@"', env: more = {} }: { shell?: string; env?: NodeJS.ProcessEnv } = {}) {
  const [program = '', ...args] = [...network.enter, 'sh', '-c', shell, 'sh', process.execPath, line.program]
  const env = {
    ...process.env,
    PORT: String(line.port),
    HOST: '127.0.0.1',
    TSUNAGI_DIR: line.directory,
    TSUNAGI_ON_EXIT: 'snapshot',
    ...more,
  }
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  const ended = once(child, 'close')
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += chunk))
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return {
    pid: child.pid as number,
    ended,
    get said() {
      return said
    },
    async says(words: string) {
      while (!said.includes(words)) await delay(5)
    },
  }
}

class Client {
  heard = ''
  readonly #nc

  constructor(network: OwnNetwork, { port }: Line) {
    const [program = '', ...args] = [...network.enter, 'nc', '127.0.0.1', String(port)]
    this.#nc = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#nc.stdout.on('data', (chunk) => (this.heard += chunk))
    onTestFinished(() => void this.#nc.kill('SIGKILL'))
  }

  get isConnected(): boolean {
    return this.#nc.exitCode === null
  }

  write(words: string): void {
    this.#nc.stdin.write(words)
  }

  async hears(words: string): Promise<void> {
    while (!this.heard.endsWith(words)) await delay(5)
  }
}

const linkOf = (pid: number, fd: number) => readlinkSync(`/proc/${pid}/fd/${fd}`)

/** Which descriptors of a process are TCP sockets. */
function tcpDescriptors(pid: number): number[] {
  const rows = ['tcp', 'tcp6'].flatMap((table) => readFileSync(`/proc/${pid}/net/${table}`, 'utf8').trim().split('\n').slice(1))
  const inodes = new Set(rows.map((row) => `socket:[${row.trim().split(/\s+/)[9]}]`))
  return readdirSync(`/proc/${pid}/fd`)
    .map(Number)
    .filter((fd) => inodes.has(linkOf(pid, fd)))
}

/** Somebody else's rules, of the kind that the tool of the talk used. */
const FOREIGN = `nft 'table inet firewall { chain in { type filter hook input priority 0; tcp dport 25 drop; }; }'`
const foreign = (network: OwnNetwork) => network.shell('nft list table inet firewall')
const tables = (network: OwnNetwork) => network.shell('nft list tables')

describePrivileged('net-namespace', 'the two flaws of the tool of the talk', () => {
  test('no rule of ours is in force after a restore, and no other was touched', async () => {
    const network = await OwnNetwork.make()
    await network.shell(FOREIGN)
    const before = await foreign(network)
    const { line, client } = await stopped(network)
    expect(await network.held()).toMatchObject({ ports: [line.port] })
    const second = plain(network, line)
    await second.says('goes on')
    client.write('after')
    await client.hears('after')
    expect(client.heard).toBe('before after')
    expect(await network.held()).toEqual({ ports: [], connections: 0, leftMs: 0 })
    expect(await foreign(network)).toBe(before)
    expect((await tables(network)).trim().split('\n').sort()).toEqual(['table inet firewall', 'table inet tsunagi'])
  })

  test('nor after a restore that failed, because the snapshot is damaged', async () => {
    const network = await OwnNetwork.make()
    await network.shell(FOREIGN)
    const before = await foreign(network)
    const { line } = await stopped(network)
    const [snapshot = ''] = readdirSync(line.directory).filter((name) => name.endsWith('.snapshot'))
    truncateSync(join(line.directory, snapshot), 200)
    const second = plain(network, line)
    await second.says('listens')
    expect(await network.held(), second.said).toEqual({ ports: [], connections: 0, leftMs: 0 })
    expect(await foreign(network)).toBe(before)
    expect(readdirSync(line.directory).filter((name) => name.endsWith('.snapshot'))).toEqual([])
  })

  test('nor, once the time of the hold is over, after a start that failed', async () => {
    const network = await OwnNetwork.make()
    await network.shell(FOREIGN)
    const before = await foreign(network)
    const { line } = await stopped(network, { TSUNAGI_HOLD: '2' })
    await network.shell('ip addr del 127.0.0.1/8 dev lo')
    const second = plain(network, line)
    await second.ended
    expect(second.said).toContain('EADDRNOTAVAIL')
    while ((await network.held()).ports.length > 0) await delay(100)
    expect(await foreign(network)).toBe(before)
  })

  test('descriptors 0, 1 and 2 of the new process are its own, also when it is started without any', async () => {
    const network = await OwnNetwork.make()
    const { line, client } = await stopped(network)
    const second = plain(network, line)
    await second.says('goes on')
    expect(tcpDescriptors(second.pid).filter((fd) => fd < 3)).toEqual([])
    expect(tcpDescriptors(second.pid)).toHaveLength(2) // the listener and the connection
    client.write('through')
    await client.hears('through')
    expect(client.heard).toBe('before through')
    process.kill(second.pid, 'SIGINT')
    await second.ended

    const third = plain(network, line, { shell: 'exec "$@" <&- >&- 2>&-' })
    client.write(' and through')
    await client.hears(' and through')
    expect([0, 1, 2].map((fd) => linkOf(third.pid, fd))).toEqual(['/dev/null', '/dev/null', '/dev/null'])
    expect(tcpDescriptors(third.pid)).toHaveLength(2)
    expect(client.isConnected).toBe(true)
  })
})
