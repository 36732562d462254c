import { describe, expect, test } from 'vitest'
import { type DecodedGraph, decodeGraph } from '../../../src/carry/decode-graph.js'
import { type CarrySizeError, encodeGraph } from '../../../src/carry/encode-graph.js'

/** For a cast, which would hide that the root may be missing. */
function valueIn(roots: DecodedGraph['roots'], key: string): unknown {
  const root = roots.get(key)
  expect(root).toBeDefined()
  return root?.value
}

const options = { reference: () => undefined, maxBytes: 2 ** 20, name: ({ key }: { key: string }) => `carry(server, '${key}')` }

function refusalsOf(...values: unknown[]) {
  const { refused, bytes } = encodeGraph(
    values.map((value, index) => ({ key: `r${index}`, version: 0, value })),
    options,
  )
  return { refused, bytes, messages: refused.map(({ error }) => error.message), paths: refused.map(({ error }) => error.path) }
}

const message = (value: unknown) => refusalsOf(value).messages[0]

class Room {
  constructor(readonly name: string) {}
}

describe('a value that cannot be carried', () => {
  test('is named with the way to it', () => {
    const rooms = new Map([['lobby', { members: [1, 2, 3, { onLeave() {} }] }]])
    const { messages, paths, refused } = refusalsOf(rooms)
    expect(messages).toEqual([`carry(server, 'r0').get("lobby").members[3].onLeave is a function`])
    expect(paths).toEqual([`carry(server, 'r0').get("lobby").members[3].onLeave`])
    expect(refused[0]?.error.code).toBe('ERR_TSUNAGI_CARRY_VALUE')
  })

  test.each<[string, unknown, string]>([
    ['a class instance', { room: new Room('a') }, '.room is an instance of class Room; carry plain data and build the Room from it'],
    [
      'a subclass of Map',
      [new (class Rooms extends Map {})()],
      '[0] is an instance of class Rooms; carry plain data and build the Rooms from it',
    ],
    ['a Promise', { p: Promise.resolve() }, '.p is a Promise, which cannot leave its process'],
    ['a WeakMap', { w: new WeakMap() }, '.w is a WeakMap, which cannot leave its process'],
    ['a SharedArrayBuffer', { s: new SharedArrayBuffer(1) }, '.s is a SharedArrayBuffer, which cannot leave its process'],
    [
      'a view of shared memory',
      { s: new Uint8Array(new SharedArrayBuffer(1)) },
      '.s.buffer is a SharedArrayBuffer, which cannot leave its process',
    ],
    ['a symbol', { s: Symbol('x') }, '.s is a symbol'],
    ['a symbol as a key', { [Symbol('x')]: 1 }, '[Symbol(x)] has a symbol as its key, and a symbol means nothing in another process'],
    [
      'a getter',
      {
        get now() {
          return 1
        },
      },
      '.now is a getter or setter; carry the plain value',
    ],
    ['a Proxy', { p: new Proxy({}, {}) }, '.p is a Proxy; carry the object behind it'],
    ['a made-up prototype', { o: Object.create({}) }, '.o is an object with a prototype of its own; carry a plain object'],
    ['a borrowed prototype', { m: Object.create(Map.prototype) }, '.m is a Map, which cannot leave its process'],
    ['a named property of an array', { m: 'ab'.match(/a/) }, '.m.groups is a property of an array beside its elements'],
    ['a property of a Map', Object.assign(new Map(), { size2: 1 }), '.size2 is a property added to a Map'],
    ['a property of a Date', Object.assign(new Date(), { zone: 1 }), '.zone is a property added to a Date'],
    ['an array that is far too long', { a: new Array(2 ** 30) }, '.a is an array of length 1073741824; at most 33554432 can be carried'],
    ['a key of a Map', new Map([[() => {}, 1]]), '.keys()[0] is a function'],
    ['what an object key leads to', new Map([[{}, () => {}]]), '.values()[0] is a function'],
    ['a member of a Set', new Set([1, () => {}]), '.values()[1] is a function'],
    ['the cause of an error', new Error('x', { cause: () => {} }), '.cause is a function'],
    ['a key that is no identifier', { 'a b': () => {} }, '["a b"] is a function'],
    ['the root itself', () => {}, ' is a function'],
  ])('may be %s', (_, value, end) => {
    expect(message(value)).toBe(`carry(server, 'r0')${end}`)
  })

  test('refuses every root that reaches it, and no other', () => {
    const bad = { f() {} }
    const shared = { deep: { bad } }
    const good = { fine: 1 }
    const { paths, refused, bytes } = refusalsOf(shared, good, { shared, good }, [bad], { good })
    expect(refused.map(({ rootIndex }) => rootIndex)).toEqual([0, 2, 3])
    expect(paths).toEqual(["carry(server, 'r0').deep.bad.f", "carry(server, 'r2').shared.deep.bad.f", "carry(server, 'r3')[0].f"])
    const { roots } = decodeGraph(bytes, { resolve: () => undefined, declared: () => undefined })
    expect([...roots.keys()]).toEqual(['r1', 'r4'])
    expect(roots.get('r4')?.value).toEqual({ good })
    expect((valueIn(roots, 'r4') as { good: object }).good).toBe(roots.get('r1')?.value)
  })

  test('leaves nothing in the bytes that only a refused root reaches', () => {
    const secret = 'only here'
    const { bytes } = refusalsOf({ a: { secret }, f() {} }, { b: 1 })
    expect(Buffer.from(bytes).includes(secret)).toBe(false)
  })

  test('is found in a cycle and behind a hundred thousand steps', () => {
    const bad: Record<string, unknown> = { f() {} }
    let list: Record<string, unknown> = bad
    for (let i = 0; i < 100_000; i++) list = { next: list }
    bad.first = list
    const { paths } = refusalsOf(list)
    expect(paths[0]).toBe(`carry(server, 'r0')${'.next'.repeat(12)} …99977 more… ${'.next'.repeat(11)}.f`)
  })

  test('shared by ten thousand roots takes the time of one walk', () => {
    const rooms = new Map<number, unknown>(Array.from({ length: 10_000 }, (_, i) => [i, { i }]))
    rooms.set(-1, () => {})
    const began = performance.now()
    const { refused } = refusalsOf(...Array.from({ length: 10_000 }, () => ({ first: {}, rooms })))
    expect(refused).toHaveLength(10_000)
    expect(refused[9999]?.error.path).toBe("carry(server, 'r9999').rooms.get(-1)")
    expect(performance.now() - began).toBeLessThan(5000)
  })

  test('is no socket that can move', () => {
    const socket = new (class Socket {})()
    const { refused, bytes } = encodeGraph([{ key: 'r', version: 0, value: { socket } }], {
      ...options,
      reference: (object) => (object === socket ? 7 : undefined),
    })
    expect(refused).toEqual([])
    const there = {}
    const { roots } = decodeGraph(bytes, { resolve: (index) => (index === 7 ? there : undefined), declared: () => undefined })
    expect((valueIn(roots, 'r') as { socket: object }).socket).toBe(there)
  })
})

