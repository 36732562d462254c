import { once } from 'node:events'
import { closeSync, fstatSync, readSync } from 'node:fs'
import { connect } from 'node:net'
import { describe, expect, it } from 'vitest'
import { native, thrownBy } from './native-under-test.js'
import { fdOf, portOf, tcpPair } from './tcp.js'

describe('sharedMemory', () => {
  it('has in its descriptor what is written into it, and only its size cannot change', () => {
    const { fd, memory } = native.sharedMemory(8192)
    try {
      expect([memory.byteLength, fstatSync(fd).size]).toEqual([8192, 8192])
      new Float64Array(memory)[1000] = 0.5
      const read = Buffer.alloc(8)
      readSync(fd, read, 0, 8, 8000)
      expect(read.readDoubleLE(0)).toBe(0.5)
    } finally {
      closeSync(fd)
    }
  })

  it('is refused without a size', () => {
    expect(thrownBy(() => native.sharedMemory(0))).toMatchObject({ code: 'EINVAL', syscall: 'mmap' })
  })
})

describe('a connection of which there is another descriptor', () => {
  it('ends by shutDownSockets', async () => {
    const { socket, client } = await tcpPair()
    const copy = native.duplicateFd(fdOf(socket))
    native.shutDownSockets(Int32Array.of(copy))
    client.resume()
    await once(client, 'end')
    native.closeFds(Int32Array.of(copy))
  })

  it('is reset by resetConnections', async () => {
    const { socket, client } = await tcpPair()
    const copy = native.duplicateFd(fdOf(socket))
    client.resume()
    const error = once(client, 'close').catch((reason) => reason)
    native.resetConnections(Int32Array.of(copy))
    expect(await error).toMatchObject({ code: 'ECONNRESET' })
    native.closeFds(Int32Array.of(copy))
  })

  it('as a listener takes no more', async () => {
    const { server } = await tcpPair()
    const copy = native.duplicateFd(fdOf(server))
    native.shutDownSockets(Int32Array.of(copy))
    expect(await once(connect(portOf(server), '127.0.0.1'), 'connect').catch((reason) => reason)).toMatchObject({ code: 'ECONNREFUSED' })
    native.closeFds(Int32Array.of(copy))
  })
})
