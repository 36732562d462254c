import { expect, test } from 'vitest'
import { busyConnections } from '../helpers/busy-connections.js'
import { OwnNetwork } from '../helpers/own-network.js'
import { describePrivileged } from '../helpers/privileged.js'

const GROUPS = busyConnections()

describePrivileged('net-namespace', 'a handover whose connections were looked at in repair mode', () => {
  test('moves busy connections in every state, three times, every byte and no reset', async () => {
    const network = await OwnNetwork.make()
    const line = await network.line('cold-server.mjs')
    await line.launch().until('serving')
    const clients = network.launch('cold-clients.mjs', line, { groups: GROUPS })
    await clients.until('settled')
    // Of the clients' connections alone: what warms a successor up resets connections of its own.
    await network.shell(`nft 'table inet seen { counter rst {}; chain c { type filter hook prerouting priority -400;
      tcp sport ${line.port} tcp flags & rst == rst counter name rst; tcp dport ${line.port} tcp flags & rst == rst counter name rst; }; }'`)
    for (let reload = 0; reload < 3; reload++) {
      const successor = await line.nextWhileDraining()
      expect(await successor.until('resumed')).toMatchObject({ moved: GROUPS.length, stayed: [] })
    }
    for (const word of ['go', 'stop']) clients.tell(word)
    line.current.tell('go')
    clients.tell('finish')
    expect(await clients.until('finished')).toMatchObject({ wrong: 0, flaws: [] })
    expect(await network.shell('nft list counter inet seen rst')).toContain('packets 0 ')
  })
})
