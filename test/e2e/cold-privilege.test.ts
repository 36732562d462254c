import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { busyConnections } from '../helpers/busy-connections.js'
import { OwnNetwork } from '../helpers/own-network.js'
import { describePrivileged } from '../helpers/privileged.js'
import type { Line, ServerProcess, Settings } from '../helpers/process.js'
import { RepairHelper } from '../helpers/repair-helper.js'

const GROUPS = busyConnections()

/** Stops the server, waits, starts it again; what its clients found wrong. */
async function restart(network: OwnNetwork, line: Line, settings: Settings): Promise<{ clients: ServerProcess; second: ServerProcess }> {
  const first = line.launch(settings)
  await first.until('serving')
  const clients = network.launch('cold-clients.mjs', line, { groups: GROUPS })
  await clients.until('settled')
  await network.watchFlags()
  first.kill('SIGINT')
  expect(await first.exited).toEqual({ code: null, signal: 'SIGINT' })
  await delay(300) // the gap
  const second = line.launch(settings)
  expect(await second.until('resumed')).toMatchObject({ holder: 'snapshot', moved: GROUPS.length, stayed: [] })
  return { clients, second }
}

async function allIsRight(network: OwnNetwork, { clients, second }: { clients: ServerProcess; second: ServerProcess }): Promise<void> {
  for (const word of ['go', 'stop']) clients.tell(word)
  second.tell('go')
  clients.tell('finish')
  expect(await clients.until('finished')).toMatchObject({ wrong: 0, flaws: [] })
  expect(await network.flags()).toMatchObject({ rst: 0 })
  expect(await network.held()).toEqual({ ports: [], connections: 0, leftMs: 0 })
}

describePrivileged('net-namespace', 'connections are saved and restored', () => {
  test('by a server without any capability, through a helper that has it', async () => {
    const network = await OwnNetwork.make()
    const helper = await RepairHelper.start(network.pid)
    const line = await network.line('cold-server.mjs', { env: { TSUNAGI_HELPER: helper.path } })
    helper.own(line.directory)
    const restarted = await restart(network, line, { command: [...helper.withoutRights, process.execPath] })
    await allIsRight(network, restarted)
  })

  test('by a server whose helper was started again in between', async () => {
    const network = await OwnNetwork.make()
    const helper = await RepairHelper.start(network.pid)
    const line = await network.line('cold-server.mjs', { env: { TSUNAGI_HELPER: helper.path } })
    helper.own(line.directory)
    const settings = { command: [...helper.withoutRights, process.execPath] }
    const first = line.launch(settings)
    await first.until('serving')
    helper.process.kill('SIGKILL')
    await helper.startAgain()
    first.kill('SIGINT')
    expect(await first.exited).toEqual({ code: null, signal: 'SIGINT' })
    expect(first.stderr).toContain('.snapshot')
  })

  test('by root of an unprivileged user and network namespace', async () => {
    const network = await OwnNetwork.make('user')
    const line = await network.line('cold-server.mjs')
    await allIsRight(network, await restart(network, line, {}))
  })

  test('by nobody without either, who is told why, and whose connections drain', async () => {
    const network = await OwnNetwork.make()
    const helper = await RepairHelper.start(network.pid)
    const line = await network.line('cold-server.mjs')
    helper.own(line.directory)
    const server = line.launch({ command: [...helper.withoutRights, process.execPath] })
    await server.until('serving')
    server.kill('SIGINT')
    await server.exited
    expect(server.stderr).toMatch(/CAP_NET_ADMIN/)
    expect(await network.held()).toMatchObject({ ports: [] })
  })
})
