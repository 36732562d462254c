import fc from 'fast-check'

/** Strings of any UTF-16 units, lone surrogates included, with short, long, Latin-1 and dangerous ones among them. */
export const anyString = fc.oneof(
  fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)), maxLength: 80 }),
  fc.string({ maxLength: 200 }),
  fc.constantFrom('', '__proto__', 'constructor', 'length', 'toString', '0', '\ud800', 'é'.repeat(70), 'つ'.repeat(40)),
)

const leaf: fc.Arbitrary<unknown> = fc.oneof(
  anyString,
  fc.double(),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.bigInt(),
  fc.boolean(),
  fc.constantFrom<unknown>(undefined, null, -0, Number.NaN, Infinity, -Infinity, 2 ** 31, -(2 ** 31), 2 ** 32, 63, 64, -1),
  fc.date({ noInvalidDate: false }),
  fc.uint8Array().map((bytes) => Buffer.from(bytes)),
  fc.uint8Array(),
  fc.float64Array(),
  fc.bigInt64Array(),
  fc.uint8Array({ minLength: 4 }).map((bytes) => new DataView(bytes.buffer, 1, 2)),
  fc.uint8Array().map((bytes) => bytes.buffer),
  fc.constantFrom(/a+b/giu, /\//, /(?:)/).map((pattern) => Object.assign(new RegExp(pattern), { lastIndex: 3 })),
  fc.webUrl().map((href) => new URL(href)),
)

const container: fc.Arbitrary<() => object> = fc.constantFrom(
  () => ({}),
  () => Object.create(null) as object,
  () => [],
  () => new Map(),
  () => new Set(),
  () => new RangeError('out of it', { cause: 1 }),
  () => Object.assign(new Error('read'), { code: 'ECONNRESET' }),
)

/**
 * Graphs with sharing and cycles: some objects and some leaves, then edges between any two of them. As many roots as asked for are
 * picked from all, so that roots share too.
 */
export function anyGraph(rootCount = 3): fc.Arbitrary<unknown[]> {
  return fc
    .record({
      makers: fc.array(container, { minLength: 1, maxLength: 12 }),
      leaves: fc.array(leaf, { minLength: 1, maxLength: 12 }),
      edges: fc.array(fc.tuple(fc.nat(), fc.nat(), anyString, fc.nat(), fc.boolean()), { maxLength: 40 }),
      picks: fc.array(fc.nat(), { minLength: rootCount, maxLength: rootCount }),
    })
    .map(({ makers, leaves, edges, picks }) => {
      const objects = makers.map((make) => make())
      const all: unknown[] = [...objects, ...leaves]
      const at = (index: number) => all[index % all.length]
      for (const [from, to, key, third, leaveHole] of edges)
        put(objects[from % objects.length] as object, key, at(to), at(third), leaveHole)
      return picks.map(at)
    })
}

function put(object: object, key: string, value: unknown, mapKey: unknown, leaveHole: boolean): void {
  if (object instanceof Map) object.set(leaveHole ? key : mapKey, value)
  else if (object instanceof Set) object.add(value)
  else if (Array.isArray(object)) object[object.length + (leaveHole ? 1 : 0)] = value
  else if (object instanceof Error) object.cause = value
  else Object.defineProperty(object, key, { value, enumerable: true, writable: true, configurable: true })
}