describe('the size cap', () => {
  const encode = (values: unknown[], maxBytes: number) =>
    encodeGraph(
      values.map((value, index) => ({ key: `r${index}`, version: 0, value })),
      { ...options, maxBytes },
    )

  test('stops the encoding and names the largest roots', () => {
    const values = [{ a: 'x'.repeat(500) }, { b: 'y'.repeat(50) }, { c: 'z'.repeat(2000) }]
    let error: CarrySizeError | undefined
    try {
      encode(values, 1000)
    } catch (cause) {
      error = cause as CarrySizeError
    }
    expect(error?.code).toBe('ERR_TSUNAGI_CARRY_SIZE')
    expect(error?.maxBytes).toBe(1000)
    expect(error?.size).toBeGreaterThan(2000)
    expect(error?.largest.map((root) => root.rootIndex)).toEqual([2, 0, 1])
    expect(error?.message).toMatch(
      /^the carried state is larger than its cap of 1000 bytes: .* Largest so far, in bytes: carry\(server, 'r2'\) \d+, /,
    )
  })

  test.each([
    ['a large Buffer', Buffer.alloc(2 ** 20)],
    ['a long text', 'x'.repeat(2 ** 20)],
    ['a sparse array', new Array(2 ** 24)],
    ['many small objects', Array.from({ length: 2 ** 16 }, () => ({}))],
    ['many dates', Array.from({ length: 2 ** 14 }, () => new Date())],
  ])('is met by %s', (_, value) => {
    expect(() => encode([value], 2 ** 16)).toThrow(expect.objectContaining({ code: 'ERR_TSUNAGI_CARRY_SIZE' }))
  })

  test('lets through what fits', () => {
    const { bytes } = encode([{ a: 'x'.repeat(500) }], 1000)
    expect(bytes.length).toBeLessThan(600)
  })
})
