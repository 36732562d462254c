import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { constants, createDeflateRaw, type DeflateRaw } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import * as ws from 'ws'
import { inflatedOf, prepareInflating } from '../../../../src/protocols/websocket/inflating.js'
import { AgreedDeflate } from '../../../../src/protocols/websocket/permessage-deflate.js'
import { receivedPart } from '../../../../src/protocols/websocket/received-part.js'
import type { DeflateParameters, PerMessageDeflate, Receiver } from '../../../../src/protocols/websocket/ws.js'

/* A client's bytes are cut anywhere; what one receiver has of them goes to the next as bytes, several times, and the messages are those that were sent. */

interface Sent {
  opcode: 1 | 2
  parts: Buffer[]
  compressed: boolean
  ping: boolean
}

const { Receiver: WsReceiver, PerMessageDeflate: WsDeflate } = ws as unknown as {
  Receiver: new (options: object) => Receiver & NodeJS.WritableStream
  PerMessageDeflate: new (options: object) => PerMessageDeflate & { accept(offers: object[]): void }
}

const text = fc.oneof(fc.string({ maxLength: 300 }), fc.constantFrom('a'.repeat(66_000), 'tsunagi '.repeat(40), ''))
const message = fc.record({
  opcode: fc.constantFrom(1 as const, 2 as const),
  parts: fc.array(
    text.map((part) => Buffer.from(part)),
    { minLength: 1, maxLength: 4 },
  ),
  compressed: fc.boolean(),
  ping: fc.boolean(),
})

function frame(opcode: number, payload: Buffer, { fin = true, compressed = false } = {}): Buffer {
  const mask = randomBytes(4)
  const { length } = payload
  const first = (fin ? 0x80 : 0) | (compressed ? 0x40 : 0) | opcode
  const head =
    length < 126
      ? Buffer.of(first, 0x80 | length)
      : length < 0x10000
        ? Buffer.of(first, 0xfe, length >> 8, length & 255)
        : Buffer.of(first, 0xff, 0, 0, 0, 0, 0, length >> 16, (length >> 8) & 255, length & 255)
  return Buffer.concat([head, mask, payload.map((byte, i) => byte ^ (mask[i % 4] as number))])
}

/** One message as a client with context takeover sends it. */
async function framesOf(sent: Sent, deflate: DeflateRaw | undefined): Promise<Buffer[]> {
  const frames: Buffer[] = []
  for (const [i, part] of sent.parts.entries()) {
    const fin = i === sent.parts.length - 1
    const isCompressed = sent.compressed && deflate !== undefined
    let payload = isCompressed ? await compress(deflate, part) : part
    if (isCompressed && fin) payload = payload.subarray(0, -4)
    frames.push(frame(i === 0 ? sent.opcode : 0, payload, { fin, compressed: isCompressed && i === 0 }))
    if (sent.ping) frames.push(frame(9, Buffer.from(`ping ${i}`)))
  }
  return frames
}

async function compress(deflate: DeflateRaw, data: Buffer): Promise<Buffer> {
  const chunks: Buffer[] = []
  const onData = (chunk: Buffer) => chunks.push(chunk)
  deflate.on('data', onData)
  deflate.write(data)
  await new Promise<void>((resolve) => deflate.flush(constants.Z_SYNC_FLUSH, () => resolve()))
  deflate.off('data', onData)
  return Buffer.concat(chunks)
}

function receiverWith(deflate: PerMessageDeflate | undefined, got: unknown[]): Receiver & NodeJS.WritableStream {
  const receiver = new WsReceiver({ isServer: true, extensions: deflate ? { 'permessage-deflate': deflate } : {} })
  receiver.on('message', (data: Buffer, isBinary: boolean) => got.push([isBinary ? 2 : 1, data.toString('latin1')]))
  receiver.on('ping', (data: Buffer) => got.push(['ping', data.toString()]))
  receiver.on('error', (error: Error) => got.push(error.message))
  return receiver
}

function fromWs(params: DeflateParameters): PerMessageDeflate {
  const deflate = new WsDeflate({ isServer: true, threshold: 0 })
  deflate.params = params
  return deflate
}

