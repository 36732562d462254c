/* What an inflater remembers, which zlib's JavaScript side never shows. */
import { createRequire } from 'node:module'
import type { InflateRaw } from 'node:zlib'

interface ZlibInternals {
  _handle: {
    writeSync(flush: number, input: Uint8Array, inOffset: number, inLength: number, output: Uint8Array, at: number, room: number): void
  }
  /** Room left in the output, bytes left of the input. */
  _writeState: Uint32Array
}

/**
 * The last 2 ** `bits` bytes that a live raw inflater has put out, zeros first where it has put out fewer. It is fed a block that says "repeat all of
 * your window": the answer is the window, and repeating it leaves it as it was. The inflater has to be idle, at the boundary of a flush, and made with
 * a window full of zeros as its dictionary; `undefined` if it was not.
 *
 * @note lib/zlib.js `processChunkSync`; RFC 1951, 3.2.6. The answer is checked against what zlib says about its own input and output.
 */
export function windowOf(inflate: InflateRaw, bits: number): Buffer | undefined {
  const { _handle, _writeState } = inflate as unknown as ZlibInternals
  const block = repeatWindow(bits)
  const size = 2 ** bits
  const output = Buffer.allocUnsafeSlow(size + 1) // one more, so that zlib comes to the end of its input
  _handle.writeSync(zlib().constants.Z_SYNC_FLUSH, block, 0, block.length, output, 0, output.length)
  return _writeState[0] === 1 && _writeState[1] === 0 ? output.subarray(0, size) : undefined
}

/** Whether this Node's zlib does what `windowOf` relies on: tried once, on a window that is known. */
export function tellsWindows(): boolean {
  isTold ??= tryOnce()
  return isTold
}

let isTold: boolean | undefined

function tryOnce(): boolean {
  const known = Buffer.alloc(2 ** 15, 'tsunagi ')
  const inflate = zlib().createInflateRaw({ dictionary: known })
  try {
    return [15, 15].every((bits) => windowOf(inflate, bits)?.equals(known) === true) // the second time it has to be there still
  } catch {
    return false // private fields that this Node does not have
  } finally {
    inflate.close()
  }
}

/** Whoever has an inflater has loaded it; other starts are spared it. */
function zlib(): typeof import('node:zlib') {
  return createRequire(import.meta.url)('node:zlib') as typeof import('node:zlib')
}

const blocks = new Map<number, Uint8Array>()

/** A block in the fixed Huffman code: copies of 2 ** `bits` bytes in all, each from 2 ** `bits` bytes back; then an empty stored block, which aligns. */
function repeatWindow(bits: number): Uint8Array {
  const present = blocks.get(bits)
  if (present) return present
  const out = new BitWriter()
  out.number(0, 1) // not the last block
  out.number(1, 2) // fixed Huffman
  for (const length of lengthsOf(2 ** bits)) {
    if (length === LONGEST) out.code(0b11000101, 8)
    else out.code(length - 2, 7) // 3 to 10: codes 257 to 264, which have no further bits
    out.code(2 * bits - 1, 5)
    out.number(2 ** (bits - 2) - 1, bits - 2) // the longest distance of its code
  }
  out.code(0, 7) // end of block
  out.number(0, 3) // stored, not the last
  const block = out.aligned(0, 0, 0xff, 0xff)
  blocks.set(bits, block)
  return block
}

/** The sum in lengths that one copy can have here: 258, or 3 to 10. */
function* lengthsOf(total: number): Iterable<number> {
  let left = total
  while (left >= 2 * LONGEST || left === LONGEST) {
    yield LONGEST
    left -= LONGEST
  }
  while (left > 12) {
    yield 10
    left -= 10
  }
  if (left > 10) {
    yield 5
    left -= 5
  }
  yield left
}

class BitWriter {
  readonly #bytes: number[] = []
  #bits = 0

  /** Least significant bit first. */
  number(value: number, length: number): void {
    for (let i = 0; i < length; i++) this.#bit((value >> i) & 1)
  }

  /** A Huffman code: most significant bit first. */
  code(value: number, length: number): void {
    for (let i = length - 1; i >= 0; i--) this.#bit((value >> i) & 1)
  }

  aligned(...bytes: number[]): Uint8Array {
    return Uint8Array.from([...this.#bytes, ...bytes])
  }

  #bit(bit: number): void {
    const at = this.#bits++ >> 3
    this.#bytes[at] = (this.#bytes[at] ?? 0) | (bit << ((this.#bits - 1) & 7))
  }
}

/** @note RFC 1951, 3.2.5: the longest match. */
const LONGEST = 258
