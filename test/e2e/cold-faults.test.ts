import { readdirSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { HOLDER_FAULT_POINTS } from '../../src/env.js'
import { OwnNetwork } from '../helpers/own-network.js'
import { describePrivileged } from '../helpers/privileged.js'
import type { Line, ServerProcess } from '../helpers/process.js'

type Point = (typeof HOLDER_FAULT_POINTS)[number]

const GROUPS = [
  { kind: 'idle', toServer: 1_000, host: '::1' },
  { kind: 'unread', toServer: 100_000 },
  { kind: 'unsent', toServer: 1_000, toClient: 5_000_000 },
]
const HOLD_MS = 4_000

/** A server with three clients, and rules of somebody else in the same namespace. */
async function begin(mode = {}) {
  const network = await OwnNetwork.make()
  await network.shell(
    `nft 'table inet other { set ports { type inet_service; elements = { 22, 80 }; }; chain in { type filter hook input priority 0; tcp dport @ports accept; }; }'`,
  )
  const line = await network.line('cold-server.mjs', { mode, env: { TSUNAGI_HOLD: String(HOLD_MS / 1000) } })
  return { network, line, others: await othersRules(network) }
}

async function start(line: Line, fault = ''): Promise<ServerProcess> {
  const server = line.launch({ env: { TSUNAGI_ON_EXIT: 'snapshot', TSUNAGI_HOLD: String(HOLD_MS / 1000), TSUNAGI_FAULT: fault } })
  if (!fault.startsWith('successor') && !fault.startsWith('snapshot-after-claim')) await server.until('serving')
  return server
}

async function withClients(network: OwnNetwork, line: Line): Promise<ServerProcess> {
  const clients = network.launch('cold-clients.mjs', line, { groups: GROUPS })
  await clients.until('settled')
  return clients
}

/** All but the table of ours, and that of the test. */
async function othersRules(network: OwnNetwork): Promise<string> {
  return network.shell(`nft list tables | grep -v 'inet tsunagi\\|inet watch' | while read -r table; do nft list $table; done`)
}

function files(line: Line): string[] {
  return readdirSync(line.directory).filter((name) => !name.endsWith('.sock'))
}

/** Everybody gets all that they should, from the server that runs now. */
async function goesOn(server: ServerProcess, clients: ServerProcess): Promise<void> {
  server.tell('go')
  clients.tell('go')
  clients.tell('finish')
  expect(await clients.until('finished')).toMatchObject({ flaws: [] })
}

async function servesNewClients(network: OwnNetwork, line: Line): Promise<void> {
  const clients = network.launch('cold-clients.mjs', line, { groups: [{ kind: 'echo' }, { kind: 'echo', host: '::1' }] })
  await clients.until('connected')
  clients.tell('stop')
  clients.tell('finish')
  expect(await clients.until('finished')).toMatchObject({ flaws: [] })
}

/** What is left of its time can only become less: `held` has just said how much that is. */
async function expired(network: OwnNetwork): Promise<void> {
  for (let left = HOLD_MS; left > 0; ) {
    const now = (await network.held()).leftMs
    if (now > left) throw new Error('it is held anew')
    left = now
  }
}

const LEAVING: readonly Point[] = ['predecessor-before-put', 'snapshot-before-hold', 'snapshot-after-hold', 'snapshot-after-dump']
const LEFT: readonly Point[] = ['snapshot-after-file', 'predecessor-after-put']

describePrivileged('net-namespace', 'a process that is killed while it saves its connections', () => {
  test.for(LEAVING)('leaves nothing that lasts, nor anything in the way of the next start: at %s', async (point) => {
    const { network, line, others } = await begin()
    const server = await start(line, `${point}=kill`)
    await withClients(network, line)
    server.kill('SIGINT')
    expect(await server.exited).toEqual({ code: null, signal: 'SIGKILL' })
    expect((await network.held()).leftMs).toBeLessThanOrEqual(HOLD_MS)

    const next = await start(line)
    expect(await network.held()).toEqual({ ports: [], connections: 0, leftMs: 0 })
    expect(files(line)).toEqual([])
    await servesNewClients(network, line)
    expect(next.all('resumed')).toEqual([])
    expect(await othersRules(network)).toBe(others)
  })

  test.for(LEAVING)('leaves a hold that ends by itself where nothing is started: at %s', async (point) => {
    const { network, line, others } = await begin()
    const server = await start(line, `${point}=kill`)
    await withClients(network, line)
    server.kill('SIGINT')
    await server.exited
    await expired(network)
    expect(await othersRules(network)).toBe(others)
  })

  test.for(LEFT)('has saved them once the file is there: at %s', async (point) => {
    const { network, line, others } = await begin()
    const server = await start(line, `${point}=kill`)
    const clients = await withClients(network, line)
    server.kill('SIGINT')
    expect(await server.exited).toEqual({ code: null, signal: 'SIGKILL' })
    const next = await start(line)
    expect(await next.until('resumed')).toMatchObject({ moved: 3, stayed: [] })
    await goesOn(next, clients)
    expect(await network.held()).toMatchObject({ leftMs: 0 })
    expect(await othersRules(network)).toBe(others)
  })
})

describePrivileged('net-namespace', 'a process that fails to save its connections', () => {
  test.for([...LEAVING, 'snapshot-after-file'] as const)('has them as they were: at %s', async (point) => {
    const { network, line, others } = await begin({ stays: true })
    const server = await start(line, `${point}=throw`)
    const clients = await withClients(network, line)
    await network.watchFlags()
    server.kill('SIGTERM')
    await server.until('asked to end')
    expect(server.stderr).toContain(`fault injected at ${point}`)
    expect(await network.held()).toEqual({ ports: [], connections: 0, leftMs: 0 })
    expect(files(line)).toEqual([])
    await goesOn(server, clients)
    await servesNewClients(network, line)
    expect(await network.flags()).toEqual({ fin: 0, rst: 0 })
    expect(await othersRules(network)).toBe(others)
  })
})

describePrivileged('net-namespace', 'a start that comes to nothing', () => {
  test.for(['successor-after-find', 'successor-after-open'] as const)(
    'leaves the connections to the next one: killed at %s',
    async (point) => {
      const { network, line } = await begin()
      const server = await start(line)
      const clients = await withClients(network, line)
      await network.watchFlags()
      server.kill('SIGINT')
      await server.exited
      const killed = await start(line, `${point}=kill`)
      expect(await killed.exited).toEqual({ code: null, signal: 'SIGKILL' })
      expect(await network.held()).toMatchObject({ ports: [line.port] })
      const next = await start(line)
      expect(await next.until('resumed')).toMatchObject({ moved: 3, stayed: [], generation: 2 })
      await goesOn(next, clients)
      expect(await network.flags()).toEqual({ fin: 0, rst: 0 })
    },
  )

  test('leaves the connections to the next one: its code is broken', async () => {
    const { network, line } = await begin()
    const server = await start(line)
    const clients = await withClients(network, line)
    server.kill('SIGINT')
    await server.exited
    const broken = line.launch({ mode: { breaks: true } })
    expect(await broken.exited).toMatchObject({ code: 1 })
    const next = await start(line)
    expect(await next.until('resumed')).toMatchObject({ moved: 3, stayed: [] })
    await goesOn(next, clients)
  })

  test('is one of two at the same time: one restores, and nothing comes twice', async () => {
    const { network, line } = await begin()
    const server = await start(line)
    const clients = await withClients(network, line)
    server.kill('SIGINT')
    await server.exited
    const both = [line.launch(), line.launch()]
    const settled = both.map((each) => Promise.any([each.until('resumed'), each.until('error')]))
    const [one, two] = await Promise.all(settled)
    const winner = both[one?.event === 'resumed' && one['holder'] === 'snapshot' ? 0 : 1] as ServerProcess
    expect([one, two].filter((told) => told?.['holder'] === 'snapshot')).toHaveLength(1)
    const last = both.find((each) => each !== winner && each.all('resumed').length > 0) ?? winner
    await goesOn(last, clients)
  })

  test('restores nothing twice: killed once the connections are its own', async () => {
    const { network, line } = await begin()
    const server = await start(line)
    await withClients(network, line)
    server.kill('SIGINT')
    await server.exited
    const killed = await start(line, 'snapshot-after-claim=kill')
    expect(await killed.exited).toEqual({ code: null, signal: 'SIGKILL' })
    expect(files(line)).toEqual([expect.stringMatching(/\.spent$/)])
    const next = await start(line)
    expect(await network.held()).toEqual({ ports: [], connections: 0, leftMs: 0 })
    expect(files(line)).toEqual([])
    expect(next.all('resumed')).toEqual([])
    await servesNewClients(network, line)
  })
})

describePrivileged('net-namespace', 'a server that never comes back', () => {
  test('leaves a file that any later start removes', async () => {
    const { network, line } = await begin()
    const server = await start(line)
    await withClients(network, line)
    server.kill('SIGINT')
    await server.exited
    expect(files(line)).toHaveLength(1)
    while ((await network.held()).leftMs > 0);
    const other = await network.line('echo.mjs')
    const elsewhere = other.launch({ env: { TSUNAGI_DIR: line.directory } })
    await elsewhere.until('serving')
    expect(files(line)).toHaveLength(1) // it is not that old yet
    elsewhere.kill()
    await elsewhere.exited
    await delay(HOLD_MS + 500)
    await other.launch({ env: { TSUNAGI_DIR: line.directory } }).until('serving')
    expect(files(line)).toEqual([])
  })
})
