import { TAG } from './graph-format.js'

/** Thrown when a writer would pass its limit; `encodeGraph` turns it into an error that names the largest roots. */
export class LimitReached {
  constructor(readonly size: number) {}
}

/** Bytes that grow up to a limit. Every method writes at the end. */
export class ByteWriter {
  bytes: Buffer
  length = 0
  readonly #limit: number
  #view: DataView

  constructor(limit: number, capacity: number) {
    this.bytes = Buffer.allocUnsafeSlow(capacity)
    this.#view = new DataView(this.bytes.buffer)
    this.#limit = limit
  }

  written(): Uint8Array {
    return this.bytes.subarray(0, this.length)
  }

  byte(value: number): void {
    if (this.length === this.bytes.length) this.#grow(1)
    this.bytes[this.length++] = value
  }

  /** An unsigned integer below 2^32, seven bits a byte, lowest first. */
  count(value: number): void {
    if (this.length + 5 > this.bytes.length) this.#grow(5)
    const bytes = this.bytes
    let rest = value
    while (rest > 0x7f) {
      bytes[this.length++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    bytes[this.length++] = rest
  }

  float64(value: number): void {
    if (this.length + 8 > this.bytes.length) this.#grow(8)
    this.#view.setFloat64(this.length, value, true)
    this.length += 8
  }

  raw(source: Uint8Array): void {
    if (this.length + source.length > this.bytes.length) this.#grow(source.length)
    this.bytes.set(source, this.length)
    this.length += source.length
  }

  node(id: number): void {
    this.byte(TAG.node)
    this.count(id)
  }

  number(value: number): void {
    if ((value | 0) !== value || Object.is(value, -0)) {
      this.byte(TAG.double)
      this.float64(value)
    } else if (value >= 0 && value < 64) {
      this.byte(TAG.smallInteger | value)
    } else {
      this.byte(TAG.integer)
      this.count(((value << 1) ^ (value >> 31)) >>> 0)
    }
  }

  bigint(value: bigint): void {
    const hex = (value < 0n ? -value : value).toString(16)
    const digits = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex')
    this.byte(value < 0n ? TAG.negativeBigint : TAG.positiveBigint)
    this.count(digits.length)
    this.raw(digits)
  }

  /**
   * One byte a character where that is enough, else UTF-16: both keep lone surrogates, which UTF-8 would replace, and both are plain
   * copies of what V8 holds.
   */
  string(text: string): void {
    if (text.length < 64 && this.#shortString(text)) return
    if (/[\u0100-\uffff]/.test(text)) this.#encodedString(TAG.utf16, text, 2 * text.length, 'utf16le')
    else this.#encodedString(TAG.latin1, text, text.length, 'latin1')
  }

  /** Most strings are short, and a loop here is faster than a call of Node. Whether one byte a character was enough. */
  #shortString(text: string): boolean {
    const length = text.length
    if (this.length + 64 > this.bytes.length) this.#grow(64)
    const bytes = this.bytes
    let at = this.length + 1
    for (let i = 0; i < length; i++) {
      const unit = text.charCodeAt(i)
      if (unit > 0xff) return false
      bytes[at++] = unit
    }
    bytes[this.length] = TAG.shortString | length
    this.length = at
    return true
  }

  #encodedString(tag: number, text: string, size: number, encoding: 'latin1' | 'utf16le'): void {
    this.byte(tag)
    this.count(size)
    if (this.length + size > this.bytes.length) this.#grow(size)
    this.bytes.write(text, this.length, size, encoding)
    this.length += size
  }

  #grow(need: number): void {
    const size = this.length + need
    if (size > this.#limit + 64) throw new LimitReached(size)
    const bytes = Buffer.allocUnsafeSlow(Math.max(size, this.bytes.length * 2))
    bytes.set(this.written())
    this.bytes = bytes
    this.#view = new DataView(bytes.buffer)
  }
}
