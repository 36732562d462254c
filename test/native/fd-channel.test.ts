import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { text } from 'node:stream/consumers'
import { describe, expect, test } from 'vitest'
import { bytes, closedAfterTest, identity, NO_FDS, native, pair, run, start, thrownBy } from './native-under-test.js'
import { patterned } from './tcp.js'

const into = new Uint8Array(1024)

function receive(fd: number, timeoutMs = 1000): { content: string; fds: number[] } {
  const received = native.receiveMessage(fd, into, timeoutMs)
  closedAfterTest(...received.fds)
  return { content: Buffer.from(into.subarray(0, received.bytes)).toString(), fds: received.fds }
}

/** `count` descriptors of as many different sockets. */
function manySockets(count: number): number[] {
  const fds: number[] = []
  while (fds.length < count) fds.push(...pair())
  return fds.slice(0, count)
}

describe('sendMessage and receiveMessage', () => {
  test('carry bytes in order from several chunks, empty ones among them', () => {
    const [a, b] = pair()
    native.sendMessage(a, [bytes('one '), new Uint8Array(0), bytes('two '), bytes('xthreex').subarray(1, 6)], NO_FDS, 1000)
    expect(receive(b)).toEqual({ content: 'one two three', fds: [] })
  })

  test.for([1, 3, 252])('carry %i descriptors, each of which is the same socket at the other end', (count) => {
    const [a, b] = pair()
    const sent = manySockets(count)
    native.sendMessage(a, [bytes('x')], Int32Array.from(sent), 1000)
    const { fds } = receive(b)
    expect(fds.map(identity)).toEqual(sent.map(identity))
    expect(new Set([...fds, ...sent])).toHaveLength(2 * count)
  })

  test('refuse more than 252 descriptors before anything is sent', () => {
    const [a, b] = pair()
    const error = thrownBy(() => native.sendMessage(a, [bytes('x')], new Int32Array(253).fill(a), 1000))
    expect(error).toBeInstanceOf(RangeError)
    expect(error.code).toBe('ERR_OUT_OF_RANGE')
    expect(native.pollReadable(Int32Array.of(b), 0)).toEqual([])
  })

  test('fail with EBADF when one of the descriptors is closed', () => {
    const [a] = pair()
    expect(thrownBy(() => native.sendMessage(a, [bytes('x')], Int32Array.of(a, -1), 1000))).toMatchObject({
      code: 'EBADF',
      syscall: 'sendmsg',
      message: 'sendmsg EBADF',
      errno: -9,
    })
  })

  test('keep the descriptors of two messages apart', () => {
    const [a, b] = pair()
    const [first, second] = manySockets(2) as [number, number]
    native.sendMessage(a, [bytes('1')], Int32Array.of(first), 1000)
    native.sendMessage(a, [bytes('2')], Int32Array.of(second), 1000)
    expect(receive(b).fds.map(identity)).toEqual([identity(first)])
    expect(receive(b).fds.map(identity)).toEqual([identity(second)])
  })

  test('make descriptors that no child process inherits', () => {
    const [a, b] = pair()
    const [sent] = manySockets(1) as [number]
    native.sendMessage(a, [bytes('x')], Int32Array.of(sent), 1000)
    const own = [a, b, sent, ...receive(b).fds, ...closedAfterTest(native.duplicateFd(sent))]
    const inodes = own.map((fd) => `socket:[${identity(fd).split(':')[1]}]`)
    const seenByChild = spawnSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' }).stdout
    expect(seenByChild).toContain('/proc/')
    for (const inode of inodes) expect(seenByChild).not.toContain(inode)
  })

  test('carry 24 MB in more chunks than one system call takes, with descriptors only once, to a process that reads slowly', async () => {
    const [a, b] = pair()
    const child = start(
      `const { createHash } = require('node:crypto')
       const hash = createHash('sha256'), into = new Uint8Array(100000), fdsAt = []
       for (let total = 0; ;) {
         const { bytes, fds } = native.receiveMessage(3, into, 20000)
         if (bytes === 0) break
         hash.update(into.subarray(0, bytes))
         for (const _ of fds) fdsAt.push(total)
         total += bytes
       }
       console.log(hash.digest('hex') + ' ' + fdsAt.join())`,
      { stdio: ['ignore', 'pipe', 'inherit', b] },
    )
    const content = patterned(24_000_000)
    const chunks = Array.from({ length: 6000 }, (_, index) => content.subarray(index * 4000, (index + 1) * 4000))
    const output = text(child.stdout as NodeJS.ReadableStream)
    native.sendMessage(a, chunks, Int32Array.from(manySockets(3)), 20_000)
    native.closeFds(Int32Array.of(a, b))
    expect((await output).trim()).toBe(`${createHash('sha256').update(content).digest('hex')} 0,0,0`)
  })

  test('give up at the deadline', () => {
    const [a, b] = pair()
    const started = performance.now()
    expect(thrownBy(() => native.receiveMessage(b, into, 20))).toMatchObject({ code: 'ETIMEDOUT', syscall: 'recvmsg' })
    expect(performance.now() - started).toBeGreaterThanOrEqual(20)
    expect(thrownBy(() => native.receiveMessage(b, into, 0)).code).toBe('ETIMEDOUT')
    expect(thrownBy(() => native.sendMessage(a, [new Uint8Array(10_000_000)], NO_FDS, 20))).toMatchObject({
      code: 'ETIMEDOUT',
      syscall: 'sendmsg',
    })
  })

  test('tell of a peer that closed', () => {
    const [a, b] = pair()
    native.closeFds(Int32Array.of(b))
    expect(thrownBy(() => native.sendMessage(a, [bytes('x')], NO_FDS, 1000))).toMatchObject({ code: 'EPIPE', errno: -32 })
    expect(receive(a)).toEqual({ content: '', fds: [] })
  })

  test('tell of a peer that closed without reading what was sent', () => {
    const [a, b] = pair()
    native.sendMessage(a, [bytes('x')], NO_FDS, 1000)
    native.closeFds(Int32Array.of(b))
    expect(thrownBy(() => native.receiveMessage(a, into, 1000))).toMatchObject({ code: 'ECONNRESET', syscall: 'recvmsg' })
  })

  test('close what arrived and say EMFILE when the receiver may not open more', async () => {
    const output = await run(
      `const [a, b] = native.socketPair()
       native.sendMessage(a, [Buffer.from('x')], new Int32Array(20).fill(0), 1000)
       const fill = []
       for (;;) { try { fill.push(native.duplicateFd(0)) } catch (error) { if (error.code !== 'EMFILE') throw error; break } }
       native.closeFds(Int32Array.from(fill.splice(0, 5)))
       const before = native.fdLimits().open
       let code
       try { native.receiveMessage(b, new Uint8Array(8), 1000) } catch (error) { code = error.code }
       console.log(code, native.fdLimits().open - before)`,
      { shellBefore: 'ulimit -n 100' },
    )
    expect(output).toBe('EMFILE 0')
  })
})