async function quiescent(receiver: Receiver): Promise<void> {
  while (receiver._state > 4 || receiver.writableLength > 0) await delay(1)
}

async function carryOver(sent: Sent[], cuts: number[], params: DeflateParameters | undefined, make: typeof fromWs): Promise<unknown[]> {
  const bits = params?.client_max_window_bits ?? 15
  const client = params && createDeflateRaw({ windowBits: bits })
  const frames: Buffer[] = []
  for (const one of sent) {
    frames.push(...(await framesOf(one, client)))
    if (params?.client_no_context_takeover) client?.reset()
  }
  client?.close()
  const bytes = Buffer.concat(frames)
  const got: unknown[] = []
  let deflate = params && make(params)
  if (deflate) prepareInflating(deflate)
  let receiver = receiverWith(deflate, got)
  let at = 0
  for (const cut of [...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]) {
    receiver.write(bytes.subarray(at, cut))
    at = cut
    await quiescent(receiver)
    const inflated = deflate && inflatedOf(deflate)
    const part = receivedPart(receiver, inflated?.fragments)
    deflate = params && make(params)
    if (deflate) prepareInflating(deflate, structuredClone(inflated?.window))
    receiver = receiverWith(deflate, got)
    if (part.length > 0) receiver.write(Buffer.concat(part))
    await quiescent(receiver)
  }
  return got
}

function expected(sent: Sent[]): unknown[] {
  return sent.flatMap(({ opcode, parts, ping }) => {
    const whole = [opcode, Buffer.concat(parts).toString('latin1')]
    if (!ping) return [whole]
    const pings = parts.map((_, i) => ['ping', `ping ${i}`])
    return [...pings.slice(0, -1), whole, ...pings.slice(-1)]
  })
}

const cuts = fc.array(fc.nat(), { minLength: 3, maxLength: 8 })
const runs = { numRuns: 150 }

describe('what a receiver has of messages goes on in the next one', () => {
  test(
    'without compression',
    () =>
      fc.assert(
        fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 6 }), cuts, async (sent, at) => {
          expect(await carryOver(sent, at, undefined, fromWs)).toEqual(expected(sent))
        }),
        runs,
      ),
    60_000,
  )

  for (const params of [{}, { client_max_window_bits: 9 }, { client_max_window_bits: 12 }, { client_no_context_takeover: true }]) {
    test(
      `compressed, with ${JSON.stringify(params)}`,
      () =>
        fc.assert(
          fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 6 }), cuts, async (sent, at) => {
            expect(await carryOver(sent, at, params, fromWs)).toEqual(expected(sent))
          }),
          runs,
        ),
      60_000,
    )
  }

  test(
    'compressed, where the new options do not agree to that',
    () =>
      fc.assert(
        fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 6 }), cuts, async (sent, at) => {
          expect(await carryOver(sent, at, {}, (params) => new AgreedDeflate(params, 0))).toEqual(expected(sent))
        }),
        runs,
      ),
    60_000,
  )
})

test('a window is known in the third generation even if the second had no message', async () => {
  const client = createDeflateRaw()
  const first = { opcode: 1, parts: [Buffer.from('a phrase that the client will refer to')], compressed: true, ping: false } as const
  const sent: Sent[] = [{ ...first, parts: [...first.parts] }]
  const [one] = await framesOf(sent[0] as Sent, client)
  const [two] = await framesOf(sent[0] as Sent, client)
  expect((two as Buffer).length).toBeLessThan((one as Buffer).length / 2) // it does refer to it
  const got: unknown[] = []
  let deflate = fromWs({})
  prepareInflating(deflate)
  let receiver = receiverWith(deflate, got)
  receiver.write(one as Buffer)
  await quiescent(receiver)
  for (let generation = 2; generation <= 4; generation++) {
    const window = inflatedOf(deflate)?.window
    deflate = fromWs({})
    prepareInflating(deflate, window)
    receiver = receiverWith(deflate, got)
  }
  receiver.write(two as Buffer)
  await quiescent(receiver)
  expect(got).toEqual([
    [1, first.parts[0]?.toString()],
    [1, first.parts[0]?.toString()],
  ])
  client.close()
})
