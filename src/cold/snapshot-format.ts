import { createRequire } from 'node:module'
import { Packr, Unpackr } from 'msgpackr'
import { decode, encode } from '../channel/codec.js'
import { encodeFrame, FrameReader } from '../channel/frame.js'
import { TsunagiError } from '../errors.js'
import { aligned } from '../handover/aligned.js'
import { CONNECTION_COLUMNS, TUPLE_BYTES } from '../native/repair.js'
import type { SnapshotBody, SnapshotHead } from './snapshot-data.js'

/**
 * A snapshot as bytes. Its one rule: nothing of it counts unless all of it is there.
 *
 *   "TSUNAGI\n" | format u32 | head length u32 | body length f64 | SHA-256 of all this and the head | head | body | SHA-256 of the body
 *
 * Little-endian. The head is msgpack and tells what was held; it is written before the hold, with body length 0, so that a process that dies in
 * between leaves behind what is to be released. The body is one frame, as on the channel: msgpack, then the kernel's figures, the two ends and the queues
 * of all connections, then the raw segments of the record.
 */
export const FORMAT = 1

const packr = new Packr({ useRecords: false, variableMapSize: true })
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true })

/** The beginning of a snapshot file, up to its body. */
export function encodeHead({ bequest, ...rest }: SnapshotHead, bodyBytes: number): Uint8Array {
  const packed = packr.pack({ ...rest, bequest: encode(bequest).payload } satisfies HeadFields)
  const start = Buffer.alloc(START_BYTES)
  start.write(MAGIC, 0, 'latin1')
  start.writeUInt32LE(FORMAT, 8)
  start.writeUInt32LE(packed.length, 12)
  start.writeDoubleLE(bodyBytes, 16)
  return Buffer.concat([start, digest([start, packed]), packed])
}

/** The pieces of the body, its checksum last. */
export function encodeBody({ record, segments, refused, figures, tuples, names, queues }: SnapshotBody): Uint8Array[] {
  const transfer = encode(record).payload
  const payload = packr.pack({ transfer, names, refused: [...refused] } satisfies BodyFields)
  const own = [new Uint8Array(figures.buffer, figures.byteOffset, figures.byteLength), tuples, queues]
  const pieces = encodeFrame({ payload, segments: [...own, ...segments], fds: [] })
  return [...pieces, digest(pieces)]
}

/** What is at the beginning of `bytes`, which may hold more or less than that. */
export interface ReadHead {
  readonly head: SnapshotHead
  /** Where the body begins. */
  readonly bodyStart: number
  /** 0: it was never completed. */
  readonly bodyBytes: number
}

/** Throws ERR_TSUNAGI_SNAPSHOT or _SNAPSHOT_VERSION. `HEAD_BYTES` bytes are always enough. */
export function decodeHead(bytes: Uint8Array): ReadHead {
  const start = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (start.length < PACKED_AT || start.toString('latin1', 0, 8) !== MAGIC) throw damaged('it is no snapshot')
  const format = start.readUInt32LE(8)
  if (format !== FORMAT) {
    throw new TsunagiError(
      'ERR_TSUNAGI_SNAPSHOT_VERSION',
      `The snapshot is of format ${format}, and this version of tsunagi knows format ${FORMAT}. Restore it with the version that saved it.`,
      { phase: 'restore' },
    )
  }
  const packedBytes = start.readUInt32LE(12)
  const bodyStart = PACKED_AT + packedBytes
  if (start.length < bodyStart) throw damaged('it ends within its head')
  const packed = start.subarray(PACKED_AT, bodyStart)
  if (!digest([start.subarray(0, START_BYTES), packed]).equals(start.subarray(START_BYTES, PACKED_AT))) throw damaged('its head is damaged')
  return { head: toHead(packed), bodyStart, bodyBytes: start.readDoubleLE(16) }
}

type HeadFields = Omit<SnapshotHead, 'bequest'> & { readonly bequest: Uint8Array }

