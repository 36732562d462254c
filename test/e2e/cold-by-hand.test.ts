import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import type { SnapshotDescription } from '../../src/cold/describe.js'
import { OwnNetwork } from '../helpers/own-network.js'
import { describePrivileged } from '../helpers/privileged.js'
import { Line, temporaryDirectory } from '../helpers/process.js'

const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url))

const GROUPS = [
  { kind: 'idle', toServer: 1_000, host: '::1' },
  { kind: 'unread', toServer: 2_000 },
  { kind: 'unsent', toServer: 1_000, toClient: 5_000_000 },
]

async function serving(settings = {}) {
  const network = await OwnNetwork.make()
  const line = await network.line('cold-server.mjs', { env: { TSUNAGI_ON_EXIT: '' }, ...settings })
  const server = line.launch()
  await server.until('serving')
  const clients = network.launch('cold-clients.mjs', line, { groups: GROUPS })
  await clients.until('settled')
  const tsunagi = (rest: string) => network.shell(`TSUNAGI_DIR=${line.directory} ${process.execPath} ${CLI} ${rest} 2>&1`)
  return { network, line, server, clients, tsunagi }
}

type Serving = Awaited<ReturnType<typeof serving>>

async function goOnInTheNext({ network, line, clients }: Serving, settings = {}): Promise<void> {
  const next = line.launch(settings)
  expect(await next.until('resumed')).toMatchObject({ holder: 'snapshot', moved: 3, stayed: [] })
  next.tell('go')
  clients.tell('go')
  clients.tell('finish')
  expect(await clients.until('finished')).toMatchObject({ flaws: [] })
  expect(await network.held()).toMatchObject({ leftMs: 0 })
}

function snapshots(line: Line): string[] {
  return readdirSync(line.directory).filter((name) => !name.endsWith('.sock'))
}

describePrivileged('net-namespace', 'tsunagi snapshot', () => {
  test('ends a server that has asked for nothing, and its next start has the connections', async () => {
    const given = await serving()
    const { line, server, tsunagi } = given
    const said = await tsunagi(`snapshot ${line.port}`)
    expect(said).toContain(`3 connections of process ${server.pid} are in ${join(line.directory, snapshots(line)[0] ?? '')}`)
    expect(await server.exited).toEqual({ code: null, signal: 'SIGTERM' })

    const [description] = (await tsunagi('inspect --json')).split('\n').map((line) => line && JSON.parse(line)) as SnapshotDescription[]
    expect(description).toMatchObject({ pid: server.pid, holdSeconds: 60, held: { ports: [line.port], connections: 0 }, generation: 1 })
    const [idle, unread, unsent] = [...(description?.connections ?? [])].sort(
      (a, b) => a.unread.node + a.unsent.node - b.unread.node - b.unsent.node,
    )
    expect(idle).toMatchObject({ state: 'ESTABLISHED', family: 'IPv6', local: `[::1]:${line.port}`, listener: `tcp6 [::]:${line.port}` })
    expect(unread).toMatchObject({ unread: { node: 2_000, kernel: 0 }, local: `127.0.0.1:${line.port}` })
    expect(unsent?.unsent.node).toBeGreaterThan(100_000)
    expect(JSON.stringify(description)).not.toContain('payload')
    const table = await tsunagi('inspect')
    expect(table).toMatch(/local +peer +state +unread +unsent +unacknowledged\n/)
    expect(table).toMatch(new RegExp(`127.0.0.1:${line.port} +127.0.0.1:\\d+ +ESTABLISHED +2000 +0 +0\n`))
    const printed = join(temporaryDirectory(), 'payload')
    await tsunagi(`inspect --json --payload > ${printed}`)
    const withPayload = JSON.parse(readFileSync(printed, 'utf8'))
    const lengths = withPayload.connections.map(
      ({ payload }: { payload: { unread: string } }) => Buffer.from(payload.unread, 'base64').length,
    )
    expect(lengths.sort()).toEqual([0, 0, 2_000])
    await goOnInTheNext(given)
  })

  test.for([
    ['a pipe', (dir: string) => `snapshot --to - 2>${dir}/said | tsunagi restore -`],
    ['a file', (dir: string) => `snapshot --to ${dir}/saved && tsunagi inspect ${dir}/saved && tsunagi restore ${dir}/saved`],
  ] as const)('goes to tsunagi restore through %s', async ([, command]) => {
    const given = await serving()
    const { network, line, server } = given
    const directory = temporaryDirectory()
    const script = `export TSUNAGI_DIR=${line.directory}; tsunagi() { ${process.execPath} ${CLI} "$@"; }; tsunagi ${command(directory)}`
    expect(await network.shell(script)).toMatch(
      /3 connections of tcp6 .* wait here, and their packets are held: start the server within \d+ s/,
    )
    await server.exited
    expect(await network.held()).toMatchObject({ ports: [line.port] })
    await goOnInTheNext(given)
  })

  test('says why it cannot, and the server serves on', async () => {
    const line = await Line.empty('cold-server.mjs', { env: { TSUNAGI_HELPER: '/nonexistent' } })
    const server = line.launch()
    await server.until('serving')
    const network = await OwnNetwork.make() // the command need not be where the server is
    const say = network.shell(`TSUNAGI_DIR=${line.directory} ${process.execPath} ${CLI} snapshot 2>&1 || true`)
    expect(await say).toContain('ERR_TSUNAGI_REPAIR')
    expect(server.all('server close')).toEqual([])
  })
})

describePrivileged('net-namespace', 'snapshot() and restore()', () => {
  test('save into a file and restore from it, once', async () => {
    const given = await serving()
    const { network, line, server } = given
    const file = join(temporaryDirectory(), 'saved')
    server.tell(`save ${file}`)
    expect(await server.until('saved')).toMatchObject({ file, connections: 3, ending: [] })
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(snapshots(line)).toEqual([])
    server.kill()
    await server.exited
    expect(await network.held()).toMatchObject({ ports: [line.port] })
    await goOnInTheNext(given, { mode: { restore: file } })
    const again = line.launch({ mode: { restore: file } })
    expect(await again.until('refused')).toMatchObject({ code: 'ENOENT' })
  })
})

describe('restore()', () => {
  test('of what is no snapshot changes nothing', async () => {
    const line = await Line.empty('cold-server.mjs')
    const server = line.launch({ mode: { restore: fileURLToPath(import.meta.url) } })
    expect(await server.until('refused')).toMatchObject({ code: 'ERR_TSUNAGI_SNAPSHOT' })
    await server.until('serving')
  })
})
