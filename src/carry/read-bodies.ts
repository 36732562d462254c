import { type ByteReader, malformed } from './byte-reader.js'
import { KEYS, KIND } from './graph-format.js'
import { ABSENT, type Shell } from './read-nodes.js'
import { HOLE, readValue } from './read-value.js'

/** Keys that objects have in common. */
interface Shape {
  readonly keys: readonly string[]
  readonly hasProto: boolean
}

/**
 * Fills the containers. `nodes` is what a reference to a node gives: the node itself, or the live container it will be poured into.
 * A socket that is absent becomes null; as a member of a Set or a key of a Map it is left out, since several would become one, and a
 * loop over the members would meet a null that no code expects.
 */
export function readBodies(kinds: Uint8Array, bodies: ByteReader, shells: readonly Shell[], nodes: readonly unknown[]): void {
  const shapes: Shape[] = []
  const read = (): unknown => {
    const value = readValue(bodies, nodes)
    if (value === HOLE) throw malformed('a hole is outside an array')
    return value
  }
  const readOrNull = (): unknown => {
    const value = read()
    return value === ABSENT ? null : value
  }
  for (const [id, kind] of kinds.entries()) {
    const shell = shells[id]
    switch (kind) {
      case KIND.object:
      case KIND.nullObject:
        fillObject(shell as Record<string, unknown>)
        break
      case KIND.array:
        fillArray(shell as unknown[])
        break
      case KIND.map:
        for (let left = bodies.countOf(2); left > 0; left--) {
          const key = read()
          const value = readOrNull()
          if (key !== ABSENT) (shell as Map<unknown, unknown>).set(key, value)
        }
        break
      case KIND.set:
        for (let left = bodies.countOf(1); left > 0; left--) {
          const member = read()
          if (member !== ABSENT) (shell as Set<unknown>).add(member)
        }
        break
      case KIND.error:
        for (let left = bodies.countOf(3); left > 0; left--) {
          const key = readKey()
          const enumerable = read() === true
          Object.defineProperty(shell, key, { value: readOrNull(), enumerable, writable: true, configurable: true })
        }
    }
  }
  bodies.finish('bodies')

  function fillObject(object: Record<string, unknown>): void {
    const { keys, hasProto } = readShape()
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i] as string
      const value = readOrNull()
      if (hasProto) Object.defineProperty(object, key, { value, enumerable: true, writable: true, configurable: true })
      else object[key] = value
    }
  }

  function fillArray(array: unknown[]): void {
    const length = bodies.countOf(1)
    for (let i = 0; i < length; i++) {
      const value = readValue(bodies, nodes)
      if (value === HOLE) array.length = i + 1
      else array.push(value === ABSENT ? null : value)
    }
  }

  function readShape(): Shape {
    const number = bodies.count()
    if (number >= KEYS.firstShape) {
      const shape = shapes[number - KEYS.firstShape]
      if (shape === undefined) throw malformed('it names a shape that was not defined')
      return shape
    }
    const keys: string[] = []
    for (let left = bodies.countOf(1); left > 0; left--) keys.push(readKey())
    const shape = { keys, hasProto: keys.includes('__proto__') }
    if (number === KEYS.newShape) shapes.push(shape)
    return shape
  }

  function readKey(): string {
    const key = read()
    if (typeof key !== 'string') throw malformed('a key is not a text')
    return key
  }
}
