import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import { serverFdOf } from '../../src/native/net-internals.js'
import { identity, isOpen, native, pair, run, thrownBy } from './native-under-test.js'

describe('closeFds', () => {
  test('closes each and counts those that were open', () => {
    const [a, b] = native.socketPair()
    expect(native.closeFds(Int32Array.of(a, -1, b, 1_000_000, a))).toBe(2)
    expect(isOpen(a) || isOpen(b)).toBe(false)
  })
})

describe('duplicateFd', () => {
  test('gives another number for the same file', () => {
    const [a] = pair()
    const copy = native.duplicateFd(a)
    expect(copy).not.toBe(a)
    expect(identity(copy)).toBe(identity(a))
    expect(readFileSync(`/proc/self/fdinfo/${copy}`, 'latin1')).toMatch(/flags:\s+02\d{6}/)
    native.closeFds(Int32Array.of(copy))
  })

  test('says EBADF for what is not open', () => {
    expect(thrownBy(() => native.duplicateFd(1_000_000))).toMatchObject({
      code: 'EBADF',
      errno: -9,
      syscall: 'fcntl',
      message: 'fcntl EBADF',
    })
  })
})

describe('dropSyns', () => {
  test('finishes handshakes, keeps the backlog and lets no new client in', async () => {
    const server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const accepted = once(server, 'connection')
    const before = connect(port, '127.0.0.1')
    await once(before, 'connect')
    native.dropSyns(serverFdOf(server))
    const [socket] = (await accepted) as [Socket]
    before.write('still here')
    expect(String((await once(socket, 'data'))[0])).toBe('still here')
    const after = connect(port, '127.0.0.1')
    after.on('connect', () => expect.unreachable('a handshake was begun'))
    for (const other of [before, socket]) other.destroy()
    server.close()
    await once(server, 'close')
    // Its first packet was dropped; repeated, it meets nobody.
    const [error] = (await once(after, 'error')) as [NodeJS.ErrnoException]
    expect(error.code).toBe('ECONNREFUSED')
  })

  test('says ENOTSOCK for what is no socket', () => {
    const fd = openSync('/dev/null', 'r')
    expect(thrownBy(() => native.dropSyns(fd))).toMatchObject({ code: 'ENOTSOCK', syscall: 'setsockopt' })
    closeSync(fd)
  })
})

describe('growFdTable', () => {
  const sizeOf = `const size = () => Number(/FDSize:\\s+(\\d+)/.exec(require('node:fs').readFileSync('/proc/self/status', 'latin1'))[1])`

  test('makes room at once and leaves no descriptor open', async () => {
    const output = await run(`${sizeOf}
      const before = [size(), native.fdLimits().open]
      native.growFdTable(3000)
      console.log(before[0] < 3000, size() >= 3000, native.fdLimits().open - before[1])`)
    expect(output).toBe('true true 0')
  })

  test('stops at the limit without an error, even when every number is taken', async () => {
    const output = await run(
      `${sizeOf}
       native.growFdTable(2 ** 31 - 1)
       const grown = size()
       try { for (;;) native.duplicateFd(0) } catch {}
       native.growFdTable(100000)
       native.growFdTable(0)
       console.log(grown >= 300 && grown <= 1024)`,
      { shellBefore: 'ulimit -n 300' },
    )
    expect(output).toBe('true')
  })
})

describe('fdLimits and raiseFdLimit', () => {
  test('count every open descriptor', () => {
    const before = native.fdLimits()
    const fds = [...native.socketPair(), openSync('/dev/null', 'r')]
    expect(native.fdLimits()).toEqual({ ...before, open: before.open + 3 })
    native.closeFds(Int32Array.from(fds))
    expect(native.fdLimits()).toEqual(before)
  })

  test('raise the soft limit to the hard one', async () => {
    // Node raises its own soft limit when it starts: prlimit takes it back first.
    const output = await run(
      `require('node:child_process').execFileSync('prlimit', ['--pid', String(process.pid), '--nofile=150:300'])
       const before = native.fdLimits()
       native.raiseFdLimit()
       const after = native.fdLimits()
       console.log(before.soft, before.hard, after.soft, after.hard)`,
    )
    expect(output).toBe('150 300 300 300')
  })
})
