/**
 * permessage-deflate as one connection has agreed on it, for a `ws` whose new options would not: its client goes on compressing all the same. It has
 * the fields that a receiver and a sender of `ws` ask for, and compresses one message at a time as theirs does.
 *
 * @note RFC 7692, 7.2: an empty stored block ends each message, and its four bytes are not sent.
 */
import { constants, createDeflateRaw, createInflateRaw, type DeflateRaw, type InflateRaw } from 'node:zlib'
import type { DeflateParameters, PerMessageDeflate } from './ws.js'

export class AgreedDeflate implements PerMessageDeflate {
  params: DeflateParameters
  readonly _isServer = true
  readonly _threshold = 1024
  readonly _maxPayload: number
  _options: { zlibInflateOptions?: { dictionary?: Uint8Array | undefined } } = {}
  _inflate: InflateRaw | null = null
  _deflate: DeflateRaw | null = null

  constructor(params: DeflateParameters, maxPayload: number) {
    this.params = params
    this._maxPayload = maxPayload
  }

  decompress(data: Uint8Array, fin: boolean, callback: (error: Error | null, data?: Uint8Array) => void): void {
    this._inflate ??= createInflateRaw({ ...this._options.zlibInflateOptions, windowBits: this.params.client_max_window_bits ?? MAX_BITS })
    const inflate = this._inflate
    collect(inflate, fin ? [data, TRAILER] : [data], constants.Z_SYNC_FLUSH, this._maxPayload, (error, output) => {
      if (error) this._inflate = null
      else if (fin && this.params.client_no_context_takeover) inflate.reset()
      callback(error, output)
    })
  }

  compress(data: Uint8Array | string, fin: boolean, callback: (error: Error | null, data?: Uint8Array) => void): void {
    this._deflate ??= createDeflateRaw({ windowBits: this.params.server_max_window_bits ?? MAX_BITS })
    const deflate = this._deflate
    collect(deflate, [data], constants.Z_SYNC_FLUSH, 0, (error, output) => {
      if (this._deflate !== deflate) return // it was closed meanwhile
      if (fin && this.params.server_no_context_takeover) deflate.reset()
      callback(error, fin && output ? output.subarray(0, -TRAILER.length) : output)
    })
  }

  cleanup(): void {
    this._inflate?.close()
    this._deflate?.close()
    this._inflate = null
    this._deflate = null
  }
}

function collect(
  stream: InflateRaw | DeflateRaw,
  input: readonly (Uint8Array | string)[],
  flush: number,
  limit: number,
  callback: (error: Error | null, output?: Buffer) => void,
): void {
  const chunks: Buffer[] = []
  let length = 0
  const streamOnData = (chunk: Buffer) => {
    length += chunk.length
    if (limit > 0 && length > limit) stream.destroy(new RangeError('Max payload size exceeded'))
    else chunks.push(chunk)
  }
  const done = (error: Error | null) => {
    stream.off('data', streamOnData)
    stream.off('error', done)
    callback(error, Buffer.concat(chunks))
  }
  stream.on('data', streamOnData)
  stream.on('error', done)
  for (const bytes of input) stream.write(bytes)
  stream.flush(flush, () => {
    if (!stream.destroyed) done(null)
  })
}

const TRAILER = Buffer.from([0x00, 0x00, 0xff, 0xff])
const MAX_BITS = constants.Z_DEFAULT_WINDOWBITS
