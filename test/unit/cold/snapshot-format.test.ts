import { describe, expect, test } from 'vitest'
import { decodeBody, decodeHead, encodeBody, encodeHead } from '../../../src/cold/snapshot-format.js'
import { aBody, aHead } from './a-snapshot.js'

const bodyBytes = Buffer.concat(encodeBody(aBody()))

function readerOf(bytes: Uint8Array, atMost = 4096): (into: Uint8Array) => number {
  let at = 0
  return (into) => {
    const piece = bytes.subarray(at, at + Math.min(into.length, atMost))
    into.set(piece)
    at += piece.length
    return piece.length
  }
}

const refusal = (code: string) => expect.objectContaining({ code })

/** Every 1st to 97th byte, so that all parts are met. */
function* places(length: number): Iterable<number> {
  for (let at = 0, step = 1; at < length; at += step, step = (step * 31 + 7) % 4999) yield at
}

describe('a snapshot', () => {
  test('comes back as it was', () => {
    const head = aHead()
    const bytes = encodeHead(head, 12_345)
    expect(decodeHead(bytes)).toEqual({ head: { ...head, tuples: Buffer.from(head.tuples) }, bodyStart: bytes.length, bodyBytes: 12_345 })

    const expected = aBody()
    const body = decodeBody(bodyBytes.length, readerOf(bodyBytes))
    expect(body.figures).toEqual(expected.figures)
    expect(body.refused).toEqual(expected.refused)
    expect(body.names).toEqual(expected.names)
    for (const column of ['tuples', 'queues'] as const) expect(Buffer.from(body[column])).toEqual(Buffer.from(expected[column]))
    expect(body.segments.map((segment) => Buffer.from(segment))).toEqual(expected.segments.map((segment) => Buffer.from(segment)))
    expect(body.record).toMatchObject({ count: 2, timeouts: [[1, 1000, 10]], unsent: [[0, 0]] })
  })

  test('of which the head is not whole is refused', () => {
    const bytes = encodeHead(aHead(), 1)
    for (let length = 0; length < bytes.length; length++) {
      expect(() => decodeHead(bytes.subarray(0, length))).toThrow(refusal('ERR_TSUNAGI_SNAPSHOT'))
    }
  })

  test('of which one bit of the head is another one is refused', () => {
    const bytes = encodeHead(aHead(), 1)
    for (let at = 0; at < bytes.length; at++) {
      const damaged = Buffer.from(bytes)
      damaged[at] = (damaged[at] as number) ^ 1
      expect(() => decodeHead(damaged)).toThrow(
        at >= 8 && at < 12 ? refusal('ERR_TSUNAGI_SNAPSHOT_VERSION') : refusal('ERR_TSUNAGI_SNAPSHOT'),
      )
    }
  })

  test('that is cut off, or is longer than it says, is refused', () => {
    for (const length of [...places(bodyBytes.length), bodyBytes.length - 1]) {
      expect(() => decodeBody(bodyBytes.length, readerOf(bodyBytes.subarray(0, length)))).toThrow(refusal('ERR_TSUNAGI_SNAPSHOT'))
      expect(() => decodeBody(length, readerOf(bodyBytes))).toThrow(refusal('ERR_TSUNAGI_SNAPSHOT'))
    }
    expect(() => decodeBody(bodyBytes.length + 1, readerOf(Buffer.concat([bodyBytes, Buffer.alloc(1)])))).toThrow(
      refusal('ERR_TSUNAGI_SNAPSHOT'),
    )
  })

  test('of which one bit is another one is refused', () => {
    for (const at of places(bodyBytes.length)) {
      const damaged = Buffer.from(bodyBytes)
      damaged[at] = (damaged[at] as number) ^ 0x10
      expect(() => decodeBody(damaged.length, readerOf(damaged, damaged.length))).toThrow(/snapshot cannot be used|A frame from/)
    }
  })
})
