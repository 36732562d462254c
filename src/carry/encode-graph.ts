import { TsunagiError } from '../errors.js'
import { LimitReached } from './byte-writer.js'
import { findRefused, type RefusedRoot } from './find-refused.js'
import { GraphWriter, type Reference } from './write-graph.js'

/** A value that is carried, with what finds it again in the successor. */
export interface CarriedRoot {
  /** Chosen by the caller; unique in one graph. */
  readonly key: string
  /** Version of the value's shape, as declared by the application: an integer from 0. */
  readonly version: number
  readonly value: unknown
}

export interface EncodeOptions {
  /**
   * Asked for every object that is not plain data: the number of a socket (or another thing that moves by itself) in the caller's table,
   * undefined for what cannot move. The same object is given the same number when it is asked again. A socket that stays behind may have a number too; the successor's `resolve` then answers undefined.
   */
  readonly reference: Reference
  /** Most bytes that the encoded graph may have. */
  readonly maxBytes: number
  /** How a root is called in error messages, such as `carry(server, 'rooms')`. @default the root's key */
  readonly name?: (root: CarriedRoot, rootIndex: number) => string
}

/** ERR_TSUNAGI_CARRY_VALUE. */
export type CarryValueError = TsunagiError & { readonly path: string }

/** ERR_TSUNAGI_CARRY_SIZE. */
export type CarrySizeError = TsunagiError & { readonly maxBytes: number; readonly size: number; readonly largest: readonly RootSize[] }

export interface RootSize {
  readonly rootIndex: number
  readonly bytes: number
}

export interface EncodedGraph {
  readonly bytes: Uint8Array
  /** Roots that reach a value that cannot be carried. Nothing that only they reach is in `bytes`. */
  readonly refused: readonly { readonly rootIndex: number; readonly error: CarryValueError }[]
  /** Bytes that each root added, what it shares with an earlier root not counted; 0 for a refused one. */
  readonly sizes: readonly number[]
}

/**
 * Encodes all roots as one graph. It runs while the server is frozen, so the first attempt expects that everything can be carried and
 * keeps no paths; only when it meets something that cannot, the roots that reach it are looked for and left out.
 *
 * @throws CarrySizeError
 */
export function encodeGraph(roots: readonly CarriedRoot[], options: EncodeOptions): EncodedGraph {
  try {
    return { ...write(roots, new Set(), options), refused: [] }
  } catch (cause) {
    if (cause instanceof TsunagiError) throw cause
    const refused = findRefused(roots, options.reference)
    // Only code that runs while it is read, such as a patched built-in, can give two answers to the same question.
    if (refused.length === 0) throw new TsunagiError('ERR_TSUNAGI_CARRY_VALUE', 'the carried state cannot be encoded', { cause })
    const encoded = write(roots, new Set(refused.map((root) => root.rootIndex)), options)
    return { ...encoded, refused: refused.map((root) => ({ rootIndex: root.rootIndex, error: valueError(roots, root, options) })) }
  }
}

function write(
  roots: readonly CarriedRoot[],
  without: ReadonlySet<number>,
  options: EncodeOptions,
): { bytes: Uint8Array; sizes: number[] } {
  const writer = new GraphWriter(options.maxBytes, options.reference)
  const sizes: number[] = []
  let before = 0
  try {
    for (const [rootIndex, { key, version, value }] of roots.entries()) {
      if (!without.has(rootIndex)) writer.root(key, version, value)
      sizes.push(writer.size - before)
      before = writer.size
    }
    return { bytes: writer.finish(), sizes }
  } catch (cause) {
    if (cause instanceof LimitReached) throw sizeError(roots, [...sizes, cause.size - before], options, cause.size)
    throw cause
  }
}

function valueError(roots: readonly CarriedRoot[], { rootIndex, path, why }: RefusedRoot, options: EncodeOptions): CarryValueError {
  const whole = nameOf(roots, rootIndex, options) + path
  return Object.assign(new TsunagiError('ERR_TSUNAGI_CARRY_VALUE', `${whole} ${why}`), { path: whole })
}

function sizeError(roots: readonly CarriedRoot[], sizes: readonly number[], options: EncodeOptions, size: number): CarrySizeError {
  const largest = sizes
    .map((bytes, rootIndex) => ({ rootIndex, bytes }))
    .sort((a, b) => b.bytes - a.bytes)
    .slice(0, 5)
  const names = largest.map(({ rootIndex, bytes }) => `${nameOf(roots, rootIndex, options)} ${bytes}`).join(', ')
  const message =
    `the carried state is larger than its cap of ${options.maxBytes} bytes: ${size} bytes were reached at value ${sizes.length} of ${roots.length}. ` +
    `Largest so far, in bytes: ${names}. Carry less or raise the cap.`
  return Object.assign(new TsunagiError('ERR_TSUNAGI_CARRY_SIZE', message), { maxBytes: options.maxBytes, size, largest })
}

function nameOf(roots: readonly CarriedRoot[], rootIndex: number, options: EncodeOptions): string {
  const root = roots[rootIndex] as CarriedRoot
  return options.name?.(root, rootIndex) ?? root.key
}
