import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, onTestFinished, test } from 'vitest'
import { busyConnections } from '../helpers/busy-connections.js'
import { dropAddress, Ethernet, SHARED, takeAddress } from '../helpers/hosts.js'
import type { OwnNetwork } from '../helpers/own-network.js'
import { describePrivileged } from '../helpers/privileged.js'
import { Line, type ServerProcess, temporaryDirectory } from '../helpers/process.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const CLI = join(ROOT, 'dist', 'cli.js')

const GROUPS = busyConnections([SHARED.ipv4, SHARED.ipv6])

/** Two hosts for one server, with the state of each in a directory of its own, and one for the clients. */
class Pair {
  readonly here: OwnNetwork
  readonly there: OwnNetwork
  readonly far: OwnNetwork
  readonly line: Line
  readonly directoryThere = join(temporaryDirectory(), 'there')

  private constructor(hosts: [OwnNetwork, OwnNetwork, OwnNetwork], line: Line) {
    ;[this.here, this.there, this.far] = hosts
    this.line = line
    mkdirSync(this.directoryThere, { mode: 0o700 })
  }

  static async make(): Promise<Pair> {
    const ethernet = await Ethernet.make()
    const hosts = [await ethernet.host(), await ethernet.host(), await ethernet.host()] as [OwnNetwork, OwnNetwork, OwnNetwork]
    return new Pair(hosts, await Line.empty('cold-server.mjs', { command: hosts[0].command }))
  }

  /** The first server, and clients that are in the middle of everything. */
  async serve(): Promise<ServerProcess> {
    await this.line.launch().until('serving')
    const clients = this.far.launch('cold-clients.mjs', this.line, { groups: GROUPS })
    await clients.until('settled')
    await this.far.watchFlags()
    return clients
  }

  commandHere(...args: string[]): string {
    return [`TSUNAGI_DIR=${this.line.directory}`, ...this.here.command, CLI, ...args].join(' ')
  }

  commandThere(...args: string[]): string {
    return [`TSUNAGI_DIR=${this.directoryThere}`, ...this.there.command, CLI, ...args].join(' ')
  }

  /** `tsunagi snapshot` on the one host, into `tsunagi restore` on the other. */
  async pipe(): Promise<{ said: string; code: number }> {
    return this.shell(`${this.commandHere('snapshot', '--to', '-', String(this.line.port))} | ${this.commandThere('restore', '-')}`)
  }

  async shell(script: string): Promise<{ said: string; code: number }> {
    const shell = spawn('bash', ['-c', `set -o pipefail; ${script}`], { stdio: ['ignore', 'pipe', 'pipe'] })
    const [out, err] = await Promise.all([text(shell.stdout), text(shell.stderr), once(shell, 'close')])
    return { said: out + err, code: shell.exitCode ?? -1 }
  }

  startThere(): ServerProcess {
    return this.line.launch({ command: this.there.command, env: { TSUNAGI_DIR: this.directoryThere } })
  }

  /** Every byte and no reset, to the end of every connection. */
  async expectAllRight(clients: ServerProcess, server: ServerProcess): Promise<void> {
    expect(await server.until('resumed')).toMatchObject({ holder: 'snapshot', moved: GROUPS.length, stayed: [] })
    for (const word of ['go', 'stop']) clients.tell(word)
    server.tell('go')
    clients.tell('finish')
    expect(await clients.until('finished')).toMatchObject({ wrong: 0, flaws: [] })
    expect(await this.far.flags()).toMatchObject({ rst: 0 })
    expect(await this.there.held()).toEqual({ ports: [], connections: 0, leftMs: 0 })
  }
}

/** As a firewall that is strict: what belongs to no connection that it knows is dropped, and only a SYN makes one. */
const STRICT = `nft 'table inet strict { chain in { type filter hook input priority 0; policy drop;
  iif lo accept; meta l4proto { icmp, icmpv6, vrrp } accept; ct state invalid drop; ct state established accept; ct state new tcp flags & (syn | ack) == syn accept; }; }'`

