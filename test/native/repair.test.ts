import { expect, test } from 'vitest'
import { describePrivileged } from '../helpers/privileged.js'
import { namespace } from './namespace.js'
import type { Family, Tools } from './namespace-tools.js'

type Contents = 'empty' | 'unread' | 'unacked' | 'unsent' | 'full both ways' | 'zero window'
interface Case {
  family: Family
  contents: Contents
  hold: 'port' | 'tuple'
}

/** One connection goes through all of it and then has a conversation, which shows whether a byte is missing. */
async function saveAndRestore(tools: Tools, { family, contents, hold }: Case) {
  const { native, until, patterned, lengthOf } = tools
  const clientStops = contents === 'unsent' || contents === 'full both ways'
  const it = await tools.connection(family, { clientReads: !clientStops })
  const toServer: Buffer[] = []
  const toClient: Buffer[] = []
  const { fd } = it
  let recovers = () => {}
  if (contents === 'unread') {
    toServer.push(patterned(100_000, 1))
    it.client.write(toServer[0] as Buffer)
    await until(() => tools.inspect(fd).receiveQueue === 100_000, 'unread bytes')
  }
  if (contents === 'full both ways' || contents === 'zero window') {
    toServer.push(patterned(40_000_000, 1))
    it.client.write(toServer[0] as Buffer)
    await tools.settled(() => tools.inspect(fd).receiveQueue)
  }
  if (contents === 'unacked') {
    recovers = tools.dropIncoming(it.port)
    const content = patterned(60_000, 2)
    toClient.push(content.subarray(0, tools.fill(fd, content)))
    await until(() => lengthOf(it.clientGot) > 0, 'the client to get something')
  }
  if (clientStops) {
    const content = patterned(40_000_000, 3)
    let written = 0
    await tools.settled(() => (written += tools.fill(fd, content.subarray(written))))
    toClient.push(content.subarray(0, written))
  }

  native.holdCreate()
  const counters = tools.watchPackets()
  const ports = hold === 'port' ? Int32Array.of(it.port) : new Int32Array(0)
  const tuples = hold === 'port' ? new Uint8Array(0) : native.connectionTuples(Int32Array.of(fd))
  native.holdAdd(ports, tuples, 10_000)
  const record = tools.dump(fd)
  const row = tools.rowOf(record.figures)
  native.closeFds(Int32Array.of(fd))
  recovers()

  native.holdAdd(ports, tuples, 10_000)
  const restored = tools.restore(record, true)
  const again = tools.rowOf(native.dumpConnections(Int32Array.of(restored.fd), Int32Array.of(1), true).figures)
  const released = native.holdRelease(ports, tuples)
  const left = native.leaveRepair(Int32Array.of(restored.fd), Int32Array.of(row.reuseAddress), true)[0]
  const socket = tools.adopt(restored.fd)
  const serverGot = tools.collecting(socket)
  socket.write(record.queues.subarray(row.receiveQueue + restored.sent))
  it.client.resume()
  for (let round = 0; round < 3; round++) {
    toClient.push(patterned(50_000, 100 + round))
    socket.write(toClient.at(-1) as Buffer)
    toServer.push(patterned(50_000, 200 + round))
    it.client.write(toServer.at(-1) as Buffer)
    await until(() => lengthOf(it.clientGot) >= lengthOf(toClient) && lengthOf(serverGot) >= lengthOf(toServer), `round ${round}`)
  }
  const seen = counters()
  socket.end()
  it.client.end()
  await tools.once(it.client, 'close')
  it.server.close()
  return {
    row,
    restored,
    again,
    released,
    left,
    seen,
    clientGotAll: Buffer.concat(it.clientGot).equals(Buffer.concat(toClient)),
    serverGotAll: Buffer.concat(serverGot).equals(Buffer.concat(toServer)),
  }
}

const families: Family[] = ['IPv4', 'IPv6', 'mapped']
const allContents: Contents[] = ['empty', 'unread', 'unacked', 'unsent', 'full both ways', 'zero window']

describePrivileged('net-namespace', 'a connection that is saved, closed and restored', () => {
  const cases = families.flatMap((family) =>
    allContents.flatMap((contents) => (['port', 'tuple'] as const).map((hold) => ({ family, contents, hold }) satisfies Case)),
  )
  test.for(cases)('goes on byte for byte: $family, $contents, held by $hold', async (given) => {
    const result = await (await namespace()).run(saveAndRestore, given)
    expect(result).toMatchObject({ released: 1, left: 0, seen: { fin: 0, rst: 0 }, clientGotAll: true, serverGotAll: true })
    const { row, restored, again } = result
    expect(row).toMatchObject({ refusal: 0, state: 1, family: given.family === 'IPv4' ? 2 : 10, ownFin: 0, peerFin: 0 })
    expect({ unread: row.receiveQueue > 0, unacked: row.sent > 0, unsent: row.unsent > 0 }).toEqual(expected[given.contents])
    expect(restored).toMatchObject({ errno: 0, step: 0, state: 1, receiveQueue: row.receiveQueue, sent: row.sent, optionsRefused: 0 })
    // What a restored socket says of itself in repair mode is what was saved, but for the clock and what was left to the caller.
    const { timestamp, sendSequence, unsent, window, receiveBuffer, sendBuffer, ...same } = row
    expect(again).toMatchObject({ ...same, sendSequence: (sendSequence - unsent) >>> 0, unsent: 0 })
    expect((again.timestamp - timestamp) >>> 0).toBeLessThan(60_000)
    expect(again.receiveBuffer).toBeGreaterThanOrEqual(receiveBuffer)
    expect(again.sendBuffer).toBeGreaterThanOrEqual(sendBuffer)
  })
})

const expected: Record<Contents, { unread: boolean; unacked: boolean; unsent: boolean }> = {
  empty: { unread: false, unacked: false, unsent: false },
  unread: { unread: true, unacked: false, unsent: false },
  unacked: { unread: false, unacked: true, unsent: false },
  unsent: { unread: false, unacked: false, unsent: true },
  'full both ways': { unread: true, unacked: false, unsent: true },
  'zero window': { unread: true, unacked: false, unsent: false },
}
