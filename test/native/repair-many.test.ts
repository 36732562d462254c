import { expect, test } from 'vitest'
import { describePrivileged } from '../helpers/privileged.js'
import { namespace } from './namespace.js'
import type { Tools } from './namespace-tools.js'

describePrivileged('net-namespace', 'a restored socket', () => {
  test.for(['IPv4', 'IPv6', 'mapped'] as const)('has every option that the application has set: %s', async (family) => {
    const { row, restored, again, names } = await (await namespace()).run(
      async (tools, { family }) => {
        const it = await tools.connection(family)
        // What Node cannot set Python sets, on the descriptor that it inherits.
        const ip =
          family === 'IPv6' ? 's.setsockopt(41, 67, 40); s.setsockopt(41, 16, 33)' : 's.setsockopt(0, 1, 40); s.setsockopt(0, 2, 33)'
        const script = `
import socket
s = socket.socket(fileno=3)
tcp = socket.IPPROTO_TCP
s.setsockopt(1, socket.SO_KEEPALIVE, 1)
for option, value in ((4, 123), (5, 7), (6, 3), (1, 1), (18, 9000)): s.setsockopt(tcp, option, value)
s.setsockopt(1, socket.SO_LINGER, (1).to_bytes(4, 'little') + (5).to_bytes(4, 'little'))
${ip}
s.setsockopt(1, socket.SO_PRIORITY, 4)
s.setsockopt(1, 36, 77)
s.setsockopt(1, socket.SO_SNDBUF, 50000)
s.setsockopt(tcp, 13, b'reno')
s.setsockopt(1, 25, b'lo')
s.detach()`
        tools.childProcess.execFileSync('python3', ['-c', script], { stdio: ['ignore', 'inherit', 'inherit', it.fd] })
        const { row, record, restored } = tools.move(it.fd, it.port, true)
        return { row, restored, again: tools.rowOf(tools.dump(restored.fd).figures), names: record.names }
      },
      { family },
    )
    const set = { linger: 5, keepAlive: 1, keepAliveIdle: 123, keepAliveInterval: 7, keepAliveCount: 3, noDelay: 1, userTimeout: 9000 }
    const ip = family === 'IPv6' ? { trafficClass: 40, hopLimit: 33, tos: Number.NaN, ttl: Number.NaN } : { tos: 40, ttl: 33 }
    const all = { ...set, ...ip, priority: 4, mark: 77, sendBuffer: 100_000, bufferLock: 1, congestion: 0, device: 1, reuseAddress: 1 }
    expect(names).toEqual(['reno', 'lo'])
    expect(row).toMatchObject({ refusal: 0, ...all })
    expect(restored).toMatchObject({ errno: 0, optionsRefused: 0 })
    expect(again).toMatchObject({ refusal: 0, ...all })
  })

  test('with a link-local address finds its interface', async () => {
    const result = await (await namespace()).run(async (tools) => {
      const { native, until } = tools
      // Two interfaces have the same subnet fe80::/64.
      tools.shell('ip link add left type veth peer name right && ip link set left up && ip link set right up')
      tools.shell('ip addr add fe80::1/64 dev left nodad && ip addr add fe80::2/64 dev left nodad')
      const server = tools.net.createServer({ pauseOnConnect: true }).listen(0, 'fe80::1%left')
      await tools.once(server, 'listening')
      const { port } = server.address() as import('node:net').AddressInfo
      const client = tools.net.connect({ port, host: 'fe80::1%left', localAddress: 'fe80::2%left' })
      const [[socket]] = await Promise.all([tools.once(server, 'connection'), tools.once(client, 'connect')])
      const fd = native.duplicateFd(tools.fdOf(socket))
      socket.destroy()
      const { row, restored, record } = tools.move(fd, port, true)
      client.write('x')
      await until(() => tools.inspect(restored.fd).receiveQueue === 1)
      return { scope: record.names[row.scope], errno: restored.errno }
    }, null)
    expect(result).toEqual({ scope: 'left', errno: 0 })
  })
})

