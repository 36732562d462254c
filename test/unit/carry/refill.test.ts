import { describe, expect, test } from 'vitest'
import { type Declaration, type DecodedGraph, decodeGraph } from '../../../src/carry/decode-graph.js'
import { encodeGraph } from '../../../src/carry/encode-graph.js'

/** For a cast, which would hide that the root may be missing. */
function valueIn(roots: DecodedGraph['roots'], key: string): unknown {
  const root = roots.get(key)
  expect(root).toBeDefined()
  return root?.value
}

type Roots = Record<string, unknown>

class Socket {
  constructor(readonly number: number) {}
}

function decode(
  carried: Roots,
  declared: Record<string, Declaration>,
  version = 1,
  resolve: (index: number) => object | undefined = () => undefined,
) {
  const roots = Object.entries(carried).map(([key, value]) => ({ key, version, value }))
  const { bytes, refused } = encodeGraph(roots, {
    maxBytes: 2 ** 20,
    reference: (object) => (object instanceof Socket ? object.number : undefined),
  })
  expect(refused).toEqual([])
  return decodeGraph(bytes, { resolve, declared: (key) => declared[key] })
}

const codeOf = (run: () => unknown) => {
  try {
    run()
  } catch (error) {
    const { code, key, message, cause } = error as { code: string; key: string; message: string; cause: unknown }
    return { code, key, message, cause }
  }
  return undefined
}

describe('a live container', () => {
  test.each<[string, () => object, object]>([
    [
      'Map',
      () =>
        new Map<unknown, unknown>([
          ['old', 1],
          ['kept', 0],
        ]),
      new Map<unknown, unknown>([
        ['kept', 1],
        ['new', 2],
      ]),
    ],
    ['Set', () => new Set(['old']), new Set(['new', 'newer'])],
    ['array', () => [1, 2, 3], Object.assign(new Array(3), { 0: 4, 2: 5 })],
    ['object', () => ({ old: 1, kept: 0 }), { kept: 1, new: 2 }],
  ])('that is a %s is untouched before commit and holds exactly the carried state after it', (_, init, carried) => {
    const live = init()
    const decoded = decode({ r: carried }, { r: { version: 1, live: live as never } })
    expect(live).toEqual(init())
    decoded.commit()
    expect(live).toEqual(carried)
    expect(decoded.roots.get('r')).toEqual({ value: carried, version: 1, fromVersion: 1 })
    expect(decoded.roots.get('r')?.value).toBe(live)
  })

  test('is what every reference to the root leads to', () => {
    const rooms = new Map<string, unknown>()
    rooms.set('self', rooms)
    const live = new Map<string, unknown>()
    const decoded = decode({ session: { rooms }, rooms }, { rooms: { version: 1, live } })
    expect((valueIn(decoded.roots, 'session') as { rooms: unknown }).rooms).toBe(live)
    decoded.commit()
    expect(live.get('self')).toBe(live)
  })

  test('that shares its content with another is filled too, and references lead to the first', () => {
    const shared = { n: 1 }
    const first: Roots = {}
    const second: Roots = {}
    const decoded = decode({ a: shared, b: shared, c: { shared } }, { a: { version: 1, live: first }, b: { version: 1, live: second } })
    decoded.commit()
    expect([first, second]).toEqual([{ n: 1 }, { n: 1 }])
    expect((valueIn(decoded.roots, 'c') as Roots).shared).toBe(first)
  })

  test('is refilled once: a second commit does not undo what the application did since', () => {
    const live: Roots = {}
    const decoded = decode({ r: { n: 1 } }, { r: { version: 1, live } })
    decoded.commit()
    live.n = 2
    decoded.commit()
    expect(live).toEqual({ n: 2 })
  })

  test('keeps the properties that are never carried', () => {
    const hidden = Symbol('hidden')
    const live: Roots = Object.defineProperty({ [hidden]: 1, gone: 1 }, 'quiet', { value: 2 })
    Object.defineProperty(live, 'fixed', { value: 3, enumerable: true, writable: true })
    decode({ r: { fixed: 4, n: 1 } }, { r: { version: 1, live } }).commit()
    expect(Object.getOwnPropertyDescriptors(live)).toMatchObject({
      [hidden]: { value: 1 },
      quiet: { value: 2 },
      fixed: { value: 4 },
      n: { value: 1 },
    })
    expect(live).not.toHaveProperty('gone')
  })

  test('never runs a setter, nor changes a prototype', () => {
    const live: Roots = {
      set n(_: number) {
        throw new Error('ran')
      },
    }
    decode({ r: JSON.parse('{"n":1,"__proto__":{"admin":true}}') }, { r: { version: 1, live } }).commit()
    expect(Object.entries(live)).toEqual([
      ['n', 1],
      ['__proto__', { admin: true }],
    ])
    expect(Object.getPrototypeOf(live)).toBe(Object.prototype)
  })

  test.each<[string, object, unknown]>([
    ['an object for a Map', {}, new Map()],
    ['a Map for an array', new Map(), []],
    ['an array for an object', [], {}],
    ['a Set for a text', new Set(), 'text'],
    ['an object for a Date', {}, new Date()],
    ['a frozen object', Object.freeze({}), {}],
    ['a sealed array', Object.seal([]), []],
    ['an array of fixed length', Object.defineProperty([], 'length', { writable: false }), []],
    ['a property that cannot be written', Object.defineProperty({}, 'n', { value: 1 }), { n: 2 }],
  ])('is refused before commit when it is %s', (_, live, carried) => {
    const error = codeOf(() => decode({ r: carried }, { r: { version: 1, live: live as never } }))
    expect(error).toMatchObject({ code: 'ERR_TSUNAGI_STATE_SHAPE', key: 'r' })
  })

  test('of another kind is refused with both kinds', () => {
    const error = codeOf(() => decode({ r: new Map() }, { r: { version: 1, live: {} } }))
    expect(error?.message).toBe('r was a Map in the predecessor and is a plain object here; give it a new version and a migrate function')
  })
})

