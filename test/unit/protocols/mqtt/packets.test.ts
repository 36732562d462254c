import fc from 'fast-check'
import { expect, it } from 'vitest'
import { headOf, PacketCutter, typeOf } from '../../../../src/protocols/mqtt/packets.js'

const packet = fc
  .record({ type: fc.integer({ min: 1, max: 15 }), flags: fc.integer({ min: 0, max: 15 }), body: fc.uint8Array({ maxLength: 300 }) })
  .map(({ type, flags, body }) => Buffer.concat([headOf(type, flags, body.length), body]))

it('packets that come in pieces of any size are put together again, in order', () => {
  fc.assert(
    fc.property(fc.array(packet), fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }), (packets, sizes) => {
      const bytes = Buffer.concat(packets)
      const cutter = new PacketCutter()
      const cut: Buffer[] = []
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = sizes[i % sizes.length] as number
        cut.push(...cutter.push(bytes.subarray(at, at + size)))
        at += size
      }
      expect(cut).toEqual(packets)
    }),
  )
})

it.each([0, 127, 128, 16_383, 16_384, 2_097_152])('the length of %i bytes is written as it is read', (length) => {
  const packet = Buffer.concat([headOf(3, 0b1010, length), Buffer.alloc(length)])
  const [whole, ...more] = new PacketCutter().push(Buffer.concat([packet, headOf(12, 0, 0)]))
  expect(whole?.length).toBe(packet.length)
  expect(more.map(typeOf)).toEqual([12])
})
