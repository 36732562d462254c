import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { bytes, closedAfterTest, NO_FDS, native, pair, start, temporaryFolder, thrownBy } from './native-under-test.js'

function listening(backlog = 8) {
  const folder = temporaryFolder()
  const path = join(folder, 'control')
  const [fd] = closedAfterTest(native.listenUnix(join(folder, 'private'), path, backlog))
  return { folder, path, fd }
}

function exchange(from: number, to: number): string {
  native.sendMessage(from, [bytes('hello')], NO_FDS, 1000)
  const into = new Uint8Array(16)
  const received = native.receiveMessage(to, into, 1000)
  return Buffer.from(into.subarray(0, received.bytes)).toString()
}

describe('listenUnix, connectUnix and acceptUnix', () => {
  test('connect two ends that carry bytes both ways', () => {
    const { path, fd } = listening()
    expect(native.acceptUnix(fd)).toBe(-1)
    const [client] = closedAfterTest(native.connectUnix(path, 1000))
    const [accepted] = closedAfterTest(native.acceptUnix(fd))
    expect(native.acceptUnix(fd)).toBe(-1)
    expect(exchange(client, accepted)).toBe('hello')
    expect(exchange(accepted, client)).toBe('hello')
  })

  test('leave one socket file, which only its owner can open whatever the umask is', () => {
    const before = process.umask(0)
    try {
      const { folder, path } = listening()
      expect(readdirSync(folder)).toEqual(['control'])
      expect(statSync(path).isSocket()).toBe(true)
      expect(statSync(path).mode & 0o777).toBe(0o600)
    } finally {
      process.umask(before)
    }
  })

  test('replace the file of a dead owner', () => {
    const { folder, path, fd } = listening()
    native.closeFds(Int32Array.of(fd))
    const [next] = closedAfterTest(native.listenUnix(join(folder, 'private'), path, 8))
    closedAfterTest(native.connectUnix(path, 1000))
    expect(closedAfterTest(native.acceptUnix(next))[0]).toBeGreaterThan(0)
  })

  test('leave no private file behind when the socket cannot be published', () => {
    const folder = temporaryFolder()
    mkdirSync(join(folder, 'control'))
    const open = native.fdLimits().open
    const error = thrownBy(() => native.listenUnix(join(folder, 'private'), join(folder, 'control'), 8))
    expect(error).toMatchObject({ code: 'EISDIR', syscall: 'rename', address: join(folder, 'control') })
    expect(readdirSync(folder)).toEqual(['control'])
    expect(native.fdLimits().open).toBe(open)
  })

  test('do not remove a private file that belongs to another', () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'private'), '')
    expect(thrownBy(() => native.listenUnix(join(folder, 'private'), join(folder, 'control'), 8)).code).toBe('EADDRINUSE')
    expect(existsSync(join(folder, 'private'))).toBe(true)
  })

  test('refuse a path that does not fit a socket address', () => {
    const long = join(temporaryFolder(), 'x'.repeat(108))
    expect(thrownBy(() => native.connectUnix(long, 0))).toMatchObject({ code: 'ENAMETOOLONG', syscall: 'connect' })
    expect(thrownBy(() => native.listenUnix('/tmp/private', long, 1))).toMatchObject({ code: 'ENAMETOOLONG', syscall: 'bind' })
    expect(existsSync('/tmp/private')).toBe(false)
  })

  test.for(['ECONNREFUSED', 'ENOENT'])('fail with %s exactly as net.connect does', async (code) => {
    const { folder, path: stale, fd } = listening()
    native.closeFds(Int32Array.of(fd))
    const path = code === 'ENOENT' ? join(folder, 'nothing') : stale
    const [theirs] = (await once(connect(path), 'error').catch((error) => [error])) as [NodeJS.ErrnoException]
    const ours = thrownBy(() => native.connectUnix(path, 1000))
    expect(ours.code).toBe(code)
    expect(ours.message).toBe(theirs.message)
    expect({ ...ours }).toEqual({ ...theirs })
  })

  test.for([0, 30])('give up after %i ms when the owner does not accept', (timeout) => {
    const { path } = listening(0)
    closedAfterTest(native.connectUnix(path, 1000))
    const open = native.fdLimits().open
    const started = performance.now()
    expect(thrownBy(() => native.connectUnix(path, timeout)).code).toBe('ETIMEDOUT')
    expect(performance.now() - started).toBeGreaterThanOrEqual(timeout)
    expect(native.fdLimits().open).toBe(open)
  })

  test('wait for an owner that accepts late', async () => {
    const { path, fd } = listening(0)
    closedAfterTest(native.connectUnix(path, 1000))
    const late = start(`
      require('node:fs').writeSync(1, 'trying')
      native.connectUnix(${JSON.stringify(path)}, 20000)
      require('node:fs').writeSync(1, 'connected')`)
    const [trying] = await once(late.stdout as NodeJS.ReadableStream, 'data')
    expect(String(trying)).toBe('trying')
    closedAfterTest(native.acceptUnix(fd))
    const [connected] = await once(late.stdout as NodeJS.ReadableStream, 'data')
    expect(String(connected)).toBe('connected')
    expect(closedAfterTest(native.acceptUnix(fd))[0]).toBeGreaterThan(0)
  })
})

describe('the peer', () => {
  test('is known by its process, user and group', () => {
    const { path, fd } = listening()
    closedAfterTest(native.connectUnix(path, 1000))
    const [accepted] = closedAfterTest(native.acceptUnix(fd))
    expect(native.peerCredentials(accepted)).toEqual({ pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() })
  })

  test('has a pidfd that becomes readable when the process is killed', () => {
    const { path, fd } = listening()
    const child = start(`native.connectUnix(${JSON.stringify(path)}, 20000); setInterval(() => {}, 1000)`)
    native.pollReadable(Int32Array.of(fd), 20_000)
    const [accepted] = closedAfterTest(native.acceptUnix(fd))
    const [pidfd] = closedAfterTest(native.peerPidfd(accepted))
    expect(native.peerCredentials(accepted).pid).toBe(child.pid)
    expect(native.pollReadable(Int32Array.of(pidfd), 0)).toEqual([])
    child.kill('SIGKILL')
    expect(native.pollReadable(Int32Array.of(pidfd), 20_000)).toEqual([0])
  })

  test('has no pidfd where the descriptor is no unix socket', () => {
    expect(thrownBy(() => native.peerPidfd(-1))).toMatchObject({ code: 'EBADF', syscall: 'getsockopt' })
    expect(thrownBy(() => native.peerCredentials(-1))).toMatchObject({ code: 'EBADF', syscall: 'getsockopt', errno: -9 })
  })

  test('of a socket pair is this process', () => {
    expect(native.peerCredentials(pair()[0]).pid).toBe(process.pid)
  })
})