describe('peekFds', () => {
  test('gives copies of all descriptors in the queue, again and again, and leaves them there', () => {
    const [a, b] = pair()
    const sent = manySockets(600)
    for (let at = 0; at < sent.length; at += 252) native.sendMessage(a, [bytes('x')], Int32Array.from(sent.slice(at, at + 252)), 1000)
    for (const peerIsOpen of [true, true, false]) {
      if (!peerIsOpen) native.closeFds(Int32Array.of(a))
      expect(closedAfterTest(...native.peekFds(b)).map(identity)).toEqual(sent.map(identity))
    }
    expect(receive(b).fds.map(identity)).toEqual(sent.slice(0, 252).map(identity))
    expect(closedAfterTest(...native.peekFds(b)).map(identity)).toEqual(sent.slice(252).map(identity))
  })

  test('gives none of an empty queue', () => {
    const [a, b] = pair()
    expect(native.peekFds(b)).toEqual([])
    native.closeFds(Int32Array.of(a))
    expect(native.peekFds(b)).toEqual([])
  })

  test('says EMFILE when this process may not open more, has kept none, and leaves all of them there', async () => {
    const output = await run(
      `const [a, b] = native.socketPair()
       for (let i = 0; i < 3; i++) native.sendMessage(a, [Buffer.from('x')], new Int32Array(20).fill(0), 1000)
       const fill = []
       for (;;) { try { fill.push(native.duplicateFd(0)) } catch (error) { if (error.code !== 'EMFILE') throw error; break } }
       native.closeFds(Int32Array.from(fill.splice(0, 45)))
       const before = native.fdLimits().open
       let code
       try { native.peekFds(b) } catch (error) { code = error.code }
       const after = native.fdLimits().open
       native.closeFds(Int32Array.from(fill))
       console.log(code, after - before, native.peekFds(b).length)`,
      { shellBefore: 'ulimit -n 150' },
    )
    expect(output).toBe('EMFILE 0 60')
  })
})

describe('pollReadable', () => {
  test('gives the indexes of what is readable, hung up or not open, and nothing when the time is over', () => {
    const [idle] = pair()
    const [writer, readable] = pair()
    const [closed, hungUp] = pair()
    expect(native.pollReadable(Int32Array.of(idle, readable), 0)).toEqual([])
    native.sendMessage(writer, [bytes('x')], NO_FDS, 1000)
    native.closeFds(Int32Array.of(closed))
    expect(native.pollReadable(Int32Array.of(idle, readable, hungUp, 1_000_000), 1000)).toEqual([1, 2, 3])
  })
})
