import { expect, test } from 'vitest'
import { OwnNetwork } from '../helpers/own-network.js'
import { describePrivileged } from '../helpers/privileged.js'

describePrivileged('net-namespace', 'a server with many connections that ends and is started again', () => {
  test.for([[1_000], [9_000]] as const)('has them all, with every byte of both queues: %i', { timeout: 300_000 }, async ([count]) => {
    const network = await OwnNetwork.make()
    await network.shell('echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range')
    const line = await network.line('cold-server.mjs')
    const first = line.launch()
    await first.until('serving')
    const some = { kind: 'in all queues', toServer: 3_000, toClient: 2_000, count: count / 2 }
    const clients = network.launch('cold-clients.mjs', line, { groups: [some, { ...some, host: '::1' }] })
    await clients.until('settled')
    await network.watchFlags()
    await network.dropIncoming(line.port)
    first.tell('poke')
    await first.until('poked')
    first.kill('SIGTERM')
    await first.exited
    await network.letIncoming()

    const next = line.launch()
    expect(await next.until('resumed')).toMatchObject({ moved: count, stayed: [] })
    next.tell('go')
    clients.tell('go')
    clients.tell('finish')
    expect(await clients.until('finished')).toMatchObject({ clients: count, flaws: [] })
    expect(await network.flags()).toEqual({ fin: 0, rst: 0 })
    expect(await network.held()).toEqual({ ports: [], connections: 0, leftMs: 0 })
  })
})
