import { afterEach, describe, expect, test, vi } from 'vitest'
import { TsunagiError } from '../../src/errors.js'
import { loadBinding } from '../../src/native/binding.js'
import { NATIVE_NAMES, VERIFY_COLUMN, VERIFY_COLUMNS } from '../../src/native/native.js'
import { bytes, NO_FDS, native, run, temporaryFolder, thrownBy } from './native-under-test.js'

describe('the binding', () => {
  test('exports exactly the names that native.ts declares, in its order', () => {
    expect(Object.keys(native)).toEqual([...NATIVE_NAMES])
  })

  test('has as many verification columns as native.ts names', () => {
    expect(native.inspectTcp(Int32Array.of(0))).toHaveLength(VERIFY_COLUMNS)
    expect(Object.values(VERIFY_COLUMN)).toEqual([...Array(VERIFY_COLUMNS).keys()])
  })

  test('passes its self-test, again and again and without leaking descriptors', () => {
    const before = native.fdLimits().open
    for (let round = 0; round < 20; round++) expect(native.selfTest()).toBe('')
    expect(native.fdLimits().open).toBe(before)
  })

  test('is one file that loads in several worker threads at once', async () => {
    const output = await run(`
      const { Worker } = require('node:worker_threads')
      const addon = Object.keys(require.cache).find((file) => file.endsWith('.node'))
      const script = 'require("node:worker_threads").parentPort.postMessage(require(' + JSON.stringify(addon) + ').selfTest())'
      let left = 4
      for (let n = 0; n < 4; n++) {
        new Worker(script, { eval: true }).on('message', (said) => {
          if (said !== '') throw new Error(said)
          if (--left === 0) console.log('all passed')
        })
      }`)
    expect(output).toBe('all passed')
  })
})

describe('a binding that cannot be used', () => {
  afterEach(() => vi.unstubAllEnvs())

  test('is reported with what was tried, what happened and what to do', () => {
    vi.stubEnv('TSUNAGI_PREBUILD', temporaryFolder())
    const { missing } = loadBinding()
    expect(missing).toBeInstanceOf(TsunagiError)
    expect(missing).toMatchObject({ code: 'ERR_TSUNAGI_ADDON', cause: expect.any(Error) })
    expect(missing?.message).toContain(`loading the native addon for ${process.platform}-${process.arch}`)
    expect(missing?.message).toContain('No native build was found')
    expect(missing?.message).toContain('Reinstall tsunagi')
  })

  test.for([
    [process, 'platform', 'darwin', 'on Linux only'],
    [process.versions, 'node', '18.20.0', 'Node 20 or later'],
  ] as const)('is not even looked for where it cannot work: %#', ([holder, property, value, said]) => {
    const real = Object.getOwnPropertyDescriptor(holder, property)
    Object.defineProperty(holder, property, { ...real, value })
    try {
      expect(loadBinding().missing?.message).toContain(said)
    } finally {
      Object.defineProperty(holder, property, real as PropertyDescriptor)
    }
  })
})

describe('arguments', () => {
  const into = new Uint8Array(1)
  const wrong: [string, () => unknown][] = [
    ['a path that is no string', () => native.connectUnix(1 as never, 0)],
    ['a missing path', () => native.listenUnix('/tmp/x', undefined as never, 1)],
    ['a descriptor that is a string', () => native.acceptUnix('3' as never)],
    ['a plain array of descriptors', () => native.closeFds([1] as never)],
    ['an array of another type', () => native.stopReading(new Uint32Array(1) as never)],
    ['chunks that are not in an array', () => native.sendMessage(0, bytes('x') as never, NO_FDS, 0)],
    ['a chunk that is a string', () => native.sendMessage(0, [bytes('x'), 'y' as never], NO_FDS, 0)],
    ['a buffer to read into of another type', () => native.receiveMessage(0, new Int8Array(1) as never, 0)],
    ['a timeout that is no number', () => native.pollReadable(NO_FDS, '0' as never)],
    ['a callback that is none', () => native.watch(0, {} as never)],
    ['no argument at all', () => Reflect.apply(native.duplicateFd, undefined, [])],
  ]
  test.for(wrong)('%s is a TypeError', ([, call]) => {
    const error = thrownBy(call)
    expect(error).toBeInstanceOf(TypeError)
    expect(error.code).toBe('ERR_INVALID_ARG_TYPE')
    expect(error.message).toMatch(/^The "\w+" argument must/)
  })

  const unusable: [string, () => unknown][] = [
    ['an empty path', () => native.connectUnix('', 0)],
    ['a path with a null byte', () => native.connectUnix('a\0b', 0)],
    ['a message without a byte', () => native.sendMessage(0, [new Uint8Array(0)], NO_FDS, 0)],
    ['a message without chunks', () => native.sendMessage(0, [], NO_FDS, 0)],
    ['no room to read into', () => native.receiveMessage(0, new Uint8Array(0), 0)],
  ]
  test.for(unusable)('%s is a TypeError about its value', ([, call]) => {
    const error = thrownBy(call)
    expect(error).toBeInstanceOf(TypeError)
    expect(error.code).toBe('ERR_INVALID_ARG_VALUE')
  })

  const outOfRange: [string, () => unknown][] = [
    ['a negative timeout other than -1', () => native.receiveMessage(0, into, -2)],
    ['an endless timeout that is not written as -1', () => native.receiveMessage(0, into, Number.POSITIVE_INFINITY)],
    ['a timeout that is not a number', () => native.receiveMessage(0, into, Number.NaN)],
    ['a fractional descriptor', () => native.duplicateFd(1.5)],
    ['a descriptor beyond 32 bits', () => native.duplicateFd(2 ** 32)],
    ['a negative count', () => native.growFdTable(-1)],
  ]
  test.for(outOfRange)('%s is a RangeError', ([, call]) => {
    const error = thrownBy(call)
    expect(error).toBeInstanceOf(RangeError)
    expect(error.code).toBe('ERR_OUT_OF_RANGE')
  })
})
