import { readdirSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { OwnNetwork } from '../helpers/own-network.js'
import { describePrivileged } from '../helpers/privileged.js'
import type { Line, ServerProcess } from '../helpers/process.js'

/** What a connection is in the middle of when its server ends, and how many bytes go each way. */
const KINDS = [
  { kind: 'idle', toServer: 1_000 },
  { kind: 'unread', toServer: 100_000 },
  { kind: 'unread', toServer: 20_000_000 }, // its window is closed
  { kind: 'unsent', toServer: 1_000, toClient: 20_000_000 },
  { kind: 'unacked', toServer: 1_000, toClient: 60_000 },
  { kind: 'both', toServer: 10_000_000, toClient: 10_000_000 },
  { kind: 'ended by the client', toServer: 50_000, toClient: 100 },
  { kind: 'ended by the server', toServer: 50_000, toClient: 50_000 },
  { kind: 'ended by the server, unsent', toServer: 50_000, toClient: 10_000_000 },
  { kind: 'echo' },
]

/** Ends the process as Ctrl-C does. */
async function stop(server: ServerProcess): Promise<void> {
  server.kill('SIGINT')
  expect(await server.exited).toEqual({ code: null, signal: 'SIGINT' })
}

function files(line: Line): string[] {
  return readdirSync(line.directory).filter((name) => !name.endsWith('.sock'))
}

describePrivileged('net-namespace', 'a server that is told to end', () => {
  test.for([
    [true, 'at once: that is one Ctrl-C, from the terminal and from npm'],
    [false, 'half a second later: it is not coming back, and every client sees the end'],
  ] as const)('and told again %#: $1', async ([atOnce]) => {
    const network = await OwnNetwork.make()
    const line = await network.line('cold-server.mjs', { mode: { stays: true } })
    const server = line.launch()
    await server.until('serving')
    const clients = network.launch('cold-clients.mjs', line, { groups: [{ kind: 'ends', host: '::1' }, { kind: 'ends' }] })
    await clients.until('settled')
    server.kill('SIGTERM')
    if (!atOnce) await delay(600)
    server.kill('SIGTERM')
    await server.until('asked to end')
    if (atOnce) {
      expect(await network.held()).toMatchObject({ ports: [line.port] })
      server.kill('SIGKILL')
      await server.exited
      // Who connects meanwhile is not refused, and is served then.
      const newcomers = network.launch('cold-clients.mjs', line, { groups: [{ kind: 'echo' }, { kind: 'echo', host: '::1' }] })
      await delay(300)
      expect(newcomers.told).toEqual([])
      expect(await line.launch().until('resumed')).toMatchObject({ moved: 2 })
      await newcomers.until('connected')
      newcomers.tell('stop')
      newcomers.tell('finish')
      expect(await newcomers.until('finished')).toMatchObject({ flaws: [] })
      return
    }
    clients.tell('finish')
    expect(await clients.until('finished')).toMatchObject({ flaws: [] })
    expect(await network.held()).toMatchObject({ leftMs: 0 })
    expect(files(line)).toEqual([])
  })
})

describePrivileged('net-namespace', 'a start that may not send raw packets', () => {
  test('tells the application itself that a client has ended, behind its last bytes', async () => {
    const network = await OwnNetwork.make()
    const line = await network.line('cold-server.mjs')
    const first = line.launch()
    await first.until('serving')
    const ended = { kind: 'ended by the client', toServer: 50_000, toClient: 100 }
    const large = { ...ended, toServer: 20_000_000 }
    const ends = { kind: 'ended by the server', toServer: 50_000, toClient: 50_000 }
    const groups = ['127.0.0.1', '::1'].flatMap((host) => [ended, large, ends].map((kind) => ({ ...kind, host })))
    const clients = network.launch('cold-clients.mjs', line, { groups })
    await clients.until('settled')
    await network.watchFlags()
    await stop(first)
    await delay(500) // after a gap this long it would wake its peers, and says that it cannot
    const [node = '', ...nsenter] = [...network.command].reverse()
    const command = [...nsenter.reverse(), 'setpriv', '--bounding-set=-net_raw', '--inh-caps=-net_raw', node]
    const second = line.launch({ command })
    expect(await second.until('resumed')).toMatchObject({ moved: groups.length, stayed: [] })
    await second.untilSaid('raw packets need CAP_NET_RAW')
    second.tell('go')
    clients.tell('go')
    clients.tell('finish')
    expect(await clients.until('finished')).toMatchObject({ flaws: [] })
    expect(await network.flags()).toMatchObject({ rst: 0 })
  })
})

describePrivileged('net-namespace', 'a server that ends and is started again', () => {
  test.for([
    ['their ports', false, undefined],
    ['their two ends, while another drains', true, undefined],
    ['their ports, without a right outside of a user namespace', false, 'user'],
  ] as const)('has its connections as they were, every byte, in every state, of every family: held by %s', async ([, oneDrains, kind]) => {
    const network = await OwnNetwork.make(kind)
    const line = await network.line('cold-server.mjs', { mode: { ipv4: true } })
    const first = line.launch()
    await first.until('serving')
    const families = [{ host: '127.0.0.1' }, { host: '::1' }, { host: '127.0.0.1', port: line.port + 1 }]
    const moving = families.flatMap((family) => KINDS.map((kind) => ({ ...kind, ...family })))
    const groups = oneDrains ? [...moving, { kind: 'drains', host: '::1' }] : moving
    const clients = network.launch('cold-clients.mjs', line, { groups })
    await clients.until('settled')
    await network.watchFlags()
    await network.dropIncoming(line.port)
    first.tell('poke')
    await first.until('poked')

    await stop(first)
    await network.letIncoming()
    const held = await network.held()
    expect(held.ports.sort()).toEqual([line.port, line.port + 1])
    expect(held.connections).toBe(oneDrains ? moving.length : 0)
    expect(files(line)).toEqual([expect.stringMatching(/\.snapshot$/)])
    await delay(1_000) // the gap: clients that send repeat themselves in vain

    const second = line.launch()
    const report = await second.until('resumed')
    expect(report).toMatchObject({ holder: 'snapshot', moved: moving.length, stayed: [] })
    expect(await network.held()).toEqual({ ports: [], connections: 0, leftMs: 0 })
    expect(files(line)).toEqual([])
    for (const word of ['go', 'stop']) clients.tell(word)
    second.tell('go')
    clients.tell('finish')
    const { wrong, flaws, echoed } = await clients.until('finished')
    expect({ wrong, flaws }).toEqual({ wrong: 0, flaws: [] })
    expect(echoed).toBeGreaterThan(1_000_000)
    expect(second.all('all')).toEqual(second.all('all').map(({ number, event }) => ({ number, event, got: 50_000, wrong: 0 })))
    expect(second.all('all')).toHaveLength(6)
    expect(await network.flags()).toMatchObject({ rst: 0 })
    expect([...first.all('socket error'), ...second.all('socket error')]).toEqual([])
  })
})
