import { TsunagiError } from '../errors.js'
import { MAX_FDS_PER_MESSAGE } from './messages.js'

/**
 * The unit on the wire. One header, the lengths of the raw segments, the msgpack payload, the segments:
 *
 *   "TSNG" | payload u32 | segments u32 | fds u32 | segment length u32 × n | payload | segment | segment …
 *
 * Little-endian. Segments are not copied on either side. Descriptors arrive with the header's first byte;
 * the kernel may hand them over a little early, never late, so they are queued and taken by count.
 */
export interface Frame {
  payload: Uint8Array
  segments: readonly Uint8Array[]
  fds: readonly number[]
}

const MAGIC = 0x474e5354
const HEADER_BYTES = 16

/** Caps that are checked before anything is allocated. */
export const FRAME_CAPS = {
  payload: 256 * 1024 * 1024,
  segments: 200_000,
  /** All segments together; more than that pending is drained, not moved. */
  segmentBytes: 2 ** 32,
} as const

/** The pieces to write for a frame, header first. */
export function encodeFrame(frame: Frame): Uint8Array[] {
  const head = Buffer.allocUnsafe(HEADER_BYTES + 4 * frame.segments.length)
  head.writeUInt32LE(MAGIC, 0)
  head.writeUInt32LE(frame.payload.length, 4)
  head.writeUInt32LE(frame.segments.length, 8)
  head.writeUInt32LE(frame.fds.length, 12)
  for (const [i, segment] of frame.segments.entries()) head.writeUInt32LE(segment.length, HEADER_BYTES + 4 * i)
  return [head, frame.payload, ...frame.segments].filter((piece) => piece.length > 0)
}

/** Puts frames together from whatever pieces a transport delivers: the reader says where the next bytes belong, the caller says how many came. */
export class FrameReader {
  #stage: 'header' | 'lengths' | 'body' = 'header'
  #buffer: Buffer = Buffer.allocUnsafe(HEADER_BYTES)
  #filled = 0
  #payloadBytes = 0
  #segmentLengths: number[] = []
  #fdCount = 0
  #fds: number[] = []

  /** Where the next received bytes belong. */
  get room(): Uint8Array {
    return this.#buffer.subarray(this.#filled)
  }

  /** Descriptors received and not yet part of a complete frame: whoever gives up on the stream closes them. */
  get looseFds(): number[] {
    return this.#fds
  }

  /** Whether a frame has begun to arrive. */
  get midFrame(): boolean {
    return this.#stage !== 'header' || this.#filled > 0
  }

  /** Takes note of `bytes` written into `room`; returns the frame when it is complete. */
  advance(bytes: number, fds: readonly number[]): Frame | undefined {
    this.#fds.push(...fds)
    this.#filled += bytes
    while (this.#filled === this.#buffer.length) {
      if (this.#stage === 'header') this.#readHeader()
      else if (this.#stage === 'lengths') this.#readLengths()
      else return this.#takeFrame()
    }
    return undefined
  }

  #readHeader(): void {
    const head = this.#buffer
    if (head.readUInt32LE(0) !== MAGIC) throw malformed('it does not begin with the mark of a frame')
    this.#payloadBytes = capped(head.readUInt32LE(4), FRAME_CAPS.payload, 'payload bytes')
    const segments = capped(head.readUInt32LE(8), FRAME_CAPS.segments, 'segments')
    this.#fdCount = capped(head.readUInt32LE(12), MAX_FDS_PER_MESSAGE, 'descriptors')
    if (segments > 0) this.#expect('lengths', 4 * segments)
    else {
      this.#segmentLengths = []
      this.#expectBody(0)
    }
  }

  #readLengths(): void {
    const lengths: number[] = []
    let total = 0
    for (let at = 0; at < this.#buffer.length; at += 4) {
      const length = this.#buffer.readUInt32LE(at)
      total += length
      lengths.push(length)
    }
    this.#segmentLengths = lengths
    this.#expectBody(capped(total, FRAME_CAPS.segmentBytes, 'segment bytes'))
  }

  #expectBody(segmentBytes: number): void {
    if (this.#payloadBytes === 0) throw malformed('its payload is empty')
    this.#expect('body', this.#payloadBytes + segmentBytes)
  }

  #expect(stage: 'lengths' | 'body', bytes: number): void {
    this.#stage = stage
    this.#buffer = Buffer.allocUnsafeSlow(bytes)
    this.#filled = 0
  }

  #takeFrame(): Frame {
    if (this.#fds.length < this.#fdCount) throw malformed(`it announced ${this.#fdCount} descriptors and brought ${this.#fds.length}`)
    const payload = this.#buffer.subarray(0, this.#payloadBytes)
    let end = this.#payloadBytes
    const segments = this.#segmentLengths.map((length) => {
      const start = end
      end += length
      return this.#buffer.subarray(start, end)
    })
    const frame = { payload, segments, fds: this.#fds.splice(0, this.#fdCount) }
    this.#stage = 'header'
    this.#buffer = Buffer.allocUnsafe(HEADER_BYTES)
    this.#filled = 0
    return frame
  }
}

function capped(value: number, cap: number, what: string): number {
  if (value > cap) throw malformed(`${value} ${what} are more than the ${cap} that are allowed`)
  return value
}

function malformed(what: string): TsunagiError {
  return new TsunagiError('ERR_TSUNAGI_MESSAGE', `A frame from the other process was not accepted: ${what}.`)
}
