import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeGraph } from '../../../src/carry/decode-graph.js'
import { encodeGraph } from '../../../src/carry/encode-graph.js'
import { anyGraph } from './arbitrary-graph.js'
import { difference } from './same-graph.js'

const encoding = { reference: () => undefined, maxBytes: 2 ** 26 }

function roundTrip(values: readonly unknown[]): unknown[] {
  const roots = values.map((value, index) => ({ key: `root ${index}`, version: index, value }))
  const { bytes, refused } = encodeGraph(roots, encoding)
  expect(refused).toEqual([])
  const decoded = decodeGraph(bytes, { resolve: () => undefined, declared: () => undefined })
  decoded.commit()
  expect([...decoded.roots.values()].map((root) => root.version)).toEqual(roots.map((root) => root.version))
  return roots.map((root) => decoded.roots.get(root.key)?.value)
}

const once = (value: unknown) => roundTrip([value])[0]

describe('a graph that goes to bytes and back', () => {
  test('is the same graph, whatever is shared in it', () => {
    fc.assert(
      fc.property(anyGraph(), (values) => {
        expect(difference(values, roundTrip(values))).toBeUndefined()
      }),
      { numRuns: 1000 },
    )
  })

  test('keeps an object that two roots reach one object', () => {
    const room = { name: 'lobby' }
    const [rooms, session] = roundTrip([new Map([['lobby', room]]), { room }]) as [Map<string, object>, { room: object }]
    expect(session.room).toBe(rooms.get('lobby'))
  })

  test('may contain itself', () => {
    const list: unknown[] = []
    list.push(list, new Map<unknown, unknown>([[list, list]]), new Set([list]))
    expect(difference(list, once(list))).toBeUndefined()
  })

  test('may be a list 100,000 deep', () => {
    let list: { next: unknown } | null = null
    for (let i = 0; i < 100_000; i++) list = { next: list }
    let depth = 0
    for (let at = once(list) as typeof list; at !== null; at = at.next as typeof list) depth++
    expect(depth).toBe(100_000)
  })

  test('keeps numbers that are easily confused', () => {
    const numbers = [0, -0, Number.NaN, Infinity, -Infinity, 63, 64, -1, 2 ** 31 - 1, 2 ** 31, -(2 ** 31), 2 ** 53, 5e-324, 1.5]
    expect(difference(numbers, once(numbers))).toBeUndefined()
    const bigints = [0n, 1n, -1n, 255n, 256n, -(2n ** 64n), 2n ** 4000n]
    expect(once(bigints)).toEqual(bigints)
  })

  test('keeps lone surrogates and strings of every length around the limits', () => {
    const texts = [
      '\ud800',
      'a\udc00b',
      '😀',
      ...[12, 13, 62, 63, 64, 65, 16383, 16384, 70_000].flatMap((length) => ['x', 'é', 'つ'].map((c) => c.repeat(length))),
    ]
    expect(once(texts)).toEqual(texts)
  })

  test('keeps holes apart from undefined', () => {
    const array = new Array(5)
    array[1] = undefined
    array[3] = 'x'
    const copy = once(array) as unknown[]
    expect(Object.keys(copy)).toEqual(['1', '3'])
    expect(copy).toHaveLength(5)
  })

  test('keeps a key called __proto__ a key', () => {
    const dangerous = JSON.parse('{"__proto__": {"admin": true}, "a": 1}') as object
    const copy = once([dangerous, Object.assign(Object.create(null), dangerous)]) as [object, object]
    expect(Object.keys(copy[0])).toEqual(['__proto__', 'a'])
    expect(Object.getPrototypeOf(copy[0])).toBe(Object.prototype)
    expect(Object.getPrototypeOf(copy[1])).toBe(null)
    expect(({} as { admin?: boolean }).admin).toBeUndefined()
  })

  test('keeps dictionaries of more shapes than are remembered', () => {
    const dictionaries = Array.from({ length: 6000 }, (_, i) => ({ [`key ${i}`]: i, common: true }))
    const wide = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`k${i}`, i]))
    expect(once({ dictionaries, wide })).toEqual({ dictionaries, wide })
  })

  test('lets views of one ArrayBuffer share it afterwards, whichever comes first', () => {
    const bytes = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8])
    const views = [new Uint16Array(bytes.buffer, 2, 2), bytes, bytes.buffer, new DataView(bytes.buffer, 4)]
    const [words, copy] = once(views) as [Uint16Array, Uint8Array]
    copy[2] = 9
    expect(words[0]).toBe(9 + 4 * 256)
  })

  test('carries of a Buffer only its own bytes, not the pool around it', () => {
    const { bytes } = encodeGraph([{ key: '', version: 0, value: Buffer.from('small') }], encoding)
    expect(bytes.length).toBeLessThan(40)
  })

  test('keeps an error with its stack, cause and what was added to it', () => {
    const error = Object.assign(new TypeError('wrong', { cause: new AggregateError([new Error('a')], 'many') }), { code: 'E', errno: -1 })
    const copy = once(error) as typeof error
    expect(copy).toBeInstanceOf(TypeError)
    expect(copy.stack).toBe(error.stack)
    expect(Object.keys(copy)).toEqual(['code', 'errno'])
    expect((copy.cause as AggregateError).errors[0].message).toBe('a')
  })

  test('names the bytes of each root', () => {
    const shared = { text: 'x'.repeat(1000) }
    const { sizes } = encodeGraph(
      [1, 2].map((n) => ({ key: `${n}`, version: 0, value: { shared } })),
      encoding,
    )
    expect(sizes[0]).toBeGreaterThan(1000)
    expect(sizes[1]).toBeLessThan(20)
  })
})
