import { Channel, type Transport } from '../../src/channel/channel.js'
import type { Received } from '../../src/channel/codec.js'
import type { Message } from '../../src/channel/messages.js'

/**
 * What lies between the two processes: real bytes. A message is sent by the real Channel, codec and framing, and received by them; only the kernel's
 * socket queue is the model's. Frames are kept in one table, so that a queue in a state is a short list of pieces of them.
 */
export type Piece = readonly [frame: number, from: number, to: number]

interface Sent {
  readonly bytes: Buffer
  readonly fds: readonly number[]
  readonly segments: number
}

const frames: Sent[] = []
const numbers = new Map<string, number>()

/** The whole frame that the real channel writes for a message. */
export function pieceOf(message: Message, segments: readonly Uint8Array[] = [], fds: readonly number[] = []): Piece {
  const written: { bytes: Buffer; fds: readonly number[] }[] = []
  const transport: Transport = { ...nothing, send: (chunks, sentFds) => void written.push({ bytes: Buffer.concat(chunks), fds: sentFds }) }
  new Channel(transport).send(message, { segments, fds })
  const [frame] = written as [(typeof written)[number]]
  const key = `${frame.bytes.toString('latin1')}|${frame.fds.join()}`
  let number = numbers.get(key)
  if (number === undefined) {
    number = frames.push({ ...frame, segments: segments.length }) - 1
    numbers.set(key, number)
  }
  return [number, 0, frame.bytes.length]
}

/**
 * Where a send may be cut off: within the header, within the lengths of segments, within the body, before the last byte, and where `next`, written
 * after it, would make the frame whole and leave half a header.
 */
export function cutsOf([number, from, to]: Piece, next?: Piece): Piece[] {
  const { segments } = frames[number] as Sent
  const points = new Set([HEADER / 2, HEADER, ...(segments > 0 ? [HEADER + 2] : []), (HEADER + to) >> 1, to - 1])
  if (next) points.add(to - next[2] + HEADER / 2)
  return [...points].map((point) => [number, from, point] as const)
}

/** A byte of the model is a run of bytes on the wire, longer than any small message; its last one counts. */
export const toWire = (bytes: readonly number[]): Uint8Array => Uint8Array.from(bytes.flatMap((byte) => new Array(RUN).fill(byte)))
export const fromWire = (bytes: Uint8Array): number[] => [...bytes].filter((_, i) => i % RUN === RUN - 1)
const RUN = 128

const HEADER = 16

/** Descriptors that are in flight in a queue. */
export function fdsInFlight(queue: readonly Piece[]): number[] {
  return queue.flatMap(([number, from]) => (from === 0 ? (frames[number] as Sent).fds : []))
}

export type Reception =
  | { kind: 'message'; received: Received; rest: Piece[] }
  | { kind: 'nothing' }
  | { kind: 'closed' }
  | { kind: 'malformed'; rest: Piece[] }

const receptions = new Map<string, Reception>()

/**
 * What the real Channel makes of a queue. A reader that has part of a frame is the same as one that has not begun it: the bytes stay in the queue.
 * `ended`: the writer's end is closed, which is seen after all that is queued (unix_stream_read_generic).
 */
export function receive(queue: readonly Piece[], ended: boolean): Reception {
  const key = `${queue.join(';')}|${ended}`
  let reception = receptions.get(key)
  if (reception === undefined) {
    reception = receiveAnew(queue, ended)
    receptions.set(key, reception)
  }
  return reception
}

function receiveAnew(queue: readonly Piece[], ended: boolean): Reception {
  const rest = [...queue]
  const transport: Transport = {
    ...nothing,
    receive(into) {
      const [piece] = rest
      if (piece === undefined) return ended ? { bytes: 0, fds: [] } : undefined
      const [number, from, to] = piece
      const { bytes, fds } = frames[number] as Sent
      const length = Math.min(into.length, to - from)
      into.set(bytes.subarray(from, from + length))
      if (from + length === to) rest.shift()
      else rest[0] = [number, from + length, to]
      return { bytes: length, fds: from === 0 ? [...fds] : [] }
    },
  }
  try {
    const received = new Channel(transport).receive(0)
    return received ? { kind: 'message', received, rest } : { kind: 'nothing' }
  } catch (error) {
    const { code } = error as { code?: string }
    if (code === 'ERR_TSUNAGI_CHANNEL_CLOSED') return { kind: 'closed' }
    if (code === 'ERR_TSUNAGI_MESSAGE') return { kind: 'malformed', rest }
    throw error
  }
}

const nothing: Transport = {
  send() {},
  receive: () => undefined,
  watch: () => () => {},
  closeFds() {},
  close() {},
}
