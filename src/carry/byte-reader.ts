import { TsunagiError } from '../errors.js'

export function malformed(what: string): TsunagiError {
  return new TsunagiError('ERR_TSUNAGI_MESSAGE', `the carried graph cannot be read: ${what}`)
}

/**
 * Short strings are cut out of a window that was decoded at once, which is five times faster than a call of Node for each. Only up to
 * this length does V8 copy the part: a longer one would keep the whole window alive.
 *
 * @note SlicedString::kMinLength is 13 in V8's src/objects/string.h; what stays alive was measured on Node 20.20 and 26.10. Were it
 * less, only memory would be lost.
 */
const LONGEST_COPIED = 12
const WINDOW = 16384

/** Reads bytes that may be hostile: every length is compared with what is left before anything is allocated for it. */
export class ByteReader {
  readonly #bytes: Buffer
  readonly #view: DataView
  readonly #end: number
  #at = 0
  #window = ''
  #windowStart = 0
  #windowEnd = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#end = bytes.length
  }

  get left(): number {
    return this.#end - this.#at
  }

  byte(): number {
    if (this.#at >= this.#end) throw malformed('it ends too early')
    return this.#bytes[this.#at++] as number
  }

  count(): number {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte()
      // Multiplied, not shifted: the fifth byte would land in the sign bit.
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) {
        if (value > 0xffffffff) break
        return value
      }
    }
    throw malformed('a number has too many bytes')
  }

  /** A number of things that take at least `each` bytes; more than there can be is refused here, before memory is taken for them. */
  countOf(each: number): number {
    const count = this.count()
    if (count * each > this.left) throw malformed(`it announces ${count} items where ${this.left} bytes are left`)
    return count
  }

  float64(): number {
    const at = this.#skip(8)
    return this.#view.getFloat64(at, true)
  }

  /** The next `length` bytes, without a copy. */
  raw(length: number): Buffer {
    const at = this.#skip(length)
    return this.#bytes.subarray(at, at + length)
  }

  latin1(length: number): string {
    const at = this.#skip(length)
    if (length > LONGEST_COPIED) return this.#bytes.toString('latin1', at, at + length)
    if (at < this.#windowStart || at + length > this.#windowEnd) {
      this.#windowStart = at
      this.#windowEnd = Math.min(at + WINDOW, this.#end)
      this.#window = this.#bytes.toString('latin1', at, this.#windowEnd)
    }
    return this.#window.substring(at - this.#windowStart, at - this.#windowStart + length)
  }

  utf16(): string {
    const size = this.countOf(1)
    if (size % 2 !== 0) throw malformed('a UTF-16 string has half a character')
    const at = this.#skip(size)
    return this.#bytes.toString('utf16le', at, at + size)
  }

  bigint(): bigint {
    const digits = this.raw(this.countOf(1))
    try {
      return BigInt(`0x${digits.toString('hex') || '0'}`)
    } catch {
      throw malformed(`a bigint has ${digits.length} bytes`)
    }
  }

  finish(section: string): void {
    if (this.left > 0) throw malformed(`${this.left} bytes are left over after its ${section}`)
  }

  #skip(length: number): number {
    const at = this.#at
    if (length > this.#end - at) throw malformed('it ends too early')
    this.#at = at + length
    return at
  }
}
