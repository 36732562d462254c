import { expect, test } from 'vitest'
import { OwnNetwork } from '../helpers/own-network.js'
import { describePrivileged } from '../helpers/privileged.js'

const GROUPS = [
  { kind: 'idle', toServer: 1_000 },
  { kind: 'unread', toServer: 3_000_000 },
  { kind: 'unsent', toServer: 1_000, toClient: 5_000_000 },
  { kind: 'both', toServer: 2_000_000, toClient: 2_000_000 },
  { kind: 'ended by the client', toServer: 50_000, toClient: 100 },
  { kind: 'ended by the server', toServer: 50_000, toClient: 50_000 },
  { kind: 'echo' },
].flatMap((group) => [
  { ...group, host: '127.0.0.1' },
  { ...group, host: '::1' },
])

describePrivileged('net-namespace', 'a handover whose connections were looked at in repair mode', () => {
  test('moves busy connections in every state, three times, without a retransmission more than the network asks for', async () => {
    const network = await OwnNetwork.make()
    const line = await network.line('cold-server.mjs')
    await line.launch().until('serving')
    const clients = network.launch('cold-clients.mjs', line, { groups: GROUPS })
    await clients.until('settled')
    await network.watchFlags()
    for (let reload = 0; reload < 3; reload++) {
      const successor = await line.nextWhileDraining()
      expect(await successor.until('resumed')).toMatchObject({ moved: GROUPS.length, stayed: [] })
    }
    for (const word of ['go', 'stop']) clients.tell(word)
    line.current.tell('go')
    clients.tell('finish')
    expect(await clients.until('finished')).toMatchObject({ wrong: 0, flaws: [] })
    expect(await network.flags()).toMatchObject({ rst: 0 })
  })
})
