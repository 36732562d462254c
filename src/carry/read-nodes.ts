import { type ByteReader, malformed } from './byte-reader.js'
import { ERROR_TYPES, KIND, VIEW_TYPES } from './graph-format.js'
import { readValue } from './read-value.js'

/** Stands in for a socket that `resolve` does not know; never leaves the reader. */
export const ABSENT = Symbol('absent')

/** A node before it is filled. */
export type Shell = object | typeof ABSENT

type Constructors = Record<string, (new (...args: unknown[]) => object) | undefined>

/** Creates every node: containers empty, leaves complete. `absent` collects the references that nothing was found for. */
export function readNodes(
  kinds: Uint8Array,
  leaves: ByteReader,
  resolve: (index: number) => object | undefined,
  absent: number[],
): Shell[] {
  const limit = Error.stackTraceLimit
  // Errors get their carried stack; recording one of this place for each would be thrown away.
  Error.stackTraceLimit = 0
  try {
    const shells: Shell[] = []
    for (const kind of kinds) shells.push(readNode(kind, leaves, shells, resolve, absent))
    return shells
  } finally {
    Error.stackTraceLimit = limit
  }
}

function readNode(
  kind: number,
  leaves: ByteReader,
  before: readonly Shell[],
  resolve: (index: number) => object | undefined,
  absent: number[],
): Shell {
  switch (kind) {
    case KIND.object:
      return {}
    case KIND.nullObject:
      return Object.create(null) as object
    case KIND.array:
      return []
    case KIND.map:
      return new Map()
    case KIND.set:
      return new Set()
    case KIND.error:
      return readError(leaves)
    case KIND.date:
      return new Date(leaves.float64())
    case KIND.regexp:
      return readRegExp(leaves)
    case KIND.url:
      return readUrl(leaves)
    case KIND.buffer:
      return Buffer.from(leaves.raw(leaves.countOf(1)))
    case KIND.arrayBuffer:
      return new Uint8Array(leaves.raw(leaves.countOf(1))).buffer
    case KIND.view:
      return readView(leaves, before)
    case KIND.reference: {
      const index = leaves.count()
      const object = resolve(index)
      if (object !== undefined) return object
      absent.push(index)
      return ABSENT
    }
    default:
      throw malformed(`node kind ${kind} is unknown to this version of tsunagi; the predecessor's is newer, or the bytes are damaged`)
  }
}

function readError(leaves: ByteReader): object {
  const name = ERROR_TYPES[leaves.byte()]
  if (name === undefined) throw malformed('it holds an error of an unknown type')
  const error = name === 'AggregateError' ? new AggregateError([]) : new globalThis[name]()
  // What the error has of its own comes with its body; a stack that was not carried must not be invented.
  for (const key of ['stack', 'errors']) Reflect.deleteProperty(error, key)
  return error
}

function readRegExp(leaves: ByteReader): RegExp {
  const source = readString(leaves)
  const flags = readString(leaves)
  const lastIndex = readValue(leaves, [])
  if (typeof lastIndex !== 'number') throw malformed('the lastIndex of a RegExp is not a number')
  try {
    return Object.assign(new RegExp(source, flags), { lastIndex })
  } catch (cause) {
    throw malformed(`this Node does not understand a RegExp: ${cause instanceof Error ? cause.message : String(cause)}`)
  }
}

function readUrl(leaves: ByteReader): URL {
  const href = readString(leaves)
  try {
    return new URL(href)
  } catch {
    throw malformed('a URL is not valid')
  }
}

function readView(leaves: ByteReader, before: readonly Shell[]): object {
  const name = VIEW_TYPES[leaves.byte()]
  const buffer = before[leaves.count()]
  const offset = leaves.count()
  const length = leaves.count()
  if (name === undefined || !(buffer instanceof ArrayBuffer)) throw malformed('a typed array has no type or no buffer')
  const View = (globalThis as unknown as Constructors)[name]
  if (View === undefined) throw malformed(`this Node has no ${name}`)
  try {
    return new View(buffer, offset, length)
  } catch {
    throw malformed(`a ${name} does not fit its buffer`)
  }
}

function readString(leaves: ByteReader): string {
  const text = readValue(leaves, [])
  if (typeof text !== 'string') throw malformed('a text is missing')
  return text
}
