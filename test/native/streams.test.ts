import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import { native, pair, thrownBy } from './native-under-test.js'
import { adopt, collect, fdOf, loopHasPolled, patterned, portOf, tcpPair, until } from './tcp.js'

/** What the old process does with a socket: the tail and a duplicate are taken, the handle is destroyed. */
function leave(socket: Socket): { fd: number; tail: Uint8Array } {
  const [tail] = native.copyWriteQueues(Int32Array.of(fdOf(socket)))
  const fd = native.duplicateFd(fdOf(socket))
  socket.on('error', () => {})
  socket.destroy()
  return { fd, tail: tail as Uint8Array }
}

describe('the write queue', () => {
  test('is empty when nothing waits, and absent where no stream has that descriptor', async () => {
    const { socket, server, client } = await tcpPair()
    const sizes = native.writeQueueSizes(Int32Array.of(fdOf(socket), pair()[0], -1, fdOf(client), fdOf(server), 1_000_000))
    expect([...sizes]).toEqual([0, -1, -1, 0, 0, -1])
    expect(native.copyWriteQueues(Int32Array.of(fdOf(socket)))).toEqual([Buffer.alloc(0)])
  })

  test('of a closed handle is absent, also before its close has finished', async () => {
    const { socket } = await tcpPair()
    const fd = fdOf(socket)
    socket.destroy()
    expect([...native.writeQueueSizes(Int32Array.of(fd))]).toEqual([-1])
    expect(native.stopReading(Int32Array.of(fd))).toBe(0)
    const error = thrownBy(() => native.copyWriteQueues(Int32Array.of(fd)))
    expect(error).toMatchObject({ code: 'EBADF', syscall: 'copyWriteQueues' })
    expect(error.message).toContain(`fd ${fd}`)
  })

  const content = patterned(20_971_544)
  const ways: [string, (socket: Socket) => void][] = [
    ['one write of 20 MB', (socket) => socket.write(content)],
    ['one write of a string', (socket) => socket.write(content.toString('latin1'), 'latin1')],
    [
      'corked writes of many sizes',
      (socket) => {
        socket.cork()
        let offset = 0
        for (let size = 1; offset < content.length; size = size * 3 + 1) {
          const end = Math.min(offset + Math.min(size, 3_000_000), content.length)
          socket.write(content.subarray(offset, end))
          offset = end
        }
        socket.uncork()
      },
    ],
  ]
  test.for(ways)('is the exact tail after %s to a client that does not read', async ([, write]) => {
    const { socket, client } = await tcpPair()
    write(socket)
    const [size = 0] = native.writeQueueSizes(Int32Array.of(fdOf(socket)))
    expect(size).toBe((socket as unknown as { _handle: { writeQueueSize: number } })._handle.writeQueueSize)
    expect(size).toBeGreaterThan(10_000_000)
    const { fd, tail } = leave(socket)
    expect(tail).toHaveLength(size)
    expect(content.subarray(content.length - size).equals(tail)).toBe(true)
    adopt(fd).end(tail)
    expect((await collect(client)).equals(content)).toBe(true)
  })

  test('shrinks by what the client reads, down to a tail that starts in the middle of a chunk', async () => {
    const { socket, client } = await tcpPair()
    socket.cork()
    for (let offset = 0; offset < content.length; offset += 1_000_003) socket.write(content.subarray(offset, offset + 1_000_003))
    socket.uncork()
    const size = () => native.writeQueueSizes(Int32Array.of(fdOf(socket)))[0] as number
    const whole = size()
    const early: Buffer[] = []
    client.on('data', (chunk) => early.push(chunk))
    await until(() => size() < whole - 2_000_000)
    client.pause()
    client.removeAllListeners('data')
    const { fd, tail } = leave(socket)
    expect(tail.length).toBeLessThan(whole)
    adopt(fd).end(tail)
    expect(Buffer.concat([...early, await collect(client)]).equals(content)).toBe(true)
  })

  test('is found for many sockets in one call, in the order asked for', async () => {
    const pairs = await Promise.all(Array.from({ length: 20 }, () => tcpPair()))
    pairs.forEach(({ socket }, index) => {
      if (index % 3 === 0) socket.write(content.subarray(0, 12_000_000 + index))
    })
    const fds = Int32Array.from(pairs, ({ socket }) => fdOf(socket)).reverse()
    const sizes = native.writeQueueSizes(fds)
    const copies = native.copyWriteQueues(fds)
    expect(copies.map((copy) => copy.length)).toEqual([...sizes])
    pairs.reverse().forEach((_, index) => {
      const waits = (19 - index) % 3 === 0
      expect((sizes[index] ?? -1) > 0).toBe(waits)
      if (!waits) return
      const end = 12_000_000 + 19 - index
      expect(content.subarray(end - (copies[index] as Uint8Array).length, end).equals(copies[index] as Uint8Array)).toBe(true)
    })
  })

  test('still adds up in the turn in which the peer resets the connection', async () => {
    const { socket, client } = await tcpPair()
    const failed = once(socket, 'error')
    socket.write(content)
    client.resetAndDestroy()
    const fds = Int32Array.of(fdOf(socket))
    socket.write('more')
    expect(native.writeQueueSizes(fds)[0]).toBeGreaterThan(0)
    expect((await failed)[0]).toMatchObject({ code: expect.stringMatching(/ECONNRESET|EPIPE/) })
  })
})

describe('stopReading', () => {
  test('leaves everything that arrives from then on in the kernel, for whoever reads next', async () => {
    const { socket, client } = await tcpPair()
    const got: string[] = []
    socket.on('data', (chunk) => got.push(String(chunk))).resume()
    client.write('read ')
    await once(socket, 'data')
    const fd = fdOf(socket)
    expect(native.stopReading(Int32Array.of(fd, -1, 1_000_000))).toBe(1)
    client.end('left')
    await until(() => native.inspectTcp(Int32Array.of(fd))[3] === 4)
    await loopHasPolled()
    expect(got).toEqual(['read '])
    const copy = native.duplicateFd(fd)
    socket.destroy()
    expect(String(await collect(adopt(copy)))).toBe('left')
  })

  test('may be repeated, and counts listeners although they go on accepting', async () => {
    const { socket, server } = await tcpPair()
    const fds = Int32Array.of(fdOf(socket), fdOf(server))
    expect(native.stopReading(fds)).toBe(2)
    expect(native.stopReading(fds)).toBe(2)
    const client = connect(portOf(server), '127.0.0.1')
    const [accepted] = (await once(server, 'connection')) as [Socket]
    accepted.destroy()
    client.destroy()
  })
})
