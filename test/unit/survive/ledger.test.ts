import { closeSync } from 'node:fs'
import { describe, expect, it, onTestFinished } from 'vitest'
import { loadBinding } from '../../../src/native/binding.js'
import { VERIFY_COLUMN, VERIFY_COLUMNS } from '../../../src/native/native.js'
import { BOUNDARY, readWord, wordOf } from '../../../src/survive/boundary.js'
import { Ledger, NOTHING, ROW_BYTES, readLedger } from '../../../src/survive/ledger.js'
import { recordOf } from '../../../src/survive/record-of.js'
import { sort } from '../../../src/survive/sort.js'

describe('the ledger', () => {
  it('is read by the number of the connection, through the descriptor alone', () => {
    const ledger = newLedger()
    ledger.open(0, 71)
    ledger.write(0, { consumed: 2 ** 40, produced: 3 }, wordOf(BOUNDARY.raw, 8, 5))
    ledger.open(3, 72)
    expect([...readLedger(ledger.fd, ROW_BYTES)]).toEqual([
      [71, { consumed: 2 ** 40, produced: 3, what: wordOf(BOUNDARY.raw, 8, 5) }],
      [72, { consumed: 0, produced: 0, what: NOTHING }],
    ])
  })

  it('forgets who has gone, and says nothing of who is in the middle of something', () => {
    const ledger = newLedger()
    for (const place of [0, 1]) {
      ledger.open(place, 71 + place)
      ledger.write(place, { consumed: 1, produced: 1 }, wordOf(BOUNDARY.http, 0, 0))
    }
    ledger.clear(0)
    ledger.blot(1)
    expect([...readLedger(ledger.fd, ROW_BYTES)]).toEqual([[72, { consumed: 1, produced: 1, what: NOTHING }]])
  })

  it('is read where rows have become longer since', () => {
    const ledger = newLedger()
    ledger.open(0, 71)
    ledger.open(1, 72)
    ledger.open(2, 73)
    expect([...readLedger(ledger.fd, 2 * ROW_BYTES).keys()]).toEqual([71, 73])
    expect(readLedger(ledger.fd, ROW_BYTES - 8).size).toBe(0)
  })

  it('has what, flags and server in one number', () => {
    for (const parts of [
      { boundary: BOUNDARY.websocket, flags: 0, server: 0 },
      { boundary: BOUNDARY.raw, flags: 511, server: 9_999 },
    ])
      expect(readWord(wordOf(parts.boundary, parts.flags, parts.server))).toEqual(parts)
  })
})

describe('what is proven of a connection', () => {
  const row = (boundary: 1 | 2 | 3) => ({ consumed: 10, produced: 20, what: wordOf(boundary, 8, 1) })

  it.each([
    ['untouched since its boundary', row(BOUNDARY.raw), {}, 'whole'],
    ['whose client has ended meanwhile', row(BOUNDARY.http), { state: 8 }, 'whole'],
    ['that was read from', row(BOUNDARY.raw), { consumed: 11 }, 'reset'],
    ['that was written to', row(BOUNDARY.http), { produced: 21 }, 'reset'],
    ['that was held', { ...row(BOUNDARY.raw), what: NOTHING }, {}, 'reset'],
    ['that a later version knows', { ...row(BOUNDARY.raw), what: wordOf(7 as never, 0, 0) }, {}, 'reset'],
    ['a WebSocket', row(BOUNDARY.websocket), {}, 'going away'],
    ['a WebSocket in the middle of a message', row(BOUNDARY.websocket), { consumed: 11 }, 'going away'],
    ['a WebSocket that was written to', row(BOUNDARY.websocket), { produced: 21 }, 'reset'],
    ['that its application had ended', row(BOUNDARY.raw), { state: 4 }, 'gone'],
    ['that was reset', row(BOUNDARY.raw), { state: 7, consumed: 11 }, 'gone'],
    ['that nobody knows', undefined, {}, 'gone'],
  ] as const)('%s', (_name, known, seen, fate) => {
    const { whole, broken, gone } = sort([5], figuresOf(seen), new Map(known && [[77, known]]))
    expect([...whole.map(() => 'whole'), ...broken.map(({ how }) => how), ...gone.map(() => 'gone')]).toEqual([fate])
  })

  it('becomes the record that the dead process would have made', () => {
    const sorted = sort([5], figuresOf({}), new Map([[77, row(BOUNDARY.http)]]))
    const record = recordOf(sorted, ['one', 'two'])
    expect(record).toMatchObject({
      count: 1,
      servers: ['one', 'two'],
      protocols: [[0, 'http', { seasoned: true }]],
      required: [[0, 'http']],
    })
    expect(new Float64Array(record.verify.buffer)).toEqual(Float64Array.of(10, 20, 77))
    expect(new Uint16Array(record.server.buffer)).toEqual(Uint16Array.of(1))
    expect(new Uint16Array(record.flags.buffer)).toEqual(Uint16Array.of(8))
  })
})

function newLedger(): Ledger {
  const { native } = loadBinding()
  if (!native) throw new Error('the addon is missing')
  const ledger = new Ledger(native)
  onTestFinished(() => closeSync(ledger.fd))
  return ledger
}

function figuresOf({ state = 1, consumed = 10, produced = 20 }): Float64Array {
  const figures = new Float64Array(VERIFY_COLUMNS)
  figures[VERIFY_COLUMN.state] = state
  figures[VERIFY_COLUMN.consumed] = consumed
  figures[VERIFY_COLUMN.produced] = produced
  figures[VERIFY_COLUMN.identity] = 77
  return figures
}