describe('a migration', () => {
  const toMap = (value: unknown) => new Map(Object.entries(value as object))

  test('goes up and down, and fills the live container with what it returns', () => {
    for (const [from, to] of [
      [1, 2],
      [2, 1],
    ] as const) {
      const live = new Map()
      const versions: number[] = []
      const migrate = (value: unknown, fromVersion: number) => {
        versions.push(fromVersion)
        return toMap(value)
      }
      const decoded = decode({ r: { a: 1 } }, { r: { version: to, live, migrate } }, from)
      expect(live.size).toBe(0)
      decoded.commit()
      expect([...live]).toEqual([['a', 1]])
      expect(versions).toEqual([from])
      expect(decoded.roots.get('r')).toMatchObject({ version: to, fromVersion: from })
    }
  })

  test('keeps references to a value without a live container, also when it returns a new object around the old one', () => {
    const session = { user: 'ann' }
    const migrate = (value: unknown) => ({ inner: value })
    const { roots } = decode({ session, rooms: { members: [session] } }, { session: { version: 2, migrate } })
    const value = roots.get('session')?.value
    expect(value).toEqual({ inner: { user: 'ann' } })
    expect((valueIn(roots, 'rooms') as { members: unknown[] }).members[0]).toBe(value)
  })

  test('finds its own value where the value leads back to itself', () => {
    const tree: Roots = { name: 'root' }
    tree.child = { parent: tree }
    const migrate = (value: unknown) => ({
      ...(value as object),
      was: (value as { child: { parent: { name: string } } }).child.parent.name,
    })
    const { roots } = decode({ tree }, { tree: { version: 2, migrate } })
    const value = roots.get('tree')?.value as { was: string; child: { parent: object } }
    expect(value.was).toBe('root')
    expect(value.child.parent).toBe(value)
  })

  test('may give another kind where no container waits', () => {
    const { roots } = decode({ r: { a: 1 } }, { r: { version: 2, migrate: toMap } })
    expect(roots.get('r')?.value).toEqual(new Map([['a', 1]]))
  })

  test('runs once for a value that two roots share', () => {
    const shared = { n: 1 }
    const declaration = { version: 2, migrate: (value: unknown) => ({ n: (value as { n: number }).n + 1 }) }
    const { roots } = decode({ a: shared, b: shared }, { a: declaration, b: declaration })
    expect(roots.get('a')?.value).toEqual({ n: 2 })
    expect(roots.get('b')?.value).toBe(roots.get('a')?.value)
  })

  test('is not asked for where the versions agree', () => {
    const { roots } = decode({ r: { n: 1 } }, { r: { version: 1, migrate: () => expect.unreachable() } })
    expect(roots.get('r')?.value).toEqual({ n: 1 })
  })

  test('that is missing refuses the value, with both versions', () => {
    const error = codeOf(() => decode({ r: {} }, { r: { version: 1 } }, 3))
    expect(error).toMatchObject({ code: 'ERR_TSUNAGI_STATE_VERSION', key: 'r' })
    expect(error?.message).toBe('r has version 3 in the predecessor, this code has version 1 and no migrate function')
  })

  test('that throws is named with both versions and its cause', () => {
    const cause = new Error('no such user')
    const migrate = () => {
      throw cause
    }
    const error = codeOf(() => decode({ r: {} }, { r: { version: 2, migrate } }))
    expect(error).toMatchObject({ code: 'ERR_TSUNAGI_MIGRATE', key: 'r', cause })
    expect(error?.message).toBe('r could not be migrated from version 1 to 2: migrate threw Error: no such user')
  })

  test.each([
    ['a Promise', async () => ({})],
    ['nothing', () => undefined],
  ])('that returns %s is refused', (_, migrate) => {
    expect(codeOf(() => decode({ r: {} }, { r: { version: 2, migrate } }))).toMatchObject({ code: 'ERR_TSUNAGI_MIGRATE', key: 'r' })
  })

  test('that gives another kind than the live container is refused', () => {
    const migrate = () => []
    expect(codeOf(() => decode({ r: {} }, { r: { version: 2, live: {}, migrate } }))?.code).toBe('ERR_TSUNAGI_STATE_SHAPE')
  })
})

describe('a reference to a socket that did not come along', () => {
  test('is null in an object or array, left out of a Set and of the keys of a Map, and reported', () => {
    const [here, gone] = [new Socket(0), new Socket(1)]
    const carried = {
      r: {
        list: [here, gone],
        set: new Set([here, gone]),
        byKey: new Map([
          [gone, 1],
          [here, 2],
        ]),
        byName: new Map([['a', gone]]),
        gone,
      },
    }
    const there = {}
    const { roots, absent } = decode(carried, {}, 1, (index) => (index === 0 ? there : undefined))
    const value = roots.get('r')?.value as Record<string, unknown>
    expect(value).toEqual({
      list: [there, null],
      set: new Set([there]),
      byKey: new Map([[there, 2]]),
      byName: new Map([['a', null]]),
      gone: null,
    })
    expect((value.list as unknown[])[0]).toBe(there)
    expect(absent).toEqual([1])
  })

  test('is null as a root', () => {
    expect(decode({ r: new Socket(0) }, {}).roots.get('r')?.value).toBe(null)
  })
})
