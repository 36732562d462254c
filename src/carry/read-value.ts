import { type ByteReader, malformed } from './byte-reader.js'
import { TAG } from './graph-format.js'

/** An array element that is not there; never leaves the reader. */
export const HOLE = Symbol('hole')

/** Reads one value; `nodes` is what its objects are. */
export function readValue(reader: ByteReader, nodes: readonly unknown[]): unknown {
  const tag = reader.byte()
  if (tag >= TAG.smallInteger) return tag - TAG.smallInteger
  if (tag >= TAG.shortString) return reader.latin1(tag - TAG.shortString)
  switch (tag) {
    case TAG.hole:
      return HOLE
    case TAG.undefined:
      return undefined
    case TAG.null:
      return null
    case TAG.false:
      return false
    case TAG.true:
      return true
    case TAG.integer: {
      const zigzag = reader.count()
      return (zigzag >>> 1) ^ -(zigzag & 1)
    }
    case TAG.double:
      return reader.float64()
    case TAG.positiveBigint:
      return reader.bigint()
    case TAG.negativeBigint:
      return -reader.bigint()
    case TAG.latin1:
      return reader.latin1(reader.countOf(1))
    case TAG.utf16:
      return reader.utf16()
    case TAG.node: {
      const id = reader.count()
      if (id >= nodes.length) throw malformed(`it refers to node ${id} of ${nodes.length}`)
      return nodes[id]
    }
    default:
      throw malformed(`value tag ${tag} is unknown to this version of tsunagi; the predecessor's is newer, or the bytes are damaged`)
  }
}
