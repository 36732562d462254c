import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeGraph } from '../../../src/carry/decode-graph.js'
import { encodeGraph } from '../../../src/carry/encode-graph.js'
import { TsunagiError } from '../../../src/errors.js'
import { anyGraph } from './arbitrary-graph.js'

const encode = (values: readonly unknown[]) =>
  encodeGraph(
    values.map((value, index) => ({ key: `${index}`, version: 0, value })),
    { reference: () => 0, maxBytes: 2 ** 24 },
  ).bytes

/** Decodes; says how it failed, if by an error of ours. Any other error is the test's failure. */
function failureOf(bytes: Uint8Array): string | undefined {
  try {
    decodeGraph(bytes, { resolve: () => ({}), declared: () => ({ version: 0, live: {} }) }).commit()
  } catch (error) {
    if (error instanceof TsunagiError && (error.code === 'ERR_TSUNAGI_MESSAGE' || error.code.startsWith('ERR_TSUNAGI_STATE')))
      return error.message
    throw error
  }
  return undefined
}

const graph = (...parts: (number | string)[]) =>
  Buffer.concat([
    Buffer.from('tsg1'),
    ...parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : Buffer.from([part]))),
  ])

describe('bytes that no encoder wrote', () => {
  test('give an error of ours or a value, never anything else', () => {
    const mutation = fc.tuple(fc.nat(), fc.nat({ max: 255 }), fc.constantFrom('set', 'cut', 'insert', 'remove'))
    fc.assert(
      fc.property(anyGraph(), fc.array(mutation, { minLength: 1, maxLength: 4 }), (values, mutations) => {
        let bytes = Buffer.from(encode(values))
        for (const [position, byte, how] of mutations) {
          const at = position % (bytes.length + 1)
          if (how === 'set' && at < bytes.length) bytes[at] = byte
          else if (how === 'cut') bytes = bytes.subarray(0, at)
          else if (how === 'insert') bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from([byte]), bytes.subarray(at)])
          else bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)])
        }
        failureOf(bytes)
        expect(Object.keys(Object.prototype)).toEqual([])
      }),
      { numRuns: 5000 },
    )
  })

  test('may be anything at all', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (tail) => void failureOf(Buffer.concat([Buffer.from('tsg1'), tail]))),
      { numRuns: 5000 },
    )
  })

  test('cut short anywhere are an error', () => {
    const bytes = encode([{ a: [1, 'two', new Date(), Buffer.from('abc'), new Map([[1, new Error('x')]]), 10n ** 40n] }])
    for (let length = 0; length < bytes.length; length++) expect(failureOf(bytes.subarray(0, length))).toBeTypeOf('string')
  })

  test('cannot ask for more memory than they are', () => {
    const before = process.memoryUsage()
    const huge = '\xff\xff\xff\xff\x0f'
    for (const bytes of [
      graph(huge, 0, 0, 0, 0),
      graph(0, huge, 0, 0, 0),
      graph(1, 1, 0, 4, 5, 3, '\x81a\xc0\x0b\x00', huge), // an array
      graph(1, 1, 5, 4, 0, 19, huge, '\x81a\xc0\x0b'), // a Buffer
      graph(1, 1, 0, 4, 5, 4, '\x81a\xc0', huge), // a Map
      graph(1, 1, 0, 4, 6, 1, '\x81a\xc0\x0b\x00', 0, huge), // an object's keys
    ]) {
      expect(failureOf(bytes)).toBeTypeOf('string')
    }
    const after = process.memoryUsage()
    expect(after.rss - before.rss + after.arrayBuffers - before.arrayBuffers).toBeLessThan(16e6)
  })

  test('of a newer version are named as such', () => {
    expect(failureOf(graph(1, 1, 0, 5, 1, 15, '\x81a\xc0\x0b\x00', 0))).toMatch(/node kind 15 is unknown to this version/)
    expect(failureOf(graph(0, 1, 0, 4, 0, '\x81a\xc0\x1f'))).toMatch(/value tag 31 is unknown to this version/)
    expect(failureOf(Buffer.from('tsg2'))).toMatch(/does not begin as one/)
  })

  test('with something left over are an error', () => {
    expect(failureOf(Buffer.concat([encode([1]), Buffer.from([0])]))).toMatch(/left over/)
  })

  test('with two roots of one key are an error', () => {
    expect(failureOf(graph(0, 2, 0, 8, 0, '\x81a\xc0\xc0\x81a\xc0\xc0'))).toMatch(/that of another/)
  })
})
