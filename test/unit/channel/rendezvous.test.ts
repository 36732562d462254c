import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, lstatSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { addressKey, controlDirectory, controlSocketPath, isSameFamily, type ListeningAddress } from '../../../src/channel/rendezvous.js'
import { describePrivileged } from '../../helpers/privileged.js'

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'tsunagi-rendezvous-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

describe('addressKey', () => {
  test.for([
    [{ family: 'IPv4', address: '127.0.0.1', port: 7000, ipv6Only: false }, 'tcp4 127.0.0.1:7000'],
    [{ family: 'IPv6', address: '::', port: 7000, ipv6Only: false }, 'tcp6 [::]:7000'],
    [{ family: 'IPv6', address: '::', port: 7000, ipv6Only: true }, 'tcp6 [::]:7000 v6only'],
    [{ family: 'unix', address: '/run/app.sock' }, 'unix /run/app.sock'],
    [{ family: 'unix', address: '\0app' }, 'unix @app'],
  ] as [ListeningAddress, string][])('names %j', ([address, key]) => {
    expect(addressKey(address)).toBe(key)
  })
})

describe('controlSocketPath', () => {
  test('is the same for one address, another for another, and short enough for a unix socket', () => {
    const directory = '/run/user/1000/tsunagi'
    const path = controlSocketPath(directory, 'tcp4 127.0.0.1:7000')
    expect(controlSocketPath(directory, 'tcp4 127.0.0.1:7000')).toBe(path)
    const keys = Array.from({ length: 2000 }, (_, port) => `tcp4 127.0.0.1:${port}`)
    expect(new Set(keys.map((key) => controlSocketPath(directory, key)))).toHaveLength(keys.length)
    expect(Buffer.byteLength(controlSocketPath(directory, `unix /${'x'.repeat(200)}`))).toBeLessThan(80)
  })
})

describe('controlDirectory', () => {
  const at = (directory: string) => controlDirectory({ TSUNAGI_DIR: directory })

  test('is what TSUNAGI_DIR says, made with mode 0700 if it is not there', () => {
    const directory = join(temporaryDirectory(), 'control')
    expect(at(directory)).toBe(directory)
    expect(lstatSync(directory).mode & 0o777).toBe(0o700)
    expect(at(directory)).toBe(directory)
  })

  test('without TSUNAGI_DIR is one of this user alone', () => {
    const directory = controlDirectory({})
    expect(['/run/tsunagi', `/run/user/${process.geteuid?.()}/tsunagi`, `/tmp/tsunagi-${process.geteuid?.()}`]).toContain(directory)
    expect(lstatSync(directory)).toMatchObject({ uid: process.geteuid?.() })
    expect(controlDirectory({ TSUNAGI_DIR: '' })).toBe(directory)
  })

  test('is refused when it is a symbolic link, even to a directory of our own', () => {
    const parent = temporaryDirectory()
    mkdirSync(join(parent, 'real'), { mode: 0o700 })
    symlinkSync(join(parent, 'real'), join(parent, 'link'))
    expect(() => at(join(parent, 'link'))).toThrow(/link, is a symbolic link/)
  })

  test('is refused when it is a file', () => {
    const file = join(temporaryDirectory(), 'file')
    writeFileSync(file, '')
    expect(() => at(file)).toThrow('is not a directory')
  })

  test.for([0o750, 0o705, 0o777, 0o701])('is refused when it is open to others by mode %o', (mode) => {
    const directory = join(temporaryDirectory(), 'control')
    mkdirSync(directory)
    chmodSync(directory, mode)
    expect(() => at(directory)).toThrow(`is open to others (mode ${mode.toString(8)})`)
  })

  describePrivileged('other-uid', 'that belongs to someone else', () => {
    test('is refused', () => {
      const directory = temporaryDirectory()
      chownSync(directory, 12345, 12345)
      expect(() => at(directory)).toThrow('belongs to uid 12345, not to 0')
    })
  })

  test('is refused with the cause when it cannot be made', () => {
    const attempt = () => at(join(temporaryDirectory(), 'no', 'parent'))
    expect(attempt).toThrow(/could not be made/)
    expect(attempt).toThrow(expect.objectContaining({ code: 'ERR_TSUNAGI_DIRECTORY', cause: expect.objectContaining({ code: 'ENOENT' }) }))
  })
})

describe('isSameFamily', () => {
  /** A process that lives until the test ends, and says the pid of a child of its own. */
  async function startFamily(): Promise<{ child: number; grandchild: number }> {
    const script = `
      const grandchild = require('node:child_process').spawn(process.execPath, ['-e', 'process.stdin.resume()'], { stdio: ['pipe', 'ignore', 'ignore'] })
      process.stdin.resume()
      grandchild.once('spawn', () => process.stdout.write(String(grandchild.pid) + '\\n'))`
    const child: ChildProcess = spawn(process.execPath, ['-e', script], { stdio: ['pipe', 'pipe', 'inherit'] })
    onTestFinished(async () => {
      child.stdin?.end()
      child.kill('SIGKILL')
      await once(child, 'exit')
    })
    const [said] = (await once(child.stdout as NonNullable<typeof child.stdout>, 'data')) as [Buffer]
    return { child: child.pid as number, grandchild: Number(said.toString()) }
  }

  test('is true of parent and child, and of grandparent and grandchild, either way round', async () => {
    const { child, grandchild } = await startFamily()
    expect(isSameFamily(process.pid, child)).toBe(true)
    expect(isSameFamily(child, process.pid)).toBe(true)
    expect(isSameFamily(process.pid, grandchild)).toBe(true)
    expect(isSameFamily(grandchild, process.pid)).toBe(true)
  })

  test('is not true of siblings, nor of a process with itself', async () => {
    const [one, other] = await Promise.all([startFamily(), startFamily()])
    expect(isSameFamily(one.child, other.child)).toBe(false)
    expect(isSameFamily(one.grandchild, other.child)).toBe(false)
    expect(isSameFamily(process.pid, process.pid)).toBe(false)
  })

  test('is not true of a process that does not exist', () => {
    expect(isSameFamily(process.pid, 2 ** 30)).toBe(false)
    expect(isSameFamily(2 ** 30, process.pid)).toBe(false)
  })
})
