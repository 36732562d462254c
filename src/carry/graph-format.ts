/*
 * The carried graph: every value that is carried in one handover, of all servers and connections, as one graph of nodes, so that an
 * object reachable from two places is one object afterwards too.
 *
 *   'tsg1' · node count · root count · bytes of leaves · bytes of roots · bytes of bodies
 *   kinds    one byte for each node, in the order of discovery: enough to create every node before any is filled
 *   leaves   what nodes without children are made of (a Date's time, a Buffer's bytes), in node order
 *   roots    key, version, value of each
 *   bodies   what the containers hold, in node order; a child that is an object is the number of its node
 *
 * Its one rule: numbers are only appended. A kind, tag, view or error type never changes its meaning, and one that the reader does not
 * know is an error, because skipping it would lose state silently. Nothing here depends on a V8 version, unlike `v8.serialize`.
 *
 * Neither side recurses: the writer walks a queue, the reader two flat loops. A list 100,000 deep is like any other value.
 * Bytes of typed arrays travel in the machine's own order: every platform Node runs these handovers on is little-endian.
 */

export const MAGIC = 'tsg1'

/** Kinds below 16 are containers and have a body; kinds from 16 on are leaves. */
export const FIRST_LEAF = 16

export const KIND = {
  object: 1,
  nullObject: 2,
  array: 3,
  map: 4,
  set: 5,
  error: 6,
  date: 16,
  regexp: 17,
  url: 18,
  buffer: 19,
  arrayBuffer: 20,
  view: 21,
  reference: 22,
} as const

/** A value in the place where it is used. From 0x80 on: a string of 0-63 one-byte characters, then the integers 0-63. */
export const TAG = {
  hole: 0,
  undefined: 1,
  null: 2,
  false: 3,
  true: 4,
  integer: 5,
  double: 6,
  positiveBigint: 7,
  negativeBigint: 8,
  latin1: 9,
  utf16: 10,
  node: 11,
  shortString: 0x80,
  smallInteger: 0xc0,
} as const

/** How an object names its keys: written out for it alone, as a new shape that later objects can name, or (from 2 on) as shape n - 2. */
export const KEYS = { inline: 0, newShape: 1, firstShape: 2 } as const

/** Objects used as dictionaries have a shape each; beyond these limits their keys are written out instead of being remembered. */
export const MAX_SHAPES = 4096
export const MAX_SHAPE_KEYS = 32

/** A hole costs a byte, so a sparse array of this length is already 32 MB; a longer one is a mistake rather than state. */
export const MAX_ARRAY_LENGTH = 2 ** 25

export const ERROR_TYPES = [
  'Error',
  'EvalError',
  'RangeError',
  'ReferenceError',
  'SyntaxError',
  'TypeError',
  'URIError',
  'AggregateError',
] as const

export const VIEW_TYPES = [
  'DataView',
  'Uint8Array',
  'Int8Array',
  'Uint8ClampedArray',
  'Int16Array',
  'Uint16Array',
  'Int32Array',
  'Uint32Array',
  'Float32Array',
  'Float64Array',
  'BigInt64Array',
  'BigUint64Array',
  'Float16Array',
] as const
