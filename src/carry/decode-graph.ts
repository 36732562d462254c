import { ByteReader, malformed } from './byte-reader.js'
import { MAGIC } from './graph-format.js'
import { readBodies } from './read-bodies.js'
import { readNodes } from './read-nodes.js'
import { readRoots } from './read-roots.js'
import { RootSettler } from './settle-roots.js'

/** What the successor's code has said about a key, by `carry` or `carry.define`. */
export interface Declaration {
  readonly version: number
  /** The container that the code already holds: it is refilled in place, and every reference to the root becomes a reference to it. */
  readonly live?: object | undefined
  /**
   * Makes a value of this version of one from `fromVersion`, older or newer. It is given a fresh value and must answer at once. What it
   * reaches that belongs to another live root, or leads back to its own live container, is not filled yet.
   */
  readonly migrate?: ((value: unknown, fromVersion: number) => unknown) | undefined
}

export interface DecodeOptions {
  /** The socket (or other thing) with this number in the caller's table; undefined if it did not come along. */
  readonly resolve: (index: number) => object | undefined
  /** Undefined for a key that the code has not spoken of yet: its value is given as it came, with its version. */
  readonly declared: (key: string) => Declaration | undefined
  /** How a root is called in error messages. @default its key */
  readonly name?: (key: string) => string
}

export interface RestoredRoot {
  /** The live container where there is one. */
  readonly value: unknown
  /** The version that `value` has now. */
  readonly version: number
  /** The version in which it came. */
  readonly fromVersion: number
}

export interface DecodedGraph {
  readonly roots: ReadonlyMap<string, RestoredRoot>
  /** Numbers of referenced sockets that `resolve` did not know. They are null, and left out as a member of a Set or a key of a Map. */
  readonly absent: readonly number[]
  /** Pours the carried state into the live containers. Cannot fail; a second call does nothing. */
  commit(): void
}

/**
 * Builds all carried values and checks everything that could go wrong with them. Nothing that the successor's code holds is changed
 * before `commit`.
 *
 * Two roots that were one object are one object again. If both have a live container of their own, that can no longer be true of the
 * containers: both are filled with the same content, and references lead to the first one's.
 *
 * @throws TsunagiError ERR_TSUNAGI_MESSAGE, and with the `key` of the root: ERR_TSUNAGI_STATE_VERSION, ERR_TSUNAGI_STATE_SHAPE, ERR_TSUNAGI_MIGRATE
 */
export function decodeGraph(bytes: Uint8Array, options: DecodeOptions): DecodedGraph {
  const { kinds, leaves, roots, bodies, rootCount } = readSections(bytes)
  const absent: number[] = []
  const shells = readNodes(kinds, leaves, options.resolve, absent)
  leaves.finish('leaves')
  const settler = new RootSettler(readRoots(rootCount, roots, shells), options)
  readBodies(kinds, bodies, shells, settler.replaceRoots(shells))
  const restored = settler.settle()
  return {
    roots: restored,
    absent,
    commit() {
      for (const pour of settler.pours) pour()
    },
  }
}

function readSections(bytes: Uint8Array) {
  const reader = new ByteReader(bytes)
  if (reader.left < MAGIC.length || reader.raw(MAGIC.length).toString('latin1') !== MAGIC) throw malformed('it does not begin as one')
  const nodeCount = reader.countOf(1)
  const rootCount = reader.countOf(3)
  const [leafBytes, rootBytes, bodyBytes] = [reader.countOf(1), reader.countOf(1), reader.countOf(1)]
  // Each node has at least a byte beside its kind, and each root three: fewer bytes cannot ask for memory for more.
  if (nodeCount > leafBytes + bodyBytes || rootCount * 3 > rootBytes)
    throw malformed('it announces more nodes or roots than it has bytes for')
  const sections = {
    rootCount,
    kinds: reader.raw(nodeCount),
    leaves: new ByteReader(reader.raw(leafBytes)),
    roots: new ByteReader(reader.raw(rootBytes)),
    bodies: new ByteReader(reader.raw(bodyBytes)),
  }
  reader.finish('sections')
  return sections
}
