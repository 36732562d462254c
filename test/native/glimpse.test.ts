import { expect, test } from 'vitest'
import { CONNECTION_COLUMN, CONNECTION_REFUSALS } from '../../src/native/repair.js'
import { describePrivileged } from '../helpers/privileged.js'
import { namespace } from './namespace.js'
import { run } from './native-under-test.js'

const families = ['IPv4', 'IPv6', 'mapped'] as const

describePrivileged('net-namespace', 'glimpseConnections', () => {
  test.for(families)('tells what a snapshot would, and the connection goes on: %s', async (family) => {
    const result = await (await namespace()).run(
      async (tools, { family }) => {
        const { native, until, lengthOf, patterned } = tools
        const it = await tools.connection(family)
        it.client.write(patterned(1000, 3))
        await until(() => tools.inspect(it.fd).receiveQueue === 1000, 'the bytes')
        const counters = tools.watchPackets()
        const fds = Int32Array.of(it.fd)
        const glimpsed = native.glimpseConnections(fds)
        const { fin, rst } = counters()
        const row = tools.rowOf(glimpsed.figures)
        tools.writeSync(it.fd, patterned(5000, 4))
        await until(() => lengthOf(it.clientGot) === 5000, 'the answer')
        const moved = tools.move(it.fd, it.port, true)
        const same = Object.entries(moved.row).filter(
          ([name, value]) => !['sendSequence', 'timestamp'].includes(name) && !Object.is(value, row[name as keyof typeof row]),
        )
        return {
          same: same.map(([name]) => name).filter((name) => !name.startsWith('window') && !name.endsWith('Buffer')),
          tuples: Buffer.from(glimpsed.tuples).equals(Buffer.from(moved.record.tuples)),
          produced: moved.row.sendSequence - row.sendSequence,
          queues: glimpsed.queues.length,
          fin,
          rst,
        }
      },
      { family },
    )
    expect(result).toEqual({ same: [], tuples: true, produced: 5000, queues: 0, fin: 0, rst: 0 })
  })

  test('keeps away from a send queue with unsent bytes, and keeps SO_REUSEADDR', async () => {
    const result = await (await namespace()).run(async (tools) => {
      const { native, until, lengthOf, patterned } = tools
      const it = await tools.connection('IPv4', { clientReads: false })
      const written = tools.fill(it.fd, patterned(30_000_000, 5))
      await tools.settled(() => tools.inspect(it.fd).sendQueue)
      const rows: ReturnType<typeof tools.rowOf>[] = []
      for (let look = 0; look < 100; look++) rows.push(tools.rowOf(native.glimpseConnections(Int32Array.of(it.fd)).figures))
      it.client.resume()
      await until(() => lengthOf(it.clientGot) === written, 'everything')
      return {
        refusals: rows.filter(({ refusal }) => refusal !== 0).length,
        sequences: rows.filter(({ sendSequence }) => !Number.isNaN(sendSequence)).length,
        right: Buffer.concat(it.clientGot).equals(patterned(30_000_000, 5).subarray(0, written)),
        reuse: rows.filter(({ reuseAddress }) => reuseAddress !== rows[0]?.reuseAddress).length,
      }
    }, null)
    expect(result).toEqual({ refusals: 0, sequences: 0, right: true, reuse: 0 })
  })
})

describePrivileged('other-uid', 'glimpseConnections', () => {
  test('without CAP_NET_ADMIN changes nothing and says so for each', async () => {
    const output = await run(
      `const net = require('node:net')
       const server = net.createServer((socket) => {
         const { figures } = native.glimpseConnections(Int32Array.of(socket._handle.fd))
         console.log(JSON.stringify([figures[${CONNECTION_COLUMN.refusal}], figures[${CONNECTION_COLUMN.errno}]]))
         process.exit()
       }).listen(0, '127.0.0.1', () => net.connect(server.address().port, '127.0.0.1'))`,
      { shellBefore: 'exec setpriv --bounding-set=-all --inh-caps=-all --reuid=65534 --regid=65534 --clear-groups "$@"' },
    )
    expect(JSON.parse(output)).toEqual([CONNECTION_REFUSALS.indexOf('not-in-repair'), 1])
  })
})
