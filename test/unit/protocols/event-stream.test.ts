import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { EventStream } from '../../../src/protocols/event-stream.js'

describe('what was written to an event stream', () => {
  it.each([
    ['', undefined, true],
    ['data: a', undefined, false],
    ['data: a\n', undefined, false],
    ['id: 1\ndata: a\n', undefined, false],
    ['id: 1\ndata: a\n\n', '1', true],
    ['id: 1\r\ndata: a\r\n\r\n', '1', true],
    ['id: 1\rdata: a\r\r', '1', true],
    ['id:1\n\nid\n\n', '', true],
    ['id: 1\n\nid: a\0b\n\n', '1', true],
    ['id: 1\n\nid: 2\n', '1', false],
    [': ping\n', undefined, true],
    ['retry: 10\n', undefined, true],
    [': ping', undefined, false],
    ['id: a:b\n\n', 'a:b', true],
    ['id: \xe9\n\n', '\xc3\xa9', true],
  ])('%j: the last id is %j, between two events: %j', (text, lastId, isBetween) => {
    const whole = new EventStream()
    whole.note(text)
    expect([whole.lastId, whole.isBetweenEvents]).toEqual([lastId, isBetween])
  })

  it('does not depend on how it was cut', () => {
    const piece = fc.constantFrom('id: ', '1', '2\n', '\r\n', '\n', '\r', 'data: x', ': c', 'id')
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
        const [whole, cut, bytes] = [new EventStream(), new EventStream(), new EventStream()]
        whole.note(pieces.join(''))
        for (const one of pieces.join('')) cut.note(one)
        bytes.note(Buffer.from(pieces.join('')))
        expect([cut.lastId, cut.isBetweenEvents]).toEqual([whole.lastId, whole.isBetweenEvents])
        expect(bytes.lastId).toBe(whole.lastId)
      }),
    )
  })
})
