import { encode } from '../channel/codec.js'
import { encodeFrame } from '../channel/frame.js'
import { MAX_FDS_PER_MESSAGE, type Message } from '../channel/messages.js'
import type { Env } from '../env.js'
import { TsunagiError } from '../errors.js'
import type { Deadline } from '../handover/deadline.js'
import { whileTooManyInFlight } from '../predecessor/send.js'
import type { Bequest, Bundle } from './holder.js'

/**
 * What a keeper is given, which knows nothing of messages: a preamble with what it has to know, the frames that it shall play to the next process, and the
 * frames that it shall answer with.
 *
 *   "TSNK" or, in escrow, "TSNE" | version | hold ms | patience ms | bytes of names, ack, busy, offer u32 | bytes of the tape u64 | supervisor | quiet ms
 *   | names | ack | busy | tape
 *   tape:  bequest with the listeners (the offer) | fds … | transfer
 *
 * @note addon/keeper/tape.c reads it.
 */
export interface Tape {
  readonly preamble: Uint8Array
  readonly frames: readonly { readonly chunks: readonly Uint8Array[]; readonly fds: readonly number[] }[]
}

/** Paths, of which the first is private; how long it holds, and waits for somebody who has come, ms. */
export interface TapeSettings {
  readonly names: readonly string[]
  readonly holdMs: number
  readonly patienceMs: number
  /** Who starts the next process, and does nothing for `quietMs` at most before it does; where it is quiet for longer nobody comes. */
  readonly supervisor: { readonly pid: number; readonly quietMs: number } | undefined
}

export function recordTape({ bequest, listeners, datagrams, record, segments, fds }: Bundle, settings: TapeSettings): Tape {
  const offered = [...listeners, ...datagrams]
  if (offered.length > MAX_FDS_PER_MESSAGE)
    throw new TsunagiError(
      'ERR_TSUNAGI_FD_LIMIT',
      `A keeper takes ${MAX_FDS_PER_MESSAGE} listeners and UDP sockets at most, and there are ${offered.length}.`,
    )
  const offer = frame(bequest, [], offered)
  const rest: Tape['frames'][number][] = []
  for (let at = 0; at < fds.length; at += MAX_FDS_PER_MESSAGE) {
    const batch = [...fds.subarray(at, at + MAX_FDS_PER_MESSAGE)]
    rest.push(frame({ type: 'fds', count: batch.length }, [], batch))
  }
  rest.push(frame(record, segments))
  const frames = [offer, ...rest]
  return tapeOf(MAGIC, frames, settings)
}

/** For a keeper that is there while the server lives: its connections follow as orders (survive/escrow.ts), and what it plays them with are two frames. */
export function escrowTape(bequest: Bequest, fds: readonly number[], settings: TapeSettings): Tape {
  // The keeper puts the true number into the frame's head and into its last byte, which msgpack has for numbers from 128 on.
  const batch = encodeFrame(encode({ type: 'fds', count: MAX_FDS_PER_MESSAGE }, [], Array(MAX_FDS_PER_MESSAGE).fill(-1)))
  return tapeOf(ESCROW_MAGIC, [frame(bequest, [], fds), { chunks: batch, fds: [] }, frame({ type: 'left' })], settings)
}

function tapeOf(magic: number, frames: Tape['frames'], { names, holdMs, patienceMs, supervisor }: TapeSettings): Tape {
  const texts = Buffer.from(names.map((name) => `${name}\0`).join(''))
  const ack = Buffer.concat(frame({ type: 'ack', refused: [] }).chunks)
  const busy = Buffer.concat(
    frame({ type: 'refused', code: 'ERR_TSUNAGI_BUSY', reason: 'another process is taking over what is held there' }).chunks,
  )
  const head = Buffer.alloc(HEAD_BYTES)
  const numbers = [magic, VERSION, holdMs, patienceMs, texts.length, ack.length, busy.length, bytesOf(frames.slice(0, 1))]
  for (const [i, number] of numbers.entries()) head.writeUInt32LE(number, 4 * i)
  head.writeBigUInt64LE(BigInt(bytesOf(frames)), 4 * numbers.length)
  head.writeUInt32LE(supervisor?.pid ?? 0, 4 * numbers.length + 8)
  head.writeUInt32LE(supervisor?.quietMs ?? 0, 4 * numbers.length + 12)
  return { preamble: Buffer.concat([head, texts, ack, busy]), frames }
}

export function sendTape(env: Env, fd: number, { preamble, frames }: Tape, deadline: Deadline): void {
  env.native.sendMessage(fd, [preamble], new Int32Array(), deadline.left)
  for (const [at, { chunks, fds }] of frames.entries()) {
    if (at > 0) env.fault('keeper-amid-tape')
    whileTooManyInFlight(env, deadline, () => env.native.sendMessage(fd, chunks, Int32Array.from(fds), deadline.left))
  }
}

function frame(message: Message, segments: readonly Uint8Array[] = [], fds: readonly number[] = []) {
  return { chunks: encodeFrame(encode(message, segments, fds)), fds }
}

function bytesOf(frames: Tape['frames']): number {
  return frames.reduce((sum, { chunks }) => sum + chunks.reduce((bytes, { length }) => bytes + length, 0), 0)
}

const MAGIC = 0x4b4e5354
const ESCROW_MAGIC = 0x454e5354
const VERSION = 2
const HEAD_BYTES = 48