describePrivileged('net-namespace', 'a snapshot goes through a pipe to another host', () => {
  test('that has its address then, and the clients go on', { timeout: 60_000 }, async () => {
    const pair = await Pair.make()
    await takeAddress(pair.here)
    const clients = await pair.serve()
    const { said, code } = await pair.pipe()
    expect(code, said).toBe(0)
    await dropAddress(pair.here)
    await takeAddress(pair.there)
    await pair.expectAllRight(clients, pair.startThere())
  })

  test('to which its network interface moves', { timeout: 60_000 }, async () => {
    const pair = await Pair.make()
    await takeAddress(pair.here)
    const clients = await pair.serve()
    const { said, code } = await pair.pipe()
    expect(code, said).toBe(0)
    await pair.there.shell('ip link del e0')
    await pair.here.shell(`ip link set e0 netns ${pair.there.pid}`)
    await pair.there.shell('ip addr add 10.77.0.1/24 dev e0 && ip addr add fd77::1/64 dev e0 nodad && ip link set e0 up')
    await takeAddress(pair.there)
    await pair.expectAllRight(clients, pair.startThere())
  })

  test('behind a firewall that has never seen the connections', { timeout: 60_000 }, async () => {
    const pair = await Pair.make()
    await takeAddress(pair.here)
    await pair.there.shell(STRICT)
    const clients = await pair.serve()
    const { said, code } = await pair.pipe()
    expect(code, said).toBe(0)
    await dropAddress(pair.here)
    await takeAddress(pair.there)
    await pair.expectAllRight(clients, pair.startThere())
  })

  test('but not where that firewall would drop everything: then they go on where they were', { timeout: 60_000 }, async () => {
    const pair = await Pair.make()
    await takeAddress(pair.here)
    await pair.there.shell(`${STRICT}\nsysctl -qw net.netfilter.nf_conntrack_tcp_loose=0`)
    const clients = await pair.serve()
    const file = join(pair.line.directory, 'saved')
    const { said, code } = await pair.shell(`
      ${pair.commandHere('snapshot', '--to', file, String(pair.line.port))} &&
      { ${pair.commandThere('restore', '-')} < ${file} || { ${pair.commandHere('restore', file)}; exit 9; }; }`)
    expect(said).toContain('nf_conntrack_tcp_loose')
    expect(code).toBe(9)
    expect(await pair.there.held()).toEqual({ ports: [], connections: 0, leftMs: 0 })
    await pair.expectAllRight(clients, pair.line.launch())
  })
})

describePrivileged('net-namespace', 'two hosts with keepalived', () => {
  test('hand connections over with the address, as docs/keepalived.md says', { timeout: 60_000 }, async () => {
    const pair = await Pair.make()
    const first = await Keepalived.start(pair.here, 150)
    await first.isMaster()
    const second = await Keepalived.start(pair.there, 100)
    const clients = await pair.serve()

    const { said, code } = await pair.pipe()
    expect(code, said).toBe(0)
    expect(second.wasMaster, second.output).toBe(false)
    await first.stop()
    await second.isMaster()
    await pair.expectAllRight(clients, pair.startThere())
  })
})

describe('the configuration of keepalived', () => {
  test('is shown in docs/keepalived.md as it is tested', () => {
    const shown = readFileSync(join(ROOT, 'docs/keepalived.md'), 'utf8')
    expect(shown).toContain('examples/keepalived/keepalived.conf')
    expect(CONFIGURATION).toContain(`${SHARED.ipv4}/32`)
    expect(CONFIGURATION).toContain(`${SHARED.ipv6}/128`)
  })
})

const CONFIGURATION = readFileSync(join(ROOT, 'examples/keepalived/keepalived.conf'), 'utf8')

/** The real one, in the network namespace of a host. */
class Keepalived {
  readonly #process
  readonly #ended
  readonly #mark: string
  output = ''

  private constructor(host: OwnNetwork, priority: number) {
    const folder = temporaryDirectory()
    this.#mark = join(folder, 'master')
    const script = join(folder, 'start-server')
    writeFileSync(script, `#!/bin/sh\ntouch ${this.#mark}\n`)
    chmodSync(script, 0o700)
    const configuration = CONFIGURATION.replace(/priority \d+/, `priority ${priority}`).replace('/etc/keepalived/start-server', script)
    writeFileSync(join(folder, 'keepalived.conf'), configuration, { mode: 0o600 })
    const files = ['--use-file', join(folder, 'keepalived.conf'), '--pid', join(folder, 'pid'), '--vrrp_pid', join(folder, 'vrrp')]
    const [program = '', ...args] = [...host.enter, 'keepalived', '--dont-fork', '--log-console', '--vrrp', ...files]
    this.#process = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [this.#process.stdout, this.#process.stderr]) stream.on('data', (chunk) => (this.output += chunk))
    this.#ended = once(this.#process, 'close')
    onTestFinished(() => this.stop())
  }

  static async start(host: OwnNetwork, priority: number): Promise<Keepalived> {
    const keepalived = new Keepalived(host, priority)
    while (!keepalived.output.includes('Entering BACKUP STATE')) await keepalived.#moment()
    return keepalived
  }

  get wasMaster(): boolean {
    return existsSync(this.#mark)
  }

  async isMaster(): Promise<void> {
    while (!this.wasMaster) await this.#moment()
  }

  /** It says good-bye to the others, and takes its addresses away. */
  async stop(): Promise<void> {
    this.#process.kill('SIGTERM')
    await this.#ended
  }

  async #moment(): Promise<void> {
    if (this.#process.exitCode !== null) throw new Error(`keepalived ended: ${this.output}`)
    await delay(10)
  }
}