/** Every connection talks before and after; each has bytes unread and bytes not acknowledged in between. */
async function moveMany(tools: Tools, { count }: { count: number }) {
  const { native, net, once, until, lengthOf } = tools
  tools.shell('echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range')
  native.growFdTable(4 * count)
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }).listen({ port: 0, host: '::', backlog: 4096 })
  await once(server, 'listening')
  const { port } = server.address() as import('node:net').AddressInfo
  // By address and port: an IPv4 and an IPv6 client may have the same port.
  const nameOf = (address: string | undefined, port: number | undefined) => `${address?.includes('.') ? 4 : 6} ${port}`
  const fdOfPeer = new Map<string, number>()
  server.on('connection', (socket) => {
    fdOfPeer.set(nameOf(socket.remoteAddress, socket.remotePort), native.duplicateFd(tools.fdOf(socket)))
    socket.destroy()
  })
  const clients: { client: import('node:net').Socket; got: Buffer[] }[] = []
  for (let made = 0; made < count; made++) {
    const client = net.connect({ port, host: made % 2 === 0 ? '127.0.0.1' : '::1' })
    clients.push({ client, got: tools.collecting(client) })
    if (made % 200 === 199) await until(() => fdOfPeer.size === made + 1, 'connections')
  }
  await until(() => fdOfPeer.size === count && clients.every(({ client }) => !client.connecting), 'all connections')
  const fds = Int32Array.from(clients, ({ client }) => fdOfPeer.get(nameOf(client.localAddress, client.localPort)) as number)

  native.holdCreate()
  const counters = tools.watchPackets()
  for (const { client } of clients) client.write(`to the server ${client.localPort}`)
  await until(() => tools.inspect(fds[count - 1] as number).receiveQueue > 0, 'bytes')
  const ports = Int32Array.of(port)
  const none = new Uint8Array(0)
  const times: Record<string, number> = {}
  const timed = <Result>(name: string, call: () => Result): Result => {
    const start = performance.now()
    const value = call()
    times[name] = Math.round((performance.now() - start) * 10) / 10
    return value
  }
  timed('hold', () => native.holdAdd(ports, none, 60_000))
  const entered = timed('enter', () => native.enterRepair(fds))
  const record = timed('dump', () => native.dumpConnections(fds, entered, true))
  timed('close', () => native.closeFds(fds))
  const results = timed('restore', () => native.restoreConnections(record.figures, record.tuples, record.names, record.queues, true))
  timed('release', () => native.holdRelease(ports, none))
  const restored = clients.map((_, row) => tools.restoredRow(results, row))
  const newFds = Int32Array.from(restored, ({ fd }) => fd)
  const left = timed('leave', () => native.leaveRepair(newFds, entered, true))

  const buffer = Buffer.alloc(100)
  let rightAtServer = 0
  for (const [row, { client }] of clients.entries()) {
    const text = buffer.toString('latin1', 0, tools.readSync(newFds[row] as number, buffer))
    if (text === `to the server ${client.localPort}`) rightAtServer++
    tools.writeSync(newFds[row] as number, `to the client ${client.localPort}`)
  }
  await until(() => clients.every(({ got }) => lengthOf(got) >= 15), 'all clients')
  return {
    times,
    rightAtServer,
    rightAtClient: clients.filter(({ client, got }) => Buffer.concat(got).toString() === `to the client ${client.localPort}`).length,
    failed: restored.filter(({ errno }) => errno !== 0).length + left.filter((error) => error !== 0).length,
    seen: counters(),
  }
}

describePrivileged('net-namespace', '9,000 connections, half of them IPv4, half IPv6', () => {
  test('go on byte for byte, and no peer sees a FIN or RST', async () => {
    const count = 9_000
    const result = await (await namespace()).run(moveMany, { count })
    console.log(`${count} connections saved and restored, ms:`, JSON.stringify(result.times))
    expect(result).toMatchObject({ rightAtServer: count, rightAtClient: count, failed: 0, seen: { fin: 0, rst: 0 } })
  })
})

describePrivileged('net-namespace', 'without root on this machine, in a user namespace', () => {
  test('connections are held, saved and restored as well', async () => {
    const result = await (await namespace('user')).run(moveMany, { count: 500 })
    expect(result).toMatchObject({ rightAtServer: 500, rightAtClient: 500, failed: 0, seen: { fin: 0, rst: 0 } })
  })

  test('queues that the smaller buffers cannot hold are left to the caller, and nothing is lost', async () => {
    const result = await (await namespace('user')).run(async (tools) => {
      const { patterned, lengthOf, until } = tools
      const it = await tools.connection('IPv4')
      tools.shell('echo 4096 16777216 33554432 > /proc/sys/net/ipv4/tcp_rmem')
      const wide = await tools.connection('IPv4')
      const toServer = patterned(30_000_000, 1)
      wide.client.write(toServer)
      await tools.settled(() => tools.inspect(wide.fd).receiveQueue)
      const { row, restored, record } = tools.move(wide.fd, wide.port, true)
      const socket = tools.adopt(restored.fd)
      const serverGot = tools.collecting(socket)
      if (restored.receiveQueue === 0) serverGot.push(Buffer.from(record.queues.subarray(0, row.receiveQueue)))
      await until(() => lengthOf(serverGot) >= toServer.length, 'everything')
      it.client.destroy()
      return { queued: row.receiveQueue, restored, all: Buffer.concat(serverGot).equals(toServer) }
    }, null)
    expect(result.queued).toBeGreaterThan(1_000_000)
    expect(result.restored).toMatchObject({ errno: 0, state: 1, receiveQueue: 0 })
    expect(result.all).toBe(true)
  })
})
