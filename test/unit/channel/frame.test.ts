import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeFrame, FRAME_CAPS, type Frame, FrameReader } from '../../../src/channel/frame.js'
import { MAX_FDS_PER_MESSAGE } from '../../../src/channel/messages.js'
import { TsunagiError } from '../../../src/errors.js'

const anyFrame: fc.Arbitrary<Frame> = fc.record({
  payload: fc.uint8Array({ minLength: 1, maxLength: 60 }),
  segments: fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 4 }),
  fds: fc.array(fc.nat(), { maxLength: 5 }),
})

const bytesOf = (frame: Frame) => Buffer.concat(encodeFrame(frame))
const comparable = ({ payload, segments, fds }: Frame) => ({ payload: [...payload], segments: segments.map((s) => [...s]), fds: [...fds] })

/** Feeds bytes as a stream socket would: never past what the reader asks for, and in pieces of at most the given sizes. */
function read(reader: FrameReader, bytes: Uint8Array, sizes: readonly number[], fdsAt: ReadonlyMap<number, readonly number[]>): Frame[] {
  const frames: Frame[] = []
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const { room } = reader
    const length = Math.min(room.length, bytes.length - at, sizes[turn % sizes.length] ?? 1)
    room.set(bytes.subarray(at, at + length))
    const frame = reader.advance(length, fdsAt.get(at) ?? [])
    if (frame) frames.push(frame)
    at += length
  }
  return frames
}

const header = (payload: number, segments: number, fds: number, mark = 'TSNG') => {
  const head = Buffer.alloc(16)
  head.write(mark, 'latin1')
  head.writeUInt32LE(payload, 4)
  head.writeUInt32LE(segments, 8)
  head.writeUInt32LE(fds, 12)
  return head
}

const feed = (...pieces: Uint8Array[]) => read(new FrameReader(), Buffer.concat(pieces), [1000], new Map())

describe('FrameReader', () => {
  test('gives the same frames however their bytes are cut', () => {
    fc.assert(
      fc.property(
        fc.array(anyFrame, { minLength: 1, maxLength: 4 }),
        fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }),
        (frames, sizes) => {
          const fdsAt = new Map<number, readonly number[]>()
          let at = 0
          for (const frame of frames) {
            fdsAt.set(at, frame.fds)
            at += bytesOf(frame).length
          }
          const reader = new FrameReader()
          expect(read(reader, Buffer.concat(frames.map(bytesOf)), sizes, fdsAt).map(comparable)).toEqual(frames.map(comparable))
          expect(reader.looseFds).toEqual([])
          expect(reader.midFrame).toBe(false)
        },
      ),
    )
  })

  test('takes descriptors by the count of each frame, those that came early included', () => {
    const frames = [[1, 2], [], [3]].map((fds) => ({ payload: Buffer.from('x'), segments: [], fds }))
    const received = read(new FrameReader(), Buffer.concat(frames.map(bytesOf)), [1000], new Map([[0, [1, 2, 3]]]))
    expect(received.map(({ fds }) => fds)).toEqual([[1, 2], [], [3]])
  })

  test('does not share memory between frames', () => {
    const frames = ['first', 'other'].map((content) => ({ payload: Buffer.from(content), segments: [Buffer.from(content)], fds: [] }))
    const [first] = read(new FrameReader(), Buffer.concat(frames.map(bytesOf)), [7], new Map()) as [Frame]
    expect(Buffer.from(first.payload).toString() + Buffer.from(first.segments[0] as Uint8Array).toString()).toBe('firstfirst')
  })

  test('keeps descriptors of a frame that never becomes whole, for whoever gives up on it', () => {
    const reader = new FrameReader()
    read(reader, bytesOf({ payload: Buffer.from('payload'), segments: [], fds: [7, 8] }).subarray(0, 20), [1000], new Map([[0, [7, 8]]]))
    expect(reader.looseFds).toEqual([7, 8])
    expect(reader.midFrame).toBe(true)
  })

  test.for([
    ['a wrong mark', [header(1, 0, 0, 'GNST')], 'the mark of a frame'],
    ['an empty payload', [header(0, 0, 0)], 'its payload is empty'],
    ['a payload beyond its cap', [header(FRAME_CAPS.payload + 1, 0, 0)], 'payload bytes'],
    ['more segments than the cap', [header(1, FRAME_CAPS.segments + 1, 0)], 'segments'],
    ['more descriptors than one message carries', [header(1, 0, MAX_FDS_PER_MESSAGE + 1)], 'descriptors'],
    ['segments that are too long together', [header(1, 2, 0), Buffer.alloc(8, 0xff)], 'segment bytes'],
    ['descriptors that did not come', [header(1, 0, 1), Buffer.from('x')], 'it announced 1 descriptors and brought 0'],
  ] as const)('refuses %s', ([, pieces, message]) => {
    expect(() => feed(...pieces)).toThrow(message)
  })

  test('gives only errors of ours, whatever comes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.boolean(), (tail, hasMark) => {
        try {
          feed(
            hasMark ? Buffer.from('TSNG') : Buffer.alloc(0),
            tail.map((byte, i) => (i % 4 === 3 || i % 4 === 2 ? 0 : byte)),
          )
        } catch (error) {
          if (!(error instanceof TsunagiError)) throw error
          expect(error.code).toBe('ERR_TSUNAGI_MESSAGE')
        }
      }),
      { numRuns: 2000 },
    )
  })
})

describe('encodeFrame', () => {
  test('does not copy what it is given', () => {
    const [payload, segment] = [Buffer.from('payload'), Buffer.from('segment')]
    expect(encodeFrame({ payload, segments: [segment, Buffer.alloc(0)], fds: [] }).slice(1)).toEqual([payload, segment])
  })
})
