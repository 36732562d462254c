import fc from 'fast-check'
import { Packr } from 'msgpackr'
import { describe, expect, test } from 'vitest'
import { decode, encode, type Received } from '../../../src/channel/codec.js'
import { TsunagiError } from '../../../src/errors.js'
import { anyMessage, anyMessageOf, MESSAGE_TYPES } from './arbitrary-message.js'

const packr = new Packr({ useRecords: false, variableMapSize: true })

const decodeFields = (fields: object, segments: Uint8Array[] = [], fds: number[] = []) =>
  decode({ payload: packr.pack(fields), segments, fds }).message

/** Bytes are compared as bytes: the decoder gives Buffers. */
function comparable(value: unknown): unknown {
  if (value instanceof Uint8Array) return [...value]
  if (Array.isArray(value)) return value.map(comparable)
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, comparable(item)]))
  return value
}

describe('encode and decode', () => {
  test.for(MESSAGE_TYPES)('give back every %s', (type) => {
    fc.assert(
      fc.property(anyMessageOf(type), (sent: Received) => {
        const received = decode(encode(sent.message, sent.segments, sent.fds))
        expect(comparable(received)).toEqual(comparable(sent))
      }),
      { numRuns: 200 },
    )
  })
})

describe('bytes that no encoder wrote', () => {
  /** Decodes; any error that is not ours is the test's failure. */
  function attempt(payload: Uint8Array, { segments, fds }: Pick<Received, 'segments' | 'fds'> = { segments: [], fds: [] }): void {
    try {
      expect(MESSAGE_TYPES).toContain(decode({ payload, segments, fds }).message.type)
    } catch (error) {
      if (!(error instanceof TsunagiError)) throw error
      expect(error.code).toBe('ERR_TSUNAGI_MESSAGE')
    }
    expect(Object.keys(Object.prototype)).toEqual([])
  }

  test('give an error of ours or a message, never anything else', () => {
    const mutation = fc.tuple(fc.nat(), fc.nat({ max: 255 }), fc.constantFrom('set', 'cut', 'insert', 'remove'))
    fc.assert(
      fc.property(anyMessage, fc.array(mutation, { minLength: 1, maxLength: 4 }), (sent, mutations) => {
        let bytes = Buffer.from(encode(sent.message, sent.segments, sent.fds).payload)
        for (const [position, byte, how] of mutations) {
          const at = position % (bytes.length + 1)
          if (how === 'set' && at < bytes.length) bytes[at] = byte
          else if (how === 'cut') bytes = bytes.subarray(0, at)
          else if (how === 'insert') bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from([byte]), bytes.subarray(at)])
          else bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)])
        }
        attempt(bytes, sent)
      }),
      { numRuns: 5000 },
    )
  })

  test('may be anything at all', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => attempt(bytes)),
      { numRuns: 5000 },
    )
  })

  test('may hold a number that JSON cannot express where the type is due', () => attempt(packr.pack({ type: 2n ** 60n })))

  test('may follow a whole message without harm to the process', () => attempt(Buffer.concat([packr.pack({ type: 'go' }), packr.pack(1)])))
})

describe('decode', () => {
  test.for([
    [{ type: 'nonsense' }, 'its type is "nonsense"'],
    [{ type: 'toString' }, 'its type is "toString"'],
    [{}, 'its type is missing'],
    [[1], 'its type is missing'],
    [{ type: 'claim' }, 'claim.address'],
    [{ type: 'claim', address: 'a'.repeat(4097) }, 'claim.address'],
    [{ type: 'prepare', connections: 2 ** 22, bytes: 0 }, 'prepare.connections'],
    [{ type: 'prepare', connections: -1, bytes: 0 }, 'prepare.connections'],
    [{ type: 'prepare', connections: 1.5, bytes: 0 }, 'prepare.connections'],
    [{ type: 'ack', refused: [[1]] }, 'ack.refused'],
    [{ type: 'ack', refused: { 0: 1 } }, 'ack.refused'],
    [{ type: 'late', connection: 0, kind: 'shout' }, 'late.kind'],
    [{ type: 'fds', count: 2 }, 'fds.count is 2, 0 came'],
  ] as const)('refuses %j and names what is wrong', ([fields, what]) => {
    expect(() => decodeFields(fields)).toThrow(what)
  })

  test('refuses more addresses than its cap', () => {
    const ready = { type: 'ready', states: [], mode: 'auto' }
    expect(decodeFields({ ...ready, claimed: new Array(10_000).fill('') }).type).toBe('ready')
    expect(() => decodeFields({ ...ready, claimed: new Array(10_001).fill('') })).toThrow('ready.claimed')
  })

  test.for([
    [{ server: new Uint8Array(2) }, 'columns'],
    [{ flags: new Uint8Array(6) }, 'columns'],
    [{ verify: new Uint8Array(47) }, 'columns'],
    [{ unread: [[2, new Uint8Array(1)]] }, 'beyond its count'],
    [{ timeouts: [[2, 1, 1]] }, 'beyond its count'],
    [{ unsent: [[0, 1]] }, 'transfer.unsent'],
    [{ unsent: [[0, 'text']] }, 'transfer.unsent'],
  ] as const)('refuses a record of two connections with %j', ([flaw, what]) => {
    const record = {
      type: 'transfer',
      count: 2,
      base: 0,
      more: 0,
      servers: ['tcp4 127.0.0.1:1'],
      server: new Uint8Array(4),
      flags: new Uint8Array(4),
      verify: new Uint8Array(48),
      timeouts: [],
      highWaterMarks: [],
      unread: [],
      unsent: [],
      graph: new Uint8Array(),
      required: [],
    }
    const segments = [new Uint8Array(1)]
    expect(decodeFields(record, segments).type).toBe('transfer')
    expect(() => decodeFields({ ...record, ...flaw }, segments)).toThrow(what)
  })

  test('passes over fields and tuple elements that newer code has appended', () => {
    expect(decodeFields({ type: 'commit', since: 2 })).toMatchObject({ type: 'commit' })
    expect(decodeFields({ type: 'ack', refused: [[1, 'why', { more: true }]] })).toMatchObject({ refused: [[1, 'why', { more: true }]] })
  })
})