function toHead(packed: Buffer): SnapshotHead {
  const { bequest: payload, ...rest } = unpackr.unpack(packed) as HeadFields
  const { message: bequest } = decode({ payload, segments: [], fds: [] })
  const { holdMs, ports, tuples } = rest
  const isWhole = Number.isFinite(holdMs) && Array.isArray(ports) && ports.every(Number.isInteger) && tuples instanceof Uint8Array
  if (bequest.type !== 'bequest' || !isWhole) throw damaged('its head is not what a head is')
  return { ...rest, bequest }
}

/** Reads the body through `read`, which fills the buffer it is given and returns how many bytes came. Throws ERR_TSUNAGI_SNAPSHOT, _MESSAGE. */
export function decodeBody(bodyBytes: number, read: (into: Uint8Array) => number): SnapshotBody {
  const reader = new FrameReader()
  const hash = newHash()
  let left = bodyBytes - DIGEST_BYTES
  for (;;) {
    const room = reader.room
    const came = left < room.length ? 0 : readFully(room, read)
    if (came < room.length) throw damaged('it is cut off')
    left -= came
    hash.update(room)
    const frame = reader.advance(came, [])
    if (frame === undefined) continue
    const expected = Buffer.alloc(DIGEST_BYTES)
    if (left !== 0 || readFully(expected, read) < DIGEST_BYTES) throw damaged('it is not as long as it says')
    if (!hash.digest().equals(expected)) throw damaged('its checksum is wrong')
    return toBody(frame.payload, frame.segments)
  }
}

/** A snapshot that is in memory, from its first byte to its last. Throws as `decodeHead` and `decodeBody` do. */
export function decodeWhole(bytes: Uint8Array): { head: SnapshotHead; body: SnapshotBody } {
  const { head, bodyStart, bodyBytes } = decodeHead(bytes)
  if (bytes.length !== bodyStart + bodyBytes) throw damaged('it is not as long as it says')
  let at = bodyStart
  const body = decodeBody(bodyBytes, (into) => {
    const piece = bytes.subarray(at, at + into.length)
    into.set(piece)
    at += piece.length
    return piece.length
  })
  return { head, body }
}

interface BodyFields {
  readonly transfer: Uint8Array
  readonly names: readonly string[]
  readonly refused: readonly [number, string][]
}

function toBody(payload: Uint8Array, all: readonly Uint8Array[]): SnapshotBody {
  const { transfer, names, refused } = unpackr.unpack(payload as Buffer) as BodyFields
  const [figures, tuples, queues, ...segments] = all
  const { message: record } = decode({ payload: transfer, segments, fds: [] })
  if (record.type !== 'transfer' || !figures || !tuples || !queues) throw damaged('it holds no connections')
  const n = record.count
  if (figures.length !== n * CONNECTION_COLUMNS * 8 || tuples.length !== n * TUPLE_BYTES) throw damaged('its columns are not of one length')
  return {
    record,
    segments,
    refused: new Map(refused),
    figures: new Float64Array(aligned(figures)),
    tuples,
    names: [...names],
    queues,
  }
}

function readFully(into: Uint8Array, read: (into: Uint8Array) => number): number {
  let filled = 0
  while (filled < into.length) {
    const came = read(into.subarray(filled))
    if (came === 0) break
    filled += came
  }
  return filled
}

/** node:crypto is part of Node, so it needs nothing from disk; loaded at start it would cost every process 3 ms. */
function newHash() {
  return (createRequire(import.meta.url)('node:crypto') as typeof import('node:crypto')).createHash('sha256')
}

function digest(pieces: readonly Uint8Array[]): Buffer {
  const hash = newHash()
  for (const piece of pieces) hash.update(piece)
  return hash.digest()
}

function damaged(how: string): TsunagiError {
  return new TsunagiError('ERR_TSUNAGI_SNAPSHOT', `The snapshot cannot be used: ${how}. Nothing of it is restored.`, { phase: 'restore' })
}

const MAGIC = 'TSUNAGI\n'
const START_BYTES = 24
const DIGEST_BYTES = 32
const PACKED_AT = START_BYTES + DIGEST_BYTES
