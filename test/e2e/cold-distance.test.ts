import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Ethernet } from '../helpers/hosts.js'
import { describePrivileged } from '../helpers/privileged.js'
import { Line } from '../helpers/process.js'

const GROUPS = [
  { kind: 'idle', toServer: 1_000 },
  { kind: 'unread', toServer: 300_000 },
  { kind: 'unsent', toServer: 1_000, toClient: 2_000_000 },
  { kind: 'both', toServer: 500_000, toClient: 1_000_000 },
  { kind: 'ended by the client', toServer: 50_000, toClient: 100 },
  { kind: 'ended by the server', toServer: 50_000, toClient: 50_000 },
  { kind: 'echo' },
].flatMap((group) => [
  { ...group, host: '10.77.0.1' },
  { ...group, host: 'fd77::1' },
])

describePrivileged('net-namespace', 'clients far away, of whose packets some are lost', () => {
  test('go on byte for byte after a cold restart and a handover', { timeout: 120_000 }, async () => {
    const ethernet = await Ethernet.make()
    const home = await ethernet.host()
    const far = await ethernet.host({ loss: 0.02, delayMs: 15 })
    const line = await Line.empty('cold-server.mjs', { command: home.command, env: { TSUNAGI_ON_EXIT: 'snapshot' } })
    const first = line.launch()
    await first.until('serving')
    const clients = far.launch('cold-clients.mjs', line, { groups: GROUPS })
    await clients.until('settled')
    await far.watchFlags()

    first.kill('SIGINT')
    await first.exited
    await delay(1_000) // the gap
    const second = line.launch()
    expect(await second.until('resumed')).toMatchObject({ holder: 'snapshot', moved: GROUPS.length, stayed: [] })
    const third = await line.nextWhileDraining()
    expect(await third.until('resumed')).toMatchObject({ moved: GROUPS.length })

    for (const word of ['go', 'stop']) clients.tell(word)
    third.tell('go')
    clients.tell('finish')
    expect(await clients.until('finished')).toMatchObject({ wrong: 0, flaws: [] })
    expect(await far.flags()).toMatchObject({ rst: 0 })
  })
})
