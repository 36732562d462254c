import { once } from 'node:events'
import type { Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import { VERIFY_COLUMN, VERIFY_COLUMNS } from '../../src/native/native.js'
import { closedAfterTest, native, pair, start, thrownBy } from './native-under-test.js'
import { fdOf, patterned, portOf, tcpPair, until } from './tcp.js'

type Figures = Record<keyof typeof VERIFY_COLUMN, number>

function inspect(fd: number): Figures {
  const row = native.inspectTcp(Int32Array.of(fd))
  return Object.fromEntries(Object.entries(VERIFY_COLUMN).map(([name, column]) => [name, row[column]])) as Figures
}

describe('inspectTcp', () => {
  test('gives a row for each descriptor in order', async () => {
    const { socket, server } = await tcpPair()
    const rows = native.inspectTcp(Int32Array.of(pair()[0], fdOf(server), -1, fdOf(socket)))
    const states = [0, 1, 2, 3].map((row) => rows[row * VERIFY_COLUMNS + VERIFY_COLUMN.state])
    expect(states).toEqual([-1, 10, -1, 1])
    expect([...rows.subarray(0, VERIFY_COLUMNS)]).toEqual([-1, 0, 0, 0, 0, 0])
  })

  test('counts what the application has read and written, and what waits in the kernel', async () => {
    const { socket, client } = await tcpPair()
    const fd = fdOf(socket)
    client.write(Buffer.alloc(1000))
    socket.write(Buffer.alloc(300))
    await until(() => inspect(fd).receiveQueue === 1000 && inspect(fd).sendQueue === 0)
    expect(inspect(fd)).toMatchObject({ state: 1, consumed: 0, produced: 300, receiveQueue: 1000, sendQueue: 0 })
    socket.resume()
    await until(() => inspect(fd).receiveQueue === 0)
    expect(inspect(fd)).toMatchObject({ state: 1, consumed: 1000, produced: 300, receiveQueue: 0, sendQueue: 0 })
  })

  test('does not count a FIN, neither one that arrives nor one that is sent', async () => {
    const { socket, client } = await tcpPair({}, undefined, { allowHalfOpen: true })
    const fd = fdOf(socket)
    client.end('12345')
    await until(() => inspect(fd).state === 8)
    expect(inspect(fd)).toMatchObject({ state: 8, consumed: 0, produced: 0, receiveQueue: 5, sendQueue: 0 })
    socket.resume()
    await once(socket, 'end')
    expect(inspect(fd)).toMatchObject({ state: 8, consumed: 5, produced: 0, receiveQueue: 0, sendQueue: 0 })

    const other = await tcpPair()
    const copy = closedAfterTest(native.duplicateFd(fdOf(other.socket)))[0]
    other.client.pause()
    other.socket.end('1234567')
    await until(() => inspect(copy).state === 5)
    expect(inspect(copy)).toMatchObject({ consumed: 0, produced: 7 })
  })

  test('gives the same figures at every moment while a peer sends and acknowledges', async () => {
    const { server } = await tcpPair()
    const connected = once(server, 'connection') as Promise<[Socket]>
    const child = start(
      `const { connect } = require('node:net')
       const socket = connect({ port: ${portOf(server)}, host: '127.0.0.1', noDelay: true })
       socket.on('error', () => process.exit())
       // Small pieces both ways, or the window would be full, or the queue empty, before the first look.
       socket.once('readable', () => setInterval(() => { socket.write(Buffer.alloc(100)); socket.read(16_000) }, 1))`,
      { stdio: 'inherit' },
    )
    const [socket] = await connected
    const fd = fdOf(socket)
    const bytesWritten = 4_000_000
    socket.write(patterned(bytesWritten))
    const produced = bytesWritten - (native.writeQueueSizes(Int32Array.of(fd))[0] as number)
    const receiveQueues = new Set<number>()
    const sendQueues = new Set<number>()
    const wrong: Figures[] = []
    // Synchronous: nothing of this process reads or writes meanwhile, as in the frozen block.
    const end = performance.now() + 20_000
    while ((receiveQueues.size < 30 || sendQueues.size < 5) && performance.now() < end) {
      const figures = inspect(fd)
      receiveQueues.add(figures.receiveQueue)
      sendQueues.add(figures.sendQueue)
      if (figures.consumed !== 0 || figures.produced !== produced) wrong.push(figures)
    }
    expect(wrong).toEqual([])
    expect(receiveQueues.size).toBeGreaterThanOrEqual(30)
    expect(sendQueues.size).toBeGreaterThanOrEqual(5)
    socket.destroy()
    child.kill('SIGKILL')
  })

  test('gives the same figures through a duplicate', async () => {
    const { socket, client } = await tcpPair()
    client.write('abc')
    await until(() => inspect(fdOf(socket)).receiveQueue === 3)
    const [copy] = closedAfterTest(native.duplicateFd(fdOf(socket)))
    expect(inspect(copy)).toEqual(inspect(fdOf(socket)))
  })
})

test('inspectTcp gives an identity that tells sockets apart, whatever the end or the family', async () => {
  const one = await tcpPair()
  const two = await tcpPair({ host: '::1' })
  const fds = [one.socket, one.client, one.server, two.socket, two.client, two.server].map(fdOf)
  const hashes = fds.map((fd) => inspect(fd).identity)
  expect(new Set(hashes)).toHaveLength(6)
  expect(fds.map((fd) => inspect(fd).identity)).toEqual(hashes)
  for (const hash of hashes) expect(Number.isSafeInteger(hash)).toBe(true)
})

describe('socketAddresses', () => {
  test.for([
    ['IPv4', '127.0.0.1', '127.0.0.1'],
    ['IPv6', '::1', '::1'],
    ['IPv4 mapped into IPv6', '::', '127.0.0.1'],
  ] as const)('are those that net.Socket shows for %s', async ([, host, connectHost]) => {
    const { socket, server, client } = await tcpPair({ host }, connectHost)
    expect(native.socketAddresses(fdOf(socket))).toEqual({
      local: { family: socket.localFamily, address: socket.localAddress, port: socket.localPort },
      peer: { family: socket.remoteFamily, address: socket.remoteAddress, port: client.localPort },
      listening: false,
    })
    const bound = server.address() as { family: string; address: string; port: number }
    expect(native.socketAddresses(fdOf(server))).toEqual({ local: bound, peer: null, listening: true })
  })

  test('keep their mapped form', async () => {
    const { socket } = await tcpPair({ host: '::' }, '127.0.0.1')
    expect(native.socketAddresses(fdOf(socket)).peer).toMatchObject({ family: 'IPv6', address: '::ffff:127.0.0.1' })
  })

  test('are refused for what is no TCP socket', () => {
    expect(thrownBy(() => native.socketAddresses(-1))).toMatchObject({ code: 'EBADF', syscall: 'getsockname' })
    expect(thrownBy(() => native.socketAddresses(pair()[0]))).toMatchObject({ code: 'EAFNOSUPPORT' })
  })
})
