import { fstatSync, readSync } from 'node:fs'
import { decode, encode, type Received } from '../channel/codec.js'
import { encodeFrame, FrameReader } from '../channel/frame.js'
import type { Bundle } from './holder.js'

/** What a memory file holds: the frames of the bequest and of the record. */
export function memoryOf({ bequest, record, segments }: Pick<Bundle, 'bequest' | 'record' | 'segments'>): Uint8Array {
  return Buffer.concat([...encodeFrame(encode(bequest)), ...encodeFrame(encode(record, segments))])
}

/** Reading does not use it up: whoever comes later reads the same. */
export function readFrames(fd: number): Received[] {
  const { size } = fstatSync(fd)
  const reader = new FrameReader()
  const frames: Received[] = []
  for (let at = 0; at < size; ) {
    const bytes = readSync(fd, reader.room, 0, reader.room.length, at)
    if (bytes === 0) break
    at += bytes
    const complete = reader.advance(bytes, [])
    if (complete) frames.push(decode(complete))
  }
  return frames
}
