/**
 * What a receiver holds of messages that have not come in whole, as the bytes that a client would have sent for them: fragments that are complete as
 * one frame, then as much of the present frame as was read. Any receiver of any version goes on from there, and needs to be told nothing else.
 */
import { RECEIVER, type Receiver } from './ws.js'

/** `compressed`: fragments of the present message as they came, where it is compressed. */
export function receivedPart(receiver: Receiver, compressed: readonly Uint8Array[] | undefined): Uint8Array[] {
  const { _state: state, _opcode: opcode, _buffers: buffers } = receiver
  const isControl = opcode > 0x07 && state !== RECEIVER.info
  const isContinued = hasEarlierFragments(receiver, compressed, isControl)
  const pieces: Uint8Array[] = []
  if (isContinued) {
    const payload = Buffer.concat(receiver._compressed ? (compressed ?? []) : receiver._fragments)
    pieces.push(head(receiver._fragmented, { fin: false, compressed: receiver._compressed, length: payload.length }), NO_MASK, payload)
  }
  if (state !== RECEIVER.info) {
    const begins = isControl || !isContinued
    const compressed = begins && !isControl && receiver._compressed
    pieces.push(head(begins ? opcode : 0, { fin: receiver._fin, compressed, length: lengthOf(receiver) }))
    if (receiver._mask && state === RECEIVER.data) pieces.push(receiver._mask)
  }
  return [...pieces, ...buffers].filter((piece) => piece.length > 0)
}

/** Whether frames of the present message are complete. Where they were all empty it makes no difference. */
function hasEarlierFragments(receiver: Receiver, compressed: readonly Uint8Array[] | undefined, isControl: boolean): boolean {
  if (receiver._fragmented === 0) return false
  if (receiver._state === RECEIVER.info || isControl) return true
  const counted = receiver._state >= RECEIVER.mask ? receiver._payloadLength : 0
  return receiver._totalPayloadLength > counted || receiver._fragments.length > 0 || (compressed?.length ?? 0) > 0
}

/** The length field may itself be on its way: its first byte says how long it will be. */
function lengthOf({ _state, _payloadLength }: Receiver): number | 'in 2 bytes' | 'in 8 bytes' {
  if (_state === RECEIVER.length16) return 'in 2 bytes'
  return _state === RECEIVER.length64 ? 'in 8 bytes' : _payloadLength
}

/** A frame's head without its mask, as a client sends it. @note RFC 6455, 5.2. */
function head(opcode: number, frame: { fin: boolean; compressed: boolean; length: ReturnType<typeof lengthOf> }): Uint8Array {
  const first = (frame.fin ? 0x80 : 0) | (frame.compressed ? 0x40 : 0) | opcode
  const { length } = frame
  if (length === 'in 2 bytes') return Uint8Array.of(first, MASKED | 126)
  if (length === 'in 8 bytes') return Uint8Array.of(first, MASKED | 127)
  if (length < 126) return Uint8Array.of(first, MASKED | length)
  if (length < 0x10000) return Uint8Array.of(first, MASKED | 126, length >> 8, length & 0xff)
  const bytes = Buffer.alloc(10)
  bytes.set([first, MASKED | 127])
  bytes.writeBigUInt64BE(BigInt(length), 2)
  return bytes
}

const MASKED = 0x80
const NO_MASK = new Uint8Array(4)
